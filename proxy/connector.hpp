// Opens one connection to a database: each address of its name in turn, then TLS if the
// configuration wants it.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "proxy/channel.hpp"
#include "proxy/context.hpp"
#include "proxy/event_loop.hpp"
#include "proxy/resolve.hpp"

namespace banyan::proxy {

/// Lives on one event loop, until its answer or cancel().
class Connector : public std::enable_shared_from_this<Connector> {
   public:
    /// Called once, from the loop, never from within start(). An Error says why no address of the
    /// database can be used.
    using Done = std::function<void(Result<Channel>)>;

    Connector(Context& context, EventLoop& loop, router::Side side);
    void start(Done done);
    /// Closes what is open; `done` is dropped.
    void cancel();

   private:
    void try_next();
    void ask_for_tls();
    void on_tls_answer();
    void shake_hands();
    void succeed();
    /// This address will not do: the next one, or the end.
    void failed(const std::string& why, const std::string& sqlstate = "08001");
    void on_connected();
    /// `then` keeps the connector alive, and is dropped by cancel().
    Reactor::Then guarded(void (Connector::*then)());

    Context& context_;
    EventLoop& loop_;
    const router::Side side_;
    const router::Endpoint& endpoint_;
    Channel channel_;
    std::vector<Resolver::Address> addresses_;
    std::size_t next_ = 0;
    Done done_;
};

}  // namespace banyan::proxy
