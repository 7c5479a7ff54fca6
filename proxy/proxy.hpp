// The data plane: the client listener, the event loops and their sessions; the control plane sees
// it as a Fleet.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "proxy/context.hpp"
#include "proxy/event_loop.hpp"
#include "proxy/listener.hpp"
#include "router/metrics/counter_source.hpp"
#include "router/migration/fleet.hpp"
#include "router/model/result.hpp"

namespace banyan::proxy {

class Proxy : public router::Fleet, public router::CounterSource {
   public:
    /// `context` outlives the proxy. Sessions start out with `directive`.
    Proxy(Context& context, const router::Directive& directive);
    ~Proxy() override;

    /// Starts the event loops.
    void start();
    /// Binds the listener and lets clients in.
    Result<void> listen();
    std::uint16_t port() const { return listener_->port(); }
    /// Stops accepting and ends the sessions: idle ones at once, the others when their transaction
    /// is over or `grace` has passed.
    void stop(std::chrono::milliseconds grace);

    // Fleet
    void publish(const router::Directive& directive) override;
    router::Adoption adoption() override;
    std::vector<router::SessionInfo> sessions() override;
    void wake() override;
    void set_catalog(std::shared_ptr<const router::Catalog> catalog) override;
    std::chrono::microseconds longest_hold() override;
    void reset_longest_hold() override;
    std::vector<std::int32_t> backends(router::Side side) override;
    std::uint64_t counter_total(router::Counter counter) override;

    // CounterSource
    std::vector<const router::Counters*> counters() override;

   private:
    void on_client(Accepted accepted);
    std::vector<std::shared_ptr<Session>> live_sessions();

    Context& context_;
    std::vector<std::unique_ptr<EventLoop>> loops_;
    std::unique_ptr<Listener> listener_;
    std::size_t next_loop_ = 0;
    std::uint64_t next_id_ = 0;

    std::mutex mutex_;  ///< guards what follows
    router::Directive directive_;
    std::vector<std::weak_ptr<Session>> registry_;
};

}  // namespace banyan::proxy
