// One CancelRequest to a database: sent over the same transport as the sessions there, and waited
// for until the server closes, which it does when it has sent the signal.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "proxy/connector.hpp"

namespace banyan::proxy {

/// Lives on one event loop, until its answer.
class CancelCall : public std::enable_shared_from_this<CancelCall> {
   public:
    CancelCall(Context& context, EventLoop& loop, router::Side side);
    /// `done` is called once, from the loop, never from within start(): the server has closed,
    /// cannot be reached, or takes too long.
    void start(std::uint32_t process_id, std::uint32_t secret_key, std::function<void()> done);

   private:
    void wait();
    void on_readable();
    void end();

    std::shared_ptr<Connector> connector_;
    Channel channel_;
    Timer deadline_;
    std::function<void()> done_;
};

}  // namespace banyan::proxy
