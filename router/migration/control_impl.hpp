// Control's inside: the parts, and what several of its source files need.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "router/migration/active.hpp"
#include "router/migration/control.hpp"
#include "router/migration/core.hpp"
#include "router/migration/doctor.hpp"
#include "router/migration/facts.hpp"
#include "router/migration/gate_watch.hpp"
#include "router/migration/lineage_watch.hpp"
#include "router/migration/probe.hpp"
#include "router/migration/verifier.hpp"
#include "router/migration/workers.hpp"
#include "router/shadow/recheck.hpp"
#include "router/shadow/rerun.hpp"

namespace banyan::router {

class Control::Impl {
   public:
    Impl(const Config& config, StateDb& db, Ledger& ledger, Breaker& breaker, Lease* lease);
    ~Impl();

    void stop();
    void start_lease();
    /// Measures what the gates of this step need.
    Facts measure(Phase from, Phase to);
    /// The same with the databases' answers up to a second old, for pages that poll.
    Facts measure_cached(Phase from, Phase to);
    /// The gates of the next step forward, but for what reads whole tables; nullopt while nothing is
    /// mirrored, there is no such step, or a transition looks at them itself.
    std::optional<GateWatch::View> look_at_gates();
    Answer<boost::json::object> create_transition(const TransitionRequest& request,
                                                  const Actor& actor);
    void audit(const Actor& actor, std::string action, std::string subject, std::string reason,
               boost::json::value before, boost::json::value after, std::string result);
    Refusal refuse(int status, std::string type, std::string title) const;
    /// The transition being walked, or null.
    std::shared_ptr<ActiveTransition> active() const;
    std::uint64_t counter(Counter counter) const;

    Core core;
    Workers workers;
    Verifier verifier;
    LineageWatch lineage;
    Doctor doctor;
    GateWatch gate_watch;
    Probe probe;
    DiscrepancyStore discrepancies;
    Recheck recheck;
    Rerun rerun;
    std::atomic<bool> draining{false};
    Control::Reloader reloader;
    /// Recheck counts since start; the gates count stored ones.

   private:
    std::pair<SideFacts, SideFacts> measure_sides();
    /// `scan`: reads whole tables, too, where a gate asks for it.
    Facts measure_rest(Phase from, Phase to, std::pair<SideFacts, SideFacts> sides,
                       bool scan = true);
    std::optional<Refusal> check(const TransitionRequest& request) const;
    std::shared_ptr<ActiveTransition> begin(const TransitionRequest& request, const Actor& actor);

    mutable std::mutex mutex_;
    std::shared_ptr<ActiveTransition> active_;
    bool busy_ = false;  ///< a transition is being created or walked
    bool stopped_ = false;
    std::thread walk_;
    std::mutex cache_mutex_;
    std::chrono::steady_clock::time_point cached_at_{};
    std::optional<std::pair<SideFacts, SideFacts>> cached_sides_;
};

/// A key's bytes as the API shows them.
std::string hexadecimal(std::string_view bytes);

}  // namespace banyan::router
