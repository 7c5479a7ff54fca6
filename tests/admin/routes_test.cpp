#include "admin/routes.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <fstream>
#include <iterator>
#include <set>

#include "tests/admin/fake_control.hpp"

namespace banyan::admin {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

router::Config::Admin with_tokens() {
    router::Config::Admin config;
    config.tokens = {{"vera", sha256_hex("v-token"), "viewer"},
                     {"olga", sha256_hex("o-token"), "operator"},
                     {"anna", sha256_hex("a-token"), "admin"}};
    return config;
}

Request request_for(std::string method, std::string target, std::string body = "",
                    std::string token = "o-token") {
    Request request;
    request.method = std::move(method);
    request.target = std::move(target);
    request.body = std::move(body);
    request.host = "127.0.0.1:8432";
    request.content_type = request.body.empty() ? "" : "application/json";
    request.authorization = token.empty() ? "" : "Bearer " + token;
    request.peer_address = "127.0.0.1";
    request.peer_is_loopback = true;
    request.local_address = "127.0.0.1";
    return request;
}

std::string header(const Response& response, const std::string& name) {
    for (const auto& [key, value] : response.headers) {
        if (key == name) {
            return value;
        }
    }
    return "";
}

class Routes : public testing::Test {
   protected:
    Response send(const Request& request) { return api_.handle(request); }
    Response send(std::string method, std::string target, std::string body = "",
                  std::string token = "o-token") {
        return send(
            request_for(std::move(method), std::move(target), std::move(body), std::move(token)));
    }

    FakeControl control_;
    FakeCounters counters_;
    Api api_{with_tokens(), control_, counters_};
};

struct Case {
    const char* name;
    const char* method;
    const char* target;
    const char* body;
    int status;
    const char* contains;
};

const std::string good_transition = R"({"from":"INITIAL","to":"DUAL_WRITE","reason":"r"})";

const Case cases[] = {
    {"livez", "GET", "/livez", "", 200, R"("alive":true)"},
    {"readyz", "GET", "/readyz", "", 200, R"("ready":true)"},
    {"metrics", "GET", "/metrics", "", 200, "banyan_queries_total"},
    {"status", "GET", "/api/v1/status", "", 200, R"("phase":"INITIAL")"},
    {"phase", "GET", "/api/v1/phase", "", 200, R"("next":"DUAL_WRITE","previous":null)"},
    {"gates_of_the_next_phase", "GET", "/api/v1/gates", "", 200, R"("to":"DUAL_WRITE")"},
    {"gates_of_another_phase", "GET", "/api/v1/gates?to=dual-read", "", 200, R"("to":"DUAL_READ")"},
    {"gates_of_no_phase", "GET", "/api/v1/gates?to=x", "", 400, "is not a phase"},
    {"transitions", "GET", "/api/v1/transitions", "", 200, R"({"transitions":[{"id":"t-000007")"},
    {"transition", "GET", "/api/v1/transitions/t-000007", "", 200, R"("id":"t-000007")"},
    {"no_such_transition", "GET", "/api/v1/transitions/t-9", "", 404, "/problems/not-found"},
    {"cancel", "DELETE", "/api/v1/transitions/t-1", "", 200, "t-1"},
    {"tables", "GET", "/api/v1/tables", "", 200, R"({"tables":[)"},
    {"table", "GET", "/api/v1/tables/public.t", "", 200, "public.t"},
    {"table_with_a_slash", "GET", "/api/v1/tables/public.a%2Fb", "", 200, "public.a/b"},
    {"no_such_table", "GET", "/api/v1/tables/x", "", 404, R"(There is no table \"x\")"},
    {"backfill", "GET", "/api/v1/backfill", "", 200, "idle"},
    {"backfill_start", "POST", "/api/v1/backfill/start", "", 200, "start"},
    {"backfill_explode", "POST", "/api/v1/backfill/explode", "", 404, "/problems/not-found"},
    {"backfill_start_by_get", "GET", "/api/v1/backfill/start", "", 405, "POST"},
    {"verifications", "GET", "/api/v1/verifications", "", 200, R"({"verifications":[]})"},
    {"verification", "GET", "/api/v1/verifications/v-1", "", 200, "v-1"},
    {"verify", "POST", "/api/v1/verifications", R"({"tables":["a.b"],"repair":true})", 202, "v-1"},
    {"verify_all", "POST", "/api/v1/verifications", "", 202, "v-1"},
    {"verify_numbers", "POST", "/api/v1/verifications", R"({"tables":[1]})", 400, R"(\"tables\")"},
    {"verify_yes", "POST", "/api/v1/verifications", R"({"repair":"yes"})", 400, R"(\"repair\")"},
    {"stop", "DELETE", "/api/v1/verifications/v-1", "", 200, "stopped"},
    {"discrepancies", "GET", "/api/v1/discrepancies", "", 200, "groups"},
    {"discrepancy", "GET", "/api/v1/discrepancies/f1", "", 200, "f1"},
    {"no_such_discrepancy", "GET", "/api/v1/discrepancies/f2", "", 404, "f2"},
    {"acknowledge", "POST", "/api/v1/discrepancies/f1/acknowledge", R"({"note":"n"})", 200,
     "acknowledged"},
    {"shadow", "GET", "/api/v1/shadow", "", 200, "share"},
    {"set_share", "PATCH", "/api/v1/shadow", R"({"share":0.5})", 200, "share"},
    {"share_of_two", "PATCH", "/api/v1/shadow", R"({"share":2})", 400, "from 0 to 1"},
    {"share_as_text", "PATCH", "/api/v1/shadow", R"({"share":"1"})", 400, "must be a number"},
    {"journal", "GET", "/api/v1/journal", "", 200, "dirty"},
    {"sessions", "GET", "/api/v1/sessions", "", 200, "psql"},
    {"audit", "GET", "/api/v1/audit?limit=5&before=9", "", 200, R"({"audit":[]})"},
    {"audit_of_none", "GET", "/api/v1/audit?limit=0", "", 400, "limit"},
    {"audit_of_words", "GET", "/api/v1/audit?limit=5x", "", 400, "limit"},
    {"unknown_query", "GET", "/api/v1/audit?limits=5", "", 400, "limits"},
    {"query_twice", "GET", "/api/v1/audit?limit=5&limit=6", "", 400, "Twice"},
    {"bad_percent", "GET", "/api/v1/audit?limit=%zz", "", 400, "percent"},
    {"cut_percent", "GET", "/api/v1/tables/%2", "", 404, "/problems/not-found"},
    {"control_character", "GET", "/api/v1/tables/%00", "", 404, "/problems/not-found"},
    {"elsewhere", "GET", "/api/v2/status", "", 404, "/problems/not-found"},
    {"trailing_slash", "GET", "/api/v1/status/", "", 404, "/problems/not-found"},
    {"doubled_slash", "GET", "/api//v1/status", "", 404, "/problems/not-found"},
    {"root", "POST", "/", "", 404, "/problems/not-found"},
    {"no_path", "GET", "*", "", 404, "/problems/not-found"},
    {"put_status", "PUT", "/api/v1/status", "", 405, "possible: GET, HEAD"},
    {"unknown_method", "BREW", "/api/v1/transitions", "", 405, "GET, POST, HEAD"},
    {"bad_json", "POST", "/api/v1/transitions", "{\n \"from\": x}", 400, R"("line":2,"column":10)"},
    {"json_cut_off", "POST", "/api/v1/transitions", "{", 400, "/problems/bad-json"},
    {"json_and_more", "POST", "/api/v1/transitions", "{} {}", 400, R"("offset":3)"},
    {"json_too_deep", "POST", "/api/v1/transitions",
     "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", 400, "/problems/bad-json"},
    {"json_array", "POST", "/api/v1/transitions", "[]", 400, "must be a JSON object"},
    {"no_members", "POST", "/api/v1/transitions", "{}", 400, R"(\"from\" is missing)"},
    {"no_reason", "POST", "/api/v1/transitions",
     R"({"from":"INITIAL","to":"DUAL_WRITE","reason":" "})", 400,
     R"(\"reason\" is missing or empty)"},
    {"unknown_member", "POST", "/api/v1/transitions",
     R"({"from":"INITIAL","to":"DUAL_WRITE","reason":"r","dryrun":true})", 400,
     R"("members":["dryrun"])"},
    {"unknown_phase", "POST", "/api/v1/transitions", R"({"from":"INITIAL","to":"X","reason":"r"})",
     400, R"("member":"to")"},
    {"deadline_zero", "POST", "/api/v1/transitions",
     R"({"from":"INITIAL","to":"DUAL_WRITE","reason":"r","deadline_ms":0})", 400, "deadline_ms"},
    {"deadline_fraction", "POST", "/api/v1/transitions",
     R"({"from":"INITIAL","to":"DUAL_WRITE","reason":"r","deadline_ms":1.5})", 400, "deadline_ms"},
};

class RoutesTable : public Routes, public testing::WithParamInterface<Case> {};

TEST_P(RoutesTable, answers) {
    const Case& test = GetParam();
    const Response response = send(test.method, test.target, test.body);
    EXPECT_EQ(response.status, test.status) << response.body;
    EXPECT_THAT(response.body, HasSubstr(test.contains));
    EXPECT_EQ(header(response, "Cache-Control"), "no-store");
    EXPECT_EQ(header(response, "X-Content-Type-Options"), "nosniff");
    if (test.status >= 400) {
        EXPECT_EQ(response.content_type, "application/problem+json");
        const auto body = boost::json::parse(response.body).as_object();
        EXPECT_TRUE(body.at("type").as_string().starts_with("/problems/"));
        EXPECT_EQ(body.at("status").as_int64(), test.status);
        EXPECT_FALSE(body.at("title").as_string().empty());
        EXPECT_THAT(control_.changes, IsEmpty());
    }
}

INSTANTIATE_TEST_SUITE_P(All, RoutesTable, testing::ValuesIn(cases),
                         [](const auto& test) { return std::string(test.param.name); });

TEST_F(Routes, a_transition_reaches_the_control_plane_with_who_and_why) {
    const Response response =
        send("POST", "/api/v1/transitions",
             R"({"from":"INITIAL","to":"DUAL_WRITE","reason":"go","deadline_ms":5})");
    EXPECT_EQ(response.status, 202);
    EXPECT_EQ(header(response, "Location"), "/api/v1/transitions/t-000007");
    EXPECT_EQ(control_.last_request.deadline, std::chrono::milliseconds(5));
    EXPECT_FALSE(control_.last_request.override_gates);
    EXPECT_THAT(control_.changes, ElementsAre("olga@127.0.0.1: transition INITIAL DUAL_WRITE go"));
}

TEST_F(Routes, a_dry_run_changes_nothing_and_has_no_location) {
    const Response response =
        send("POST", "/api/v1/transitions",
             R"({"from":"INITIAL","to":"DUAL_WRITE","reason":"r","dry_run":true})");
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(header(response, "Location"), "");
    EXPECT_TRUE(control_.last_request.dry_run);
    EXPECT_THAT(control_.changes, IsEmpty());
}

TEST_F(Routes, overriding_gates_is_for_admins) {
    const std::string body =
        R"({"from":"INITIAL","to":"DUAL_WRITE","reason":"r","override_gates":true})";
    EXPECT_EQ(send("POST", "/api/v1/transitions", body, "o-token").status, 403);
    EXPECT_THAT(control_.changes, IsEmpty());
    EXPECT_EQ(send("POST", "/api/v1/transitions", body, "a-token").status, 202);
    EXPECT_TRUE(control_.last_request.override_gates);
}

TEST_F(Routes, a_refusal_becomes_a_problem_with_its_extra_members) {
    control_.refuse = router::Refusal{409, "illegal-step", "No.", {{"current_phase", "DUAL_READ"}}};
    const Response response = send("POST", "/api/v1/transitions", good_transition);
    EXPECT_EQ(response.status, 409);
    EXPECT_EQ(boost::json::parse(response.body),
              boost::json::value({{"type", "/problems/illegal-step"},
                                  {"title", "No."},
                                  {"status", 409},
                                  {"current_phase", "DUAL_READ"}}));
}

TEST_F(Routes, the_audit_log_is_asked_with_limits) {
    send("GET", "/api/v1/audit?limit=5&before=9");
    EXPECT_EQ(control_.last_limit, 5U);
    EXPECT_EQ(control_.last_before, 9);
    send("GET", "/api/v1/audit");
    EXPECT_EQ(control_.last_limit, 100U);
    EXPECT_EQ(control_.last_before, std::nullopt);
}

TEST_F(Routes, readiness_is_that_of_the_primary) {
    control_.ready = false;
    const Response response = send("GET", "/readyz");
    EXPECT_EQ(response.status, 503);
    EXPECT_THAT(response.body, HasSubstr("connection refused"));
    EXPECT_EQ(send("GET", "/livez").status, 200);
}

TEST_F(Routes, there_are_no_gates_after_complete) {
    control_.current = router::Phase::complete;
    EXPECT_EQ(send("GET", "/api/v1/gates").status, 409);
    EXPECT_THAT(send("GET", "/api/v1/phase").body, HasSubstr(R"("next":null,"previous":null)"));
}

TEST_F(Routes, a_body_of_another_type_is_refused) {
    Request request = request_for("POST", "/api/v1/transitions", good_transition);
    request.content_type = "text/plain";
    EXPECT_EQ(send(request).status, 415);
    request.content_type = "Application/JSON; charset=utf-8";
    EXPECT_EQ(send(request).status, 202);
}

TEST_F(Routes, an_exception_is_an_internal_error_not_a_crash) {
    control_.throws = true;
    const Response response = send("GET", "/api/v1/status");
    EXPECT_EQ(response.status, 500);
    EXPECT_THAT(response.body, HasSubstr("/problems/internal"));
}

TEST_F(Routes, get_and_head_never_change_anything) {
    for (const auto& route : routes()) {
        std::string target(route.pattern);
        for (auto at = target.find('{'); at != target.npos; at = target.find('{')) {
            target.replace(at, target.find('}') + 1 - at, "start");
        }
        for (const char* method : {"GET", "HEAD"}) {
            send(method, target, R"({"from":"INITIAL","to":"DUAL_WRITE","reason":"r"})", "a-token");
        }
    }
    EXPECT_THAT(control_.changes, IsEmpty());
}

TEST_F(Routes, every_change_needs_an_operator_and_every_look_a_viewer_but_the_probes) {
    std::set<std::string_view> open;
    for (const auto& route : routes()) {
        if (route.role == Role::nobody) {
            open.insert(route.pattern);
        } else {
            EXPECT_EQ(route.role == Role::viewer, route.method == "GET") << route.pattern;
        }
    }
    EXPECT_THAT(open, ElementsAre("/api/v1/openapi.json", "/livez", "/readyz"));
}

TEST_F(Routes, every_route_refuses_a_stranger_a_low_role_a_foreign_host_and_a_foreign_page) {
    for (const auto& route : routes()) {
        if (route.role == Role::nobody) {
            continue;
        }
        SCOPED_TRACE(std::string(route.method) + " " + std::string(route.pattern));
        Request request =
            request_for(std::string(route.method), std::string(route.pattern), "", "");
        const Response missing = send(request);
        EXPECT_EQ(missing.status, 401);
        EXPECT_THAT(header(missing, "WWW-Authenticate"), HasSubstr("Bearer"));
        request.authorization = "Bearer wrong";
        EXPECT_EQ(send(request).status, 401);
        if (route.role > Role::viewer) {
            request.authorization = "Bearer v-token";
            EXPECT_EQ(send(request).status, 403);
        }
        request.authorization = "Bearer a-token";
        request.host = "evil.example.org";
        EXPECT_EQ(send(request).status, 421);
        request.host = "localhost:8432";
        request.origin = "https://evil.example.org";
        const bool change = route.method != "GET";
        EXPECT_EQ(send(request).status == 403, change);
    }
    EXPECT_THAT(control_.changes, IsEmpty());
}

TEST_F(Routes, an_idempotency_key_gets_the_first_answer_again) {
    auto request = request_for("POST", "/api/v1/transitions", good_transition);
    request.idempotency_key = "k1";
    const auto first = send(request);
    EXPECT_EQ(first.status, 202);
    const auto again = send(request);
    EXPECT_EQ(again.status, 202);
    EXPECT_EQ(again.body, first.body);
    EXPECT_EQ(header(again, "Location"), header(first, "Location"));
    EXPECT_THAT(control_.changes_now(), testing::SizeIs(1));

    auto other = request;
    other.body = R"({"from":"INITIAL","to":"DUAL_WRITE","reason":"another"})";
    EXPECT_EQ(send(other).status, 422);
    other.idempotency_key = "k2";
    EXPECT_EQ(send(other).status, 202);
    EXPECT_THAT(control_.changes_now(), testing::SizeIs(2));

    auto anna = request_for("POST", "/api/v1/transitions", good_transition, "a-token");
    anna.idempotency_key = "k1";  // hers, not olga's
    EXPECT_EQ(send(anna).status, 202);
    EXPECT_THAT(control_.changes_now(), testing::SizeIs(3));

    request.idempotency_key = std::string(256, 'k');
    EXPECT_EQ(send(request).status, 400);
}

TEST_F(Routes, only_the_newest_idempotency_keys_are_remembered) {
    auto request = request_for("POST", "/api/v1/transitions", good_transition);
    for (int i = 0; i <= 1000; ++i) {
        request.idempotency_key = "k" + std::to_string(i);
        ASSERT_EQ(send(request).status, 202);
    }
    ASSERT_THAT(control_.changes_now(), testing::SizeIs(1001));
    send(request);
    EXPECT_THAT(control_.changes_now(), testing::SizeIs(1001));
    request.idempotency_key = "k0";
    send(request);
    EXPECT_THAT(control_.changes_now(), testing::SizeIs(1002));
}

TEST_F(Routes, a_token_works_until_it_expires) {
    auto config = with_tokens();
    const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
                         std::chrono::system_clock::now().time_since_epoch())
                         .count();
    config.tokens[1].expires_unix_ms = now + 1'000'000;
    api_.set_config(config);
    EXPECT_EQ(send("GET", "/api/v1/status").status, 200);
    config.tokens[1].expires_unix_ms = now - 1;
    api_.set_config(config);
    const auto refused = send("GET", "/api/v1/status");
    EXPECT_EQ(refused.status, 401);
    EXPECT_THAT(refused.body, HasSubstr("token-expired"));
    EXPECT_EQ(send("GET", "/api/v1/status", "", "v-token").status, 200);
}

// The description and the table of routes, held against each other in both directions.
TEST_F(Routes, are_those_that_the_description_has) {
    std::ifstream file(std::string(BANYAN_SOURCE_DIR) + "/admin/openapi.json");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const auto document = boost::json::parse(text);
    std::set<std::string> described;
    for (const auto& path : document.at("paths").as_object()) {
        for (const auto& [method, operation] : path.value().as_object()) {
            std::string line = std::string(method) + " " + std::string(path.key()) + " " +
                               std::string(operation.at("x-role").as_string());
            if (const auto* parameters = operation.as_object().if_contains("parameters")) {
                for (const auto& each : parameters->as_array()) {
                    const auto* in = each.as_object().if_contains("in");
                    if (in != nullptr && *in == "query") {
                        line += " " + std::string(each.at("name").as_string());
                    }
                }
            }
            described.insert(line);
        }
    }
    std::set<std::string> served;
    for (const auto& route : routes()) {
        std::string method(route.method);
        std::transform(method.begin(), method.end(), method.begin(),
                       [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
        served.insert(method + " " + std::string(route.pattern) + " " +
                      std::string(to_string(route.role)) +
                      (route.query.empty() ? "" : " " + std::string(route.query)));
    }
    EXPECT_EQ(described, served);
}

}  // namespace
}  // namespace banyan::admin
