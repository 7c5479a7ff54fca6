#include "admin/control_adapter.hpp"

namespace banyan::admin {
namespace {

class Adapter final : public ControlApi {
   public:
    explicit Adapter(router::Control& control) : control_(control) {}

    router::Phase phase() override { return control_.directive().phase; }
    Object status() override { return control_.status(); }
    Array gates(router::Phase to) override { return control_.gates(to); }
    Answer<Object> create_transition(const router::TransitionRequest& request,
                                     const Actor& actor) override {
        return control_.create_transition(request, actor);
    }
    Array transitions() override { return control_.transitions(); }
    std::optional<Object> transition(const std::string& id) override {
        return control_.transition(id);
    }
    Answer<Object> cancel_transition(const std::string& id, const Actor& actor) override {
        return control_.cancel_transition(id, actor);
    }
    Array tables() override { return control_.tables(); }
    std::optional<Object> table(const std::string& name) override { return control_.table(name); }
    Object capture() override { return control_.capture(); }
    Answer<Object> install_capture(const Actor& actor) override {
        return control_.install_capture(actor);
    }
    Answer<Object> remove_capture(const Actor& actor) override {
        return control_.remove_capture(actor);
    }
    Object backfill() override { return control_.backfill(); }
    Answer<Object> backfill_action(const std::string& action, const Actor& actor) override {
        return control_.backfill_action(action, actor);
    }
    Array verifications() override { return control_.verifications(); }
    std::optional<Object> verification(const std::string& id) override {
        return control_.verification(id);
    }
    Answer<Object> create_verification(const std::vector<std::string>& tables, bool repair,
                                       const Actor& actor) override {
        return control_.create_verification(tables, repair, actor);
    }
    Answer<Object> stop_verification(const std::string& id, const Actor& actor) override {
        return control_.stop_verification(id, actor);
    }
    Object discrepancies() override { return control_.discrepancies(); }
    std::optional<Object> discrepancy(const std::string& fingerprint) override {
        return control_.discrepancy(fingerprint);
    }
    Answer<Object> acknowledge_discrepancy(const std::string& fingerprint, const std::string& note,
                                           std::optional<std::int64_t> until_unix_ms,
                                           const Actor& actor) override {
        return control_.acknowledge_discrepancy(fingerprint, note, until_unix_ms, actor);
    }
    Object shadow() override { return control_.shadow(); }
    Object shadow_times() override { return control_.shadow_times(500); }
    Answer<Object> set_shadow(std::optional<double> share, const Actor& actor) override {
        return control_.set_shadow(share, actor);
    }
    Object journal() override { return control_.journal(); }
    Array sessions() override { return control_.sessions(); }
    Array audit(std::size_t limit, std::optional<std::int64_t> before) override {
        return control_.audit(limit, before);
    }
    Answer<Object> reload(const Actor& actor) override { return control_.reload(actor); }
    Object preflight() override { return control_.preflight(); }
    Object configuration() override { return control_.configuration(); }
    Object check_audit() override { return control_.check_audit(); }
    std::vector<router::Control::Sample> samples() override { return control_.samples(); }
    bool primary_ready(std::string& why) override { return control_.primary_ready(why); }

   private:
    router::Control& control_;
};

}  // namespace

std::unique_ptr<ControlApi> adapt(router::Control& control) {
    return std::make_unique<Adapter>(control);
}

}  // namespace banyan::admin
