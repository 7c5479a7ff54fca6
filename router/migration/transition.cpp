#include "router/migration/transition.hpp"

namespace banyan::router {

std::string_view to_string(TransitionState state) {
    switch (state) {
        case TransitionState::checking:
            return "checking";
        case TransitionState::draining:
            return "draining";
        case TransitionState::switching:
            return "switching";
        case TransitionState::done:
            return "done";
        case TransitionState::rejected:
            return "rejected";
        case TransitionState::aborted:
            return "aborted";
        case TransitionState::timed_out:
            return "timed_out";
        case TransitionState::failed:
            return "failed";
    }
    return "?";
}

TransitionState state_during(Step step) {
    switch (step) {
        case Step::check_gates:
        case Step::load_catalog:
        case Step::prepare_flip:
        case Step::ask_sessions:
        case Step::settle:
            return TransitionState::checking;
        case Step::hold:
        case Step::drain:
        case Step::check_writers:
        case Step::advance_sequences:
        case Step::prove_reverse:
            return TransitionState::draining;
        case Step::persist:
        case Step::publish:
        case Step::adopt:
        case Step::start_workers:
        case Step::stop_workers:
            return TransitionState::switching;
    }
    return TransitionState::checking;
}

std::string Transition::id() const {
    const std::string digits = std::to_string(number);
    return "t-" + std::string(digits.size() < 6 ? 6 - digits.size() : 0, '0') + digits;
}

boost::json::object to_json(const Transition& transition) {
    boost::json::array steps;
    for (const StepProgress& it : transition.steps) {
        steps.push_back(
            {{"name", to_string(it.step)}, {"what", describe(it.step)}, {"state", it.state}});
    }
    boost::json::array log;
    for (const LogLine& line : transition.log) {
        log.push_back(
            {{"at_unix_ms", line.at_unix_ms}, {"step", line.step}, {"message", line.message}});
    }
    const auto or_null = [](bool known, std::int64_t value) {
        return known ? boost::json::value(value) : boost::json::value(nullptr);
    };
    return {{"id", transition.id()},
            {"from", to_string(transition.from)},
            {"to", to_string(transition.to)},
            {"state", to_string(transition.state)},
            {"reason", transition.reason},
            {"actor", transition.actor},
            {"address", transition.address},
            {"override_gates", transition.override_gates},
            {"on_blocked_sessions", to_string(transition.on_blocked)},
            {"blocked_sessions", to_json(transition.blocked)},
            {"created_unix_ms", transition.created_unix_ms},
            {"deadline_unix_ms", transition.deadline_unix_ms},
            {"finished_unix_ms",
             or_null(transition.finished_unix_ms != 0, transition.finished_unix_ms)},
            {"pause_microseconds", or_null(transition.pause_microseconds.has_value(),
                                           transition.pause_microseconds.value_or(0))},
            {"error", transition.error},
            {"cancellable", transition.cancellable && !finished(transition.state)},
            {"waiting_for", transition.waiting_for},
            {"gates", to_json(transition.gates)},
            {"steps", std::move(steps)},
            {"log", std::move(log)}};
}

boost::json::array plan_json(const std::vector<Step>& plan) {
    boost::json::array steps;
    for (const Step step : plan) {
        steps.push_back({{"name", to_string(step)}, {"what", describe(step)}});
    }
    return steps;
}

boost::json::object interrupted(boost::json::object stored, std::int64_t now_unix_ms, Phase phase) {
    stored["state"] = to_string(TransitionState::failed);
    stored["error"] = "interrupted";
    stored["finished_unix_ms"] = now_unix_ms;
    stored["cancellable"] = false;
    stored["waiting_for"] = "";
    if (auto* log = stored["log"].if_array()) {
        log->push_back({{"at_unix_ms", now_unix_ms},
                        {"step", ""},
                        {"message", "Banyan ended during this transition; the phase is " +
                                        std::string(to_string(phase)) + "."}});
    }
    return stored;
}

}  // namespace banyan::router
