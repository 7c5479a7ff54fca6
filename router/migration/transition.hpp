// One transition as a value: what was asked, how far it has come, its log. Its walk changes it;
// everybody else reads copies.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "router/migration/blocking.hpp"
#include "router/migration/gates.hpp"
#include "router/migration/plan.hpp"
#include "router/model/types.hpp"

namespace banyan::router {

enum class TransitionState : std::uint8_t {
    checking,
    draining,
    switching,
    done,
    rejected,
    aborted,
    timed_out,
    failed
};
std::string_view to_string(TransitionState state);
constexpr bool finished(TransitionState state) {
    return state >= TransitionState::done;
}
/// The state a transition shows while it performs this step.
TransitionState state_during(Step step);

struct StepProgress {
    Step step = Step::check_gates;
    std::string state = "pending";  ///< "pending", "running", "done", "failed", "skipped"
};

struct LogLine {
    std::int64_t at_unix_ms = 0;
    std::string step;
    std::string message;
};

struct Transition {
    std::int64_t number = 0;  ///< id() shows it
    Phase from = Phase::initial;
    Phase to = Phase::initial;
    TransitionState state = TransitionState::checking;
    std::string reason;
    std::string actor;
    std::string address;
    bool override_gates = false;
    OnBlocked on_blocked = OnBlocked::abort;
    std::vector<BlockedSession> blocked;  ///< at the last look, and those that were ended
    std::int64_t created_unix_ms = 0;
    std::int64_t deadline_unix_ms = 0;
    std::int64_t finished_unix_ms = 0;  ///< 0: not yet
    std::optional<std::int64_t> pause_microseconds;
    std::string error;
    bool cancellable = true;
    std::string waiting_for;
    std::vector<Gate> gates;
    std::vector<StepProgress> steps;
    std::vector<LogLine> log;

    std::string id() const;
};

boost::json::object to_json(const Transition& transition);
boost::json::array plan_json(const std::vector<Step>& plan);
/// A stored transition that no process is walking any more: its JSON as "failed", "interrupted".
boost::json::object interrupted(boost::json::object stored, std::int64_t now_unix_ms, Phase phase);

}  // namespace banyan::router
