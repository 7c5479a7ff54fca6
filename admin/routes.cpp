#include "admin/routes.hpp"

#include <algorithm>
#include <exception>
#include <optional>

#include "admin/handlers.hpp"
#include "admin/static_files.hpp"

namespace banyan::admin {
namespace {

std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    for (std::size_t start = 0; start <= text.size();) {
        const auto end = std::min(text.find(separator, start), text.size());
        if (end != start) {
            parts.push_back(text.substr(start, end - start));
        }
        start = end + 1;
    }
    return parts;
}

/// The path's segments, still encoded. A trailing slash or a doubled one is another path.
std::optional<std::vector<std::string_view>> segments(std::string_view path) {
    auto parts = split(path, '/');
    std::size_t size = parts.size();
    for (const auto& part : parts) {
        size += part.size();
    }
    if (path != "/" && size != path.size()) {
        return std::nullopt;
    }
    return parts;
}

bool matches(std::string_view pattern, const std::vector<std::string_view>& path,
             std::vector<std::string>& parameters) {
    const auto wanted = split(pattern, '/');
    if (wanted.size() != path.size()) {
        return false;
    }
    parameters.clear();
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        std::string decoded;
        if (!percent_decode(path[i], false, decoded)) {
            return false;
        }
        if (wanted[i].starts_with("{")) {
            parameters.push_back(std::move(decoded));
        } else if (wanted[i] != decoded) {
            return false;
        }
    }
    return true;
}

Response not_found(const Request& request) {
    return problem(404, "not-found", "There is nothing at this path.",
                   {{"path", request.target.substr(0, request.target.find('?'))}});
}

Response method_not_allowed(const Request& request, std::vector<std::string> allowed) {
    if (std::find(allowed.begin(), allowed.end(), "GET") != allowed.end()) {
        allowed.emplace_back("HEAD");
    }
    std::string list;
    for (const auto& method : allowed) {
        list += (list.empty() ? "" : ", ") + method;
    }
    Response response = problem(405, "method-not-allowed",
                                request.method + " is not possible here; possible: " + list + ".",
                                {{"allowed", boost::json::array(allowed.begin(), allowed.end())}});
    response.headers.emplace_back("Allow", list);
    return response;
}

std::optional<Response> parse_query(std::string_view text, std::string_view declared,
                                    std::map<std::string, std::string>& query) {
    const auto allowed = split(declared, ' ');
    for (const auto part : split(text, '&')) {
        const auto equals = std::min(part.find('='), part.size());
        std::string name;
        std::string value;
        if (!percent_decode(part.substr(0, equals), true, name) ||
            !percent_decode(part.substr(std::min(equals + 1, part.size())), true, value)) {
            return problem(400, "bad-request", "The query is not correctly percent-encoded.");
        }
        if (std::find(allowed.begin(), allowed.end(), name) == allowed.end()) {
            return problem(400, "unknown-parameter", "Unknown in the query: " + name + ".",
                           {{"parameter", name},
                            {"known", boost::json::array(allowed.begin(), allowed.end())}});
        }
        if (!query.emplace(name, value).second) {
            return problem(400, "bad-request", "Twice in the query: " + name + ".",
                           {{"parameter", name}});
        }
    }
    return std::nullopt;
}

std::string_view effective_method(const Request& request) {
    return request.method == "HEAD" ? std::string_view("GET") : std::string_view(request.method);
}

}  // namespace

const std::vector<Route>& routes() {
    using namespace handlers;
    static const std::vector<Route> all = {
        {"GET", "/livez", Role::nobody, "", livez},
        {"GET", "/readyz", Role::nobody, "", readyz},
        {"GET", "/metrics", Role::viewer, "", handlers::metrics},
        {"GET", "/api/v1/status", Role::viewer, "", status},
        {"GET", "/api/v1/phase", Role::viewer, "", phase},
        {"GET", "/api/v1/gates", Role::viewer, "to", gates},
        {"GET", "/api/v1/transitions", Role::viewer, "", transitions},
        {"POST", "/api/v1/transitions", Role::operator_, "", create_transition},
        {"GET", "/api/v1/transitions/{id}", Role::viewer, "", transition},
        {"DELETE", "/api/v1/transitions/{id}", Role::operator_, "", cancel_transition},
        {"GET", "/api/v1/tables", Role::viewer, "", tables},
        {"GET", "/api/v1/tables/{name}", Role::viewer, "", table},
        {"GET", "/api/v1/capture", Role::viewer, "", capture},
        {"PUT", "/api/v1/capture", Role::operator_, "", install_capture},
        {"DELETE", "/api/v1/capture", Role::operator_, "", remove_capture},
        {"GET", "/api/v1/backfill", Role::viewer, "", backfill},
        {"POST", "/api/v1/backfill/{action}", Role::operator_, "", backfill_action},
        {"GET", "/api/v1/verifications", Role::viewer, "", verifications},
        {"POST", "/api/v1/verifications", Role::operator_, "", create_verification},
        {"GET", "/api/v1/verifications/{id}", Role::viewer, "", verification},
        {"DELETE", "/api/v1/verifications/{id}", Role::operator_, "", stop_verification},
        {"GET", "/api/v1/discrepancies", Role::viewer, "", discrepancies},
        {"GET", "/api/v1/discrepancies/{fingerprint}", Role::viewer, "", discrepancy},
        {"POST", "/api/v1/discrepancies/{fingerprint}/acknowledge", Role::operator_, "",
         acknowledge_discrepancy},
        {"GET", "/api/v1/shadow", Role::viewer, "", shadow},
        {"GET", "/api/v1/shadow/times", Role::viewer, "", shadow_times},
        {"PATCH", "/api/v1/shadow", Role::operator_, "", set_shadow},
        {"GET", "/api/v1/journal", Role::viewer, "", journal},
        {"GET", "/api/v1/sessions", Role::viewer, "", sessions},
        {"GET", "/api/v1/audit", Role::viewer, "limit before", audit},
        {"GET", "/api/v1/audit/check", Role::viewer, "", check_audit},
        {"GET", "/api/v1/preflight", Role::viewer, "", preflight},
        {"GET", "/api/v1/config", Role::viewer, "", configuration},
        {"POST", "/api/v1/config/reload", Role::operator_, "", reload},
        {"GET", "/api/v1/events", Role::viewer, "", events},
        {"GET", "/api/v1/identity", Role::viewer, "", identity},
        {"GET", "/api/v1/openapi.json", Role::nobody, "", openapi},
    };
    return all;
}

bool Api::quick(const Request& request) {
    return request.target == "/livez";
}

Response Api::handle(const Request& request) {
    try {
        Response response = dispatch(request);
        const auto add = [&](const char* name, const char* value) {
            if (std::none_of(response.headers.begin(), response.headers.end(),
                             [&](const auto& header) { return header.first == name; })) {
                response.headers.emplace_back(name, value);
            }
        };
        add("Cache-Control", "no-store");
        add("X-Content-Type-Options", "nosniff");
        add("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'");
        return response;
    } catch (const std::exception& exception) {
        return problem(500, "internal", "Banyan failed to answer; this is a bug.",
                       {{"detail", exception.what()}});
    }
}

Response Api::dispatch(const Request& request) {
    const auto question = std::min(request.target.find('?'), request.target.size());
    const auto path = segments(std::string_view(request.target).substr(0, question));
    const auto config = this->config();
    Context context{request, control_, counters_, {}, {}, {}};
    const Route* found = nullptr;
    std::vector<std::string> allowed;
    for (const auto& route : routes()) {
        std::vector<std::string> parameters;
        if (found != nullptr || !path || !matches(route.pattern, *path, parameters)) {
            continue;
        }
        allowed.emplace_back(route.method);
        if (route.method == effective_method(request)) {
            found = &route;
            context.parameters = std::move(parameters);
        }
    }
    const bool probe = found != nullptr && found->role == Role::nobody;
    if (!probe) {  // a health probe's Host is whatever the orchestrator likes
        if (auto refused = check_host(request, *config)) {
            return std::move(*refused);
        }
    }
    if (allowed.empty()) {
        // The dashboard's files tell nothing: whoever reads them still needs a token for the rest.
        if (auto file = asset_response(request, std::string_view(request.target).substr(0, question));
            file && effective_method(request) == "GET") {
            return std::move(*file);
        }
        return not_found(request);
    }
    if (found == nullptr) {
        return method_not_allowed(request, std::move(allowed));
    }
    if (auto refused = authenticate(request, *config, found->role, context.identity)) {
        return std::move(*refused);
    }
    if (found->method != "GET") {
        if (auto refused = check_origin(request)) {
            return std::move(*refused);
        }
    }
    const auto query = std::string_view(request.target).substr(question);
    if (auto refused =
            parse_query(query.substr(query.empty() ? 0 : 1), found->query, context.query)) {
        return std::move(*refused);
    }
    if (found->method == "POST" && !request.idempotency_key.empty()) {
        return remembered(request, context.identity,
                          [&] { return found->handler(context); });
    }
    return found->handler(context);
}

// A client that got no answer asks again with the same key, and gets the answer of the first time.
Response Api::remembered(const Request& request, const Identity& identity,
                         const std::function<Response()>& answer) {
    if (request.idempotency_key.size() > 255) {
        return problem(400, "bad-request", "An Idempotency-Key has at most 255 characters.");
    }
    const std::string key = identity.name + '\0' + request.idempotency_key;
    const std::string asked = sha256_hex(request.target + '\0' + request.body);
    std::shared_ptr<Remembered> entry;
    {
        const std::lock_guard lock(mutex_);
        auto& slot = remembered_[key];
        if (!slot) {
            slot = std::make_shared<Remembered>();
            slot->asked = asked;
            order_.push_back(key);
            if (order_.size() > most_remembered) {
                remembered_.erase(order_.front());
                order_.pop_front();
            }
        }
        entry = slot;
    }
    const std::lock_guard lock(entry->mutex);  // the same request, twice at once: one waits
    if (entry->asked != asked) {
        return problem(422, "idempotency-key-reused",
                       "This Idempotency-Key came with another request before.");
    }
    if (entry->response) {
        return *entry->response;
    }
    Response fresh = answer();
    if (fresh.status < 500) {  // "not now" may be answered otherwise next time
        entry->response = fresh;
    }
    return fresh;
}

}  // namespace banyan::admin
