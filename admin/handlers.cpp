#include "admin/handlers.hpp"

#include <charconv>

#include "admin/body.hpp"
#include "admin/static_files.hpp"
#include "admin/metrics.hpp"

namespace banyan::admin::handlers {
namespace {

using boost::json::array;
using boost::json::object;
using router::Phase;

constexpr std::int64_t max_audit_entries = 1000;
constexpr std::int64_t max_deadline_ms = 86'400'000;
constexpr std::size_t max_named_tables = 10'000;

Response refusal(const router::Refusal& refused) {
    return problem(refused.status, refused.type, refused.title, refused.extra);
}

/// 200 with the object, or the refusal.
Response answer(router::Answer<object> result, int status = 200) {
    return result ? json_response(std::move(*result), status) : refusal(result.error());
}

Response found(std::optional<object> result, std::string_view what, const std::string& name) {
    if (result) {
        return json_response(std::move(*result));
    }
    return problem(404, "not-found", "There is no " + std::string(what) + " \"" + name + "\".",
                   {{"name", name}});
}

Response list(std::string_view name, array items) {
    object body;
    body.emplace(name, std::move(items));
    return json_response(std::move(body));
}

Response bad_phase(std::string_view where, const std::string& given) {
    array known;
    for (const Phase phase : {Phase::initial, Phase::dual_write, Phase::dual_read,
                              Phase::switchover, Phase::complete}) {
        known.emplace_back(router::to_string(phase));
    }
    return problem(400, "bad-request",
                   "\"" + given + "\" is not a phase; \"" + std::string(where) + "\" needs one.",
                   {{"member", where}, {"known", std::move(known)}});
}

std::optional<Phase> next_of(Phase phase) {
    return phase == Phase::complete
               ? std::nullopt
               : std::optional(static_cast<Phase>(static_cast<int>(phase) + 1));
}

std::optional<Phase> previous_of(Phase phase) {
    return phase == Phase::complete || phase == Phase::initial
               ? std::nullopt
               : std::optional(static_cast<Phase>(static_cast<int>(phase) - 1));
}

boost::json::value name_or_null(std::optional<Phase> phase) {
    return phase ? boost::json::value(router::to_string(*phase)) : boost::json::value(nullptr);
}

/// Nothing, or the number; `good` turns false if it is none in the range.
std::optional<std::int64_t> query_number(const Context& context, const char* name, std::int64_t low,
                                         std::int64_t high, bool& good) {
    const auto it = context.query.find(name);
    if (it == context.query.end()) {
        return std::nullopt;
    }
    const std::string& text = it->second;
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < low || value > high) {
        good = false;
        return std::nullopt;
    }
    return value;
}

/// 202 with Location: the resource that was created under `collection`.
Response created(object body, const std::string& collection) {
    std::string location;
    if (const auto* id = body.if_contains("id")) {
        location = collection + "/" +
                   (id->is_string() ? std::string(id->get_string()) : boost::json::serialize(*id));
    }
    Response response = json_response(std::move(body), 202);
    if (!location.empty()) {
        response.headers.emplace_back("Location", std::move(location));
    }
    return response;
}

}  // namespace

Response livez(Context&) {
    return json_response({{"alive", true}});
}

Response readyz(Context& context) {
    std::string why;
    if (context.control.primary_ready(why)) {
        return json_response({{"ready", true}});
    }
    return problem(503, "not-ready", "Clients cannot be served now.", {{"detail", why}});
}

Response metrics(Context& context) {
    Response response;
    response.content_type = metrics_content_type;
    response.body = render_metrics(context.counters, context.control.samples());
    return response;
}

Response status(Context& context) {
    return json_response(context.control.status());
}

Response phase(Context& context) {
    const Phase phase = context.control.phase();
    object body = {{"phase", router::to_string(phase)},
                   {"next", name_or_null(next_of(phase))},
                   {"previous", name_or_null(previous_of(phase))},
                   {"primary", router::to_string(router::primary_of(phase))},
                   {"mirroring", router::mirrors(phase)},
                   {"shadowing", router::shadows(phase)}};
    body["mirror"] = router::mirrors(phase)
                         ? boost::json::value(router::to_string(router::mirror_of(phase)))
                         : boost::json::value(nullptr);
    return json_response(std::move(body));
}

Response gates(Context& context) {
    const Phase from = context.control.phase();
    std::optional<Phase> to = next_of(from);
    if (const auto it = context.query.find("to"); it != context.query.end()) {
        to = router::phase_from_string(it->second);
        if (!to) {
            return bad_phase("to", it->second);
        }
    }
    if (!to) {
        return problem(409, "illegal-step", "COMPLETE is the last phase; there is no next one.",
                       {{"current_phase", router::to_string(from)}});
    }
    return json_response({{"from", router::to_string(from)},
                          {"to", router::to_string(*to)},
                          {"gates", context.control.gates(*to)}});
}

Response transitions(Context& context) {
    return list("transitions", context.control.transitions());
}

Response transition(Context& context) {
    const auto& id = context.parameters.at(0);
    return found(context.control.transition(id), "transition", id);
}

Response create_transition(Context& context) {
    Body body(context.request);
    router::TransitionRequest request;
    const std::string from = body.required_text("from");
    const std::string to = body.required_text("to");
    request.reason = body.required_text("reason");
    request.dry_run = body.boolean("dry_run").value_or(false);
    request.override_gates = body.boolean("override_gates").value_or(false);
    if (const auto deadline = body.integer("deadline_ms", 1, max_deadline_ms)) {
        request.deadline = std::chrono::milliseconds(*deadline);
    }
    if (const auto choice = body.text("on_blocked_sessions")) {
        request.on_blocked = router::on_blocked_from_string(*choice);
        if (!request.on_blocked) {
            body.bad_member("on_blocked_sessions", "must be \"abort\" or \"end\"");
        }
    }
    if (auto refused = body.finish()) {
        return std::move(*refused);
    }
    const auto from_phase = router::phase_from_string(from);
    const auto to_phase = router::phase_from_string(to);
    if (!from_phase || !to_phase) {
        return from_phase ? bad_phase("to", to) : bad_phase("from", from);
    }
    request.from = *from_phase;
    request.to = *to_phase;
    if (request.override_gates && context.identity.role < Role::admin) {
        return forbidden(context.identity, Role::admin, "Overriding gates");
    }
    auto result = context.control.create_transition(request, context.actor());
    if (!result || request.dry_run) {
        return answer(std::move(result));
    }
    return created(std::move(*result), "/api/v1/transitions");
}

Response cancel_transition(Context& context) {
    Body body(context.request);
    if (auto refused = body.finish()) {
        return std::move(*refused);
    }
    return answer(context.control.cancel_transition(context.parameters.at(0), context.actor()));
}

Response tables(Context& context) {
    return list("tables", context.control.tables());
}

Response table(Context& context) {
    const auto& name = context.parameters.at(0);
    return found(context.control.table(name), "table", name);
}

Response capture(Context& context) {
    return json_response(context.control.capture());
}

Response install_capture(Context& context) {
    Body body(context.request);
    if (auto refused = body.finish()) {
        return std::move(*refused);
    }
    return answer(context.control.install_capture(context.actor()));
}

Response remove_capture(Context& context) {
    Body body(context.request);
    if (auto refused = body.finish()) {
        return std::move(*refused);
    }
    return answer(context.control.remove_capture(context.actor()));
}

Response backfill(Context& context) {
    return json_response(context.control.backfill());
}

Response backfill_action(Context& context) {
    const auto& action = context.parameters.at(0);
    if (action != "start" && action != "pause" && action != "resume") {
        return problem(404, "not-found", "A backfill can start, pause and resume.",
                       {{"action", action}});
    }
    Body body(context.request);
    if (auto refused = body.finish()) {
        return std::move(*refused);
    }
    return answer(context.control.backfill_action(action, context.actor()));
}

Response verifications(Context& context) {
    return list("verifications", context.control.verifications());
}

Response verification(Context& context) {
    const auto& id = context.parameters.at(0);
    return found(context.control.verification(id), "verification", id);
}

Response create_verification(Context& context) {
    Body body(context.request);
    const auto names = body.texts("tables").value_or(std::vector<std::string>());
    const bool repair = body.boolean("repair").value_or(false);
    if (names.size() > max_named_tables) {
        body.bad_member("tables", "has more than 10000 elements");
    }
    if (auto refused = body.finish()) {
        return std::move(*refused);
    }
    auto result = context.control.create_verification(names, repair, context.actor());
    return result ? created(std::move(*result), "/api/v1/verifications") : refusal(result.error());
}

Response stop_verification(Context& context) {
    Body body(context.request);
    if (auto refused = body.finish()) {
        return std::move(*refused);
    }
    return answer(context.control.stop_verification(context.parameters.at(0), context.actor()));
}

Response discrepancies(Context& context) {
    return json_response(context.control.discrepancies());
}

Response discrepancy(Context& context) {
    const auto& fingerprint = context.parameters.at(0);
    return found(context.control.discrepancy(fingerprint), "discrepancy", fingerprint);
}

Response acknowledge_discrepancy(Context& context) {
    Body body(context.request);
    const std::string note = body.text("note").value_or("");
    const auto until = body.integer("until_unix_ms", 0, std::int64_t{1} << 52U);
    if (auto refused = body.finish()) {
        return std::move(*refused);
    }
    return answer(
        context.control.acknowledge_discrepancy(context.parameters.at(0), note, until,
                                                context.actor()));
}

Response shadow(Context& context) {
    return json_response(context.control.shadow());
}

Response shadow_times(Context& context) {
    return json_response(context.control.shadow_times());
}

Response set_shadow(Context& context) {
    Body body(context.request);
    const auto share = body.number("share");
    if (share && !(*share >= 0 && *share <= 1)) {
        body.bad_member("share", "must be a number from 0 to 1");
    }
    if (auto refused = body.finish()) {
        return std::move(*refused);
    }
    return answer(context.control.set_shadow(share, context.actor()));
}

Response journal(Context& context) {
    return json_response(context.control.journal());
}

Response sessions(Context& context) {
    return list("sessions", context.control.sessions());
}

Response audit(Context& context) {
    bool good = true;
    const auto limit = query_number(context, "limit", 1, max_audit_entries, good);
    const auto before = query_number(context, "before", 0, INT64_MAX, good);
    if (!good) {
        return problem(400, "bad-request",
                       "\"limit\" is an integer from 1 to 1000, \"before\" the id of an entry.");
    }
    return list("audit",
                context.control.audit(static_cast<std::size_t>(limit.value_or(100)), before));
}

Response reload(Context& context) {
    return answer(context.control.reload(context.actor()));
}

Response check_audit(Context& context) {
    return json_response(context.control.check_audit());
}

Response preflight(Context& context) {
    return json_response(context.control.preflight());
}

Response configuration(Context& context) {
    return json_response(context.control.configuration());
}

Response identity(Context& context) {
    return json_response({{"name", context.identity.name},
                          {"role", to_string(context.identity.role)}});
}

Response events(Context&) {
    Response response;
    response.content_type = "text/event-stream";
    response.events = true;
    return response;
}

Response openapi(Context& context) {
    return *asset_response(context.request, "/api/v1/openapi.json");
}

}  // namespace banyan::admin::handlers
