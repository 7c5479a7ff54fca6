// The transition being walked, shared between its walk and whoever looks at it or cancels it.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>

#include "router/migration/clock.hpp"
#include "router/migration/store.hpp"
#include "router/migration/transition.hpp"

namespace banyan::router {

class ActiveTransition {
   public:
    using Clock = std::chrono::steady_clock;

    ActiveTransition(MigrationStore& store, Transition transition, Clock::time_point deadline_at)
        : deadline(deadline_at), store_(store), transition_(std::move(transition)) {}

    const Clock::time_point deadline;
    std::atomic<bool> cancelled{false};
    std::atomic<bool> stopping{false};  ///< the process ends

    Transition copy() const {
        const std::lock_guard lock(mutex_);
        return transition_;
    }
    /// Changes it and stores it; `wait` for the final word only, for held clients must not wait on
    /// a disk.
    bool update(const std::function<void(Transition&)>& change, bool wait = false) {
        const std::lock_guard lock(mutex_);
        change(transition_);
        return store_.save_transition(transition_.number, to_json(transition_), wait);
    }
    void log(Step step, const std::string& message) {
        update([&](Transition& it) {
            it.log.push_back({unix_ms(), std::string(to_string(step)), message});
        });
    }
    /// Shown, not stored.
    void waiting_for(const std::string& what) {
        const std::lock_guard lock(mutex_);
        transition_.waiting_for = what;
    }
    /// Shown; stored with the next update().
    void blocked(std::vector<BlockedSession> now, const std::vector<BlockedSession>& ended) {
        now.insert(now.end(), ended.begin(), ended.end());
        const std::lock_guard lock(mutex_);
        transition_.blocked = std::move(now);
    }

   private:
    MigrationStore& store_;
    mutable std::mutex mutex_;
    Transition transition_;
};

}  // namespace banyan::router
