// Walks one transition: performs its plan step by step and undoes it where that is still possible.
// One object per transition, on one thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "router/migration/active.hpp"
#include "router/migration/core.hpp"
#include "router/migration/lineage_watch.hpp"
#include "router/migration/verifier.hpp"
#include "router/migration/watchdog.hpp"
#include "router/migration/workers.hpp"

namespace banyan::router {

class Walk {
   public:
    Walk(Core& core, Workers& workers, Verifier& verifier, LineageWatch& lineage,
         ActiveTransition& active);
    /// The gates have been passed already. Returns when the transition has its final state, or the
    /// process ends.
    void run();

   private:
    struct Failure {
        TransitionState state = TransitionState::failed;
        std::string why;
    };
    using Outcome = std::optional<Failure>;  ///< nullopt: well

    Outcome perform(Step step);
    Outcome before_hook();
    void after_hook();
    Outcome load_catalog();
    Outcome prepare_flip();
    Outcome same_servers();
    Outcome read_new_catalog();
    Outcome settle();
    Outcome ask_sessions();
    Outcome look_at_sessions(bool all_answered);
    bool somebody_waits();
    bool patient() const;
    void note_ended();
    Outcome blocked_failure() const;
    Outcome hold();
    Outcome take_hold();
    Outcome publish_hold(bool end_blocked);
    Outcome drain();
    Outcome check_writers();
    Outcome advance();
    Outcome prove_reverse();
    Outcome persist();
    Outcome acquire_lease();
    Outcome record_flip();
    bool take_back(const std::string& why);
    void mark_mapped_tables();
    Outcome publish();
    Outcome adopt();
    Outcome start_workers();
    Outcome stop_workers();

    /// Polls until `ready` says so; it also says what it waits for.
    Outcome wait_until(const std::function<bool(std::string& what)>& ready,
                       std::chrono::milliseconds interval);
    Outcome interrupted() const;
    bool only_forward() const { return persisted_ && forward_only_once_persisted(from_, to_); }
    bool drained(std::string& what) const;
    void undo(const Failure& failure);
    void end_hold();
    void finish(TransitionState state, const std::string& error);

    Core& core_;
    Workers& workers_;
    Verifier& verifier_;
    LineageWatch& lineage_;
    ActiveTransition& active_;
    const Phase from_;
    const Phase to_;
    const std::string id_;
    const bool override_;
    const OnBlocked on_blocked_;
    const ActiveTransition::Clock::time_point patience_end_;
    std::vector<BlockedSession> blocked_;  ///< at the last look
    std::vector<BlockedSession> ended_;
    std::vector<LockWait> waits_;  ///< at the last look
    std::chrono::steady_clock::time_point next_look_;
    bool persisted_ = false;
    bool holding_ = false;
    bool published_ = false;
    std::shared_ptr<const Catalog> catalog_;          ///< of the new primary
    std::shared_ptr<const Catalog> present_catalog_;  ///< in use when the new one was read
    std::optional<Connection> primary_;               ///< the present one
    std::optional<Connection> mirror_;
    std::unique_ptr<Watchdog> watchdog_;  ///< after the connections: it dies before them
};

}  // namespace banyan::router
