// The data plane: the client listener, the event loops and their sessions; the control plane sees
// it as a Fleet.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "proxy/context.hpp"
#include "proxy/drain.hpp"
#include "proxy/event_loop.hpp"
#include "proxy/listener.hpp"
#include "proxy/resolve.hpp"
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
    /// Lets clients in.
    void listen(ListenSockets sockets);
    std::uint16_t port() const { return listener_->port(); }

    /// Nobody is let in any more: refused by the system, or (`handover`) waiting in the backlog.
    void stop_listening(bool handover);
    /// A handover was called off.
    void resume_listening();
    /// Descriptors of the listening sockets, and word that another process has them now.
    std::vector<int> listening_sockets() { return listener_->handles(); }
    void sockets_given_away();
    /// Ends the sessions that `drain` says; returns how many are left. Again and again, after
    /// stop_listening(), until that is none.
    std::size_t drain(const Drain& drain);
    /// Ends the event loops, and what sessions are left with them.
    void stop();
    /// Takes over the live keys of a configuration, for sessions that are there and to come.
    void reconfigure(const router::Config& config);

    // Fleet
    void publish(const router::Directive& directive) override;
    router::Adoption adoption() override;
    std::vector<router::SessionInfo> sessions() override;
    void wake() override;
    void set_catalog(std::shared_ptr<const router::Catalog> catalog) override;
    std::chrono::microseconds longest_hold() override;
    void reset_longest_hold() override;
    std::vector<std::int32_t> backends(router::Side side) override;
    void server_replaced(router::Side side) override;
    std::vector<router::TableId> written_since(
        std::chrono::steady_clock::time_point since) override;
    std::uint64_t counter_total(router::Counter counter) override;
    std::chrono::microseconds loop_lag() override;

    // CounterSource
    std::vector<const router::Counters*> counters() override;
    std::vector<const router::Timings*> timings() override;
    std::vector<router::Sample> samples() override;

   private:
    void on_client(Accepted accepted);
    EventLoop& emptiest_loop();
    std::vector<std::shared_ptr<Session>> live_sessions();

    Context& context_;
    Resolver resolver_;
    std::vector<std::unique_ptr<EventLoop>> loops_;
    std::unique_ptr<Listener> listener_;
    std::uint64_t next_id_ = 0;

    std::mutex mutex_;  ///< guards what follows
    router::Directive directive_;
    std::vector<std::weak_ptr<Session>> registry_;
};

}  // namespace banyan::proxy
