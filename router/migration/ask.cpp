// The part of Walk that deals with what sessions own: before the hold, so that a session which
// blocks keeps nobody waiting, and once more under it. Also the hold itself, which is given up and
// taken again if something turns up that cannot be brought along.
#include <algorithm>
#include <thread>

#include "router/migration/facts.hpp"
#include "router/migration/walk.hpp"

namespace banyan::router {
namespace {

using namespace std::chrono_literals;

constexpr auto ask_again = 200ms;
/// For sessions in a transaction, which have not answered: they are asked under the hold.
constexpr auto answer_limit = 2s;
/// Between two holds that met something: clients must get on with their work.
constexpr auto hold_again = 100ms;

}  // namespace

// Who blocks now. Locks on the mirror are looked for only if a session has any to bring there.
Walk::Outcome Walk::look_at_sessions(bool all_answered) {
    if (all_answered || !somebody_waits()) {
        waits_.clear();
    }
    const auto sessions = core_.fleet()->sessions();
    std::vector<ForeignLock> foreign;
    const bool locks = std::any_of(sessions.begin(), sessions.end(),
                                   [](const SessionInfo& it) { return !it.locks.empty(); });
    if (locks) {
        auto found = foreign_locks(*mirror_, core_.fleet()->backends(mirror_of(from_)));
        if (!found && watchdog_->expired()) {
            return std::nullopt;  // it closed the connection; who blocked is known from before
        }
        if (!found) {
            return Failure{TransitionState::failed,
                           "Advisory locks could not be looked for: " + found.error().message};
        }
        foreign = std::move(*found);
    }
    blocked_ = blocked_sessions(sessions, foreign, waits_, primary_of(from_));
    active_.blocked(blocked_, ended_);
    return std::nullopt;
}

// A session that waits for a lock of one that is held never reaches a boundary.
bool Walk::somebody_waits() {
    auto found = lock_waits(*primary_);
    waits_ = found ? std::move(*found) : std::vector<LockWait>();
    return !waits_.empty();
}

bool Walk::patient() const {
    return ActiveTransition::Clock::now() < patience_end_;
}

void Walk::note_ended() {
    for (auto& session : blocked_) {
        session.ended = true;
        ended_.push_back(session);
    }
    if (!blocked_.empty()) {
        active_.log(Step::ask_sessions, "Ended with 57P01: " + describe(blocked_));
    }
    blocked_.clear();
    active_.blocked(blocked_, ended_);
}

Walk::Outcome Walk::blocked_failure() const {
    return Failure{TransitionState::aborted,
                   "Sessions own what cannot be brought along: " + describe(blocked_)};
}

// Every session is asked at its next transaction boundary, without a hold. While one blocks, all
// are asked again: those in which nothing ran since have nothing to do.
Walk::Outcome Walk::ask_sessions() {
    const auto begun = ActiveTransition::Clock::now();
    bool told = false;
    while (true) {
        core_.ask_sessions();
        const auto again = ActiveTransition::Clock::now() + ask_again;
        bool asked = false;
        do {
            const Adoption it = core_.fleet()->adoption();
            asked = it.adopted >= it.sessions;
            active_.waiting_for(std::to_string(it.sessions - std::min(it.adopted, it.sessions)) +
                                " of " + std::to_string(it.sessions) +
                                " sessions to say what they own");
            if (!asked) {
                std::this_thread::sleep_for(2ms);
            }
        } while (!asked && ActiveTransition::Clock::now() < again);
        if (Outcome failure = look_at_sessions(asked)) {
            return failure;
        }
        asked = asked || ActiveTransition::Clock::now() >= begun + answer_limit;
        if (!blocked_.empty()) {
            active_.waiting_for("what cannot be brought along: " + describe(blocked_));
            if (!told) {
                active_.log(Step::ask_sessions,
                            "Waiting for sessions that own what cannot be "
                            "brought along: " +
                                describe(blocked_));
                told = true;
            }
        }
        switch (judge_blocked(!blocked_.empty(), asked, patient(), on_blocked_)) {
            case BlockedVerdict::go_on:
                return std::nullopt;
            case BlockedVerdict::end:
                if (std::any_of(blocked_.begin(), blocked_.end(),
                                [](const BlockedSession& it) { return it.waits; })) {
                    return blocked_failure();
                }
                return std::nullopt;  // under the hold, where it is known for sure
            case BlockedVerdict::abort:
                return blocked_failure();
            case BlockedVerdict::wait:
                break;
        }
        if (Outcome stop = interrupted()) {
            if (stop->state == TransitionState::timed_out && !blocked_.empty()) {
                return blocked_failure();
            }
            return stop;
        }
        std::this_thread::sleep_until(std::min(again, active_.deadline));
    }
}

Walk::Outcome Walk::hold() {
    while (true) {
        if (Outcome failure = take_hold()) {
            return failure;
        }
        if (waits_.empty() && core_.fleet()->adoption().blocked == 0) {
            return std::nullopt;
        }
        // Made, or taken by somebody else on the mirror, since the sessions were asked.
        if (Outcome failure = look_at_sessions(waits_.empty())) {
            return failure;
        }
        if (waits_.empty() && !patient() && on_blocked_ == OnBlocked::end) {
            const Outcome failure = publish_hold(true);
            if (!failure) {
                note_ended();
            }
            return failure;
        }
        const std::string who = describe(blocked_);
        core_.publish(from_, false);
        end_hold();
        active_.log(Step::hold, "Released again, for " + who);
        std::this_thread::sleep_for(hold_again);
        if (Outcome failure = ask_sessions()) {
            return failure;
        }
        if (Outcome failure = settle()) {
            return failure;
        }
    }
}

}  // namespace banyan::router
