// What the admin API asks of the control plane, as an interface, so that routes and banyanctl can
// be tested without one. The members mirror router::Control's, which documents them; the shapes of
// the JSON are in router/migration/README.md. Thread-safe; calls may block.
#pragma once

#include <boost/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "router/migration/control.hpp"

namespace banyan::admin {

class ControlApi {
   public:
    using Object = boost::json::object;
    using Array = boost::json::array;
    using Actor = router::Actor;
    template <class T>
    using Answer = router::Answer<T>;

    virtual ~ControlApi() = default;

    virtual router::Phase phase() = 0;
    virtual Object status() = 0;
    virtual Array gates(router::Phase to) = 0;
    virtual Answer<Object> create_transition(const router::TransitionRequest& request,
                                             const Actor& actor) = 0;
    virtual Array transitions() = 0;
    virtual std::optional<Object> transition(const std::string& id) = 0;
    virtual Answer<Object> cancel_transition(const std::string& id, const Actor& actor) = 0;

    virtual Array tables() = 0;
    virtual std::optional<Object> table(const std::string& name) = 0;

    virtual Object capture() = 0;
    virtual Answer<Object> install_capture(const Actor& actor) = 0;
    virtual Answer<Object> remove_capture(const Actor& actor) = 0;
    virtual Object backfill() = 0;
    virtual Answer<Object> backfill_action(const std::string& action, const Actor& actor) = 0;

    virtual Array verifications() = 0;
    virtual std::optional<Object> verification(const std::string& id) = 0;
    virtual Answer<Object> create_verification(const std::vector<std::string>& tables, bool repair,
                                               const Actor& actor) = 0;
    virtual Answer<Object> stop_verification(const std::string& id, const Actor& actor) = 0;

    virtual Object discrepancies() = 0;
    virtual std::optional<Object> discrepancy(const std::string& fingerprint) = 0;
    virtual Answer<Object> acknowledge_discrepancy(const std::string& fingerprint, const std::string& note,
                                                   std::optional<std::int64_t> until_unix_ms,
                                                   const Actor& actor) = 0;

    virtual Object shadow() = 0;
    virtual Object shadow_times() = 0;
    virtual Answer<Object> set_shadow(std::optional<double> share, const Actor& actor) = 0;

    virtual Object journal() = 0;
    virtual Array sessions() = 0;
    virtual Array audit(std::size_t limit, std::optional<std::int64_t> before) = 0;

    virtual Answer<Object> reload(const Actor& actor) = 0;

    virtual Object preflight() = 0;
    virtual Object configuration() = 0;
    virtual Object check_audit() = 0;

    virtual std::vector<router::Control::Sample> samples() = 0;
    virtual bool primary_ready(std::string& why) = 0;
};

}  // namespace banyan::admin
