// The control plane while Banyan is ending, and its way to a new configuration.
#include "router/config/reload.hpp"
#include "router/migration/control_impl.hpp"

namespace banyan::router {

bool Control::transition_running() const {
    return impl_->active() != nullptr;
}

// Whoever creates a transition looks at `draining` once more under the lock that active() takes.
bool Control::begin_draining(OnTransition on_transition) {
    impl_->draining = true;
    const auto active = impl_->active();
    if (active == nullptr) {
        return true;
    }
    if (on_transition == OnTransition::refuse) {
        impl_->draining = false;
        return false;
    }
    (void)cancel_transition(active->copy().id(), {"banyan", ""});
    return true;
}

void Control::end_draining() {
    impl_->draining = false;
}

void Control::on_reload(Reloader reloader) {
    impl_->reloader = std::move(reloader);
}

Answer<boost::json::object> Control::reload(const Actor& actor) {
    auto report = impl_->reloader ? impl_->reloader()
                                  : Answer<boost::json::object>(impl_->refuse(
                                        503, "not-started", "Banyan is still starting."));
    impl_->audit(actor, "config.reload", "", "", nullptr,
                 report ? boost::json::value(*report) : boost::json::value(nullptr),
                 report ? "ok" : "refused: " + report.error().title);
    return report;
}

boost::json::object Control::configuration() {
    const auto config = impl_->core.config.latest();
    boost::json::object keys;
    for (const auto& [key, value] : config->values) {
        keys[key] = shown_value(*config, key);
    }
    return {{"file", impl_->core.config.file.string()}, {"keys", std::move(keys)}};
}

boost::json::object Control::check_audit() {
    const auto broken = impl_->core.audit.first_broken();
    return {{"entries", impl_->core.audit.entries()},
            {"intact", !broken},
            {"first_broken", broken ? boost::json::value(*broken) : boost::json::value(nullptr)}};
}

boost::json::object Control::preflight() {
    return impl_->doctor.preflight();
}

}  // namespace banyan::router
