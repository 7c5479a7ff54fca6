// The walk's part of the operator's hooks ([hooks]).
#include <spdlog/spdlog.h>

#include "router/migration/walk.hpp"

namespace banyan::router {
namespace {

std::vector<std::pair<std::string, std::string>> environment(const char* hook,
                                                             const Transition& it) {
    return {{"BANYAN_HOOK", hook},
            {"BANYAN_TRANSITION", it.id()},
            {"BANYAN_FROM", std::string(to_string(it.from))},
            {"BANYAN_TO", std::string(to_string(it.to))},
            {"BANYAN_STATE", std::string(to_string(it.state))}};
}

std::string told(const HookResult& result) {
    return result.why + (result.output.empty() ? "" : ": " + result.output);
}

}  // namespace

// The gates have passed and nothing has been done: a refusal leaves no trace.
Walk::Outcome Walk::before_hook() {
    const auto hooks = core_.config.latest()->hooks;
    if (hooks.before_transition.empty()) {
        return std::nullopt;
    }
    const Transition it = active_.copy();
    active_.waiting_for("the hook before_transition");
    const auto result =
        run_hook(hooks.before_transition, boost::json::serialize(to_json(it)),
                 environment("before_transition", it), hooks.timeout,
                 [this] { return interrupted().has_value(); });
    if (Outcome stop = interrupted()) {
        return stop;
    }
    if (!result.good) {
        return Failure{TransitionState::rejected, "The hook before_transition refused: " + told(result)};
    }
    active_.log(Step::check_gates, "The hook before_transition agreed." +
                                       (result.output.empty() ? "" : " It said: " + result.output));
    return std::nullopt;
}

// By another thread: the way back must not wait for somebody's program.
void Walk::after_hook() {
    const auto hooks = core_.config.latest()->hooks;
    if (hooks.after_transition.empty()) {
        return;
    }
    const Transition it = active_.copy();
    core_.hooks.run({hooks.after_transition, boost::json::serialize(to_json(it)),
                     environment("after_transition", it), hooks.timeout,
                     [id = it.id()](const HookResult& result) {
                         if (!result.good) {
                             spdlog::warn("the hook after_transition of {} failed: {}", id,
                                          told(result));
                         }
                     }});
}

}  // namespace banyan::router
