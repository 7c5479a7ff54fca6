#include "router/preflight/findings.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

namespace banyan::router {
namespace {

using boost::json::array;
using boost::json::object;
using boost::json::value;
using testing::HasSubstr;

object side(const char* identifier) {
    return {{"server",
             {{"version_num", 150004},
              {"version", "15.4"},
              {"database", "shop"},
              {"encoding", "UTF8"},
              {"collate", "C"},
              {"ctype", "C"},
              {"collation_version", nullptr},
              {"system_identifier", identifier},
              {"in_recovery", false},
              {"read_only", false},
              {"superuser", true},
              {"role", "banyan"},
              {"max_connections", 97},
              {"used_connections", 3}}},
            {"settings", {{"TimeZone", "UTC"}, {"fsync", "on"}}},
            {"extensions", {{"plpgsql", "1.0"}}},
            {"objects", array()},
            {"tables", array()},
            {"collations", array()},
            {"roles", {{"app", true}}},
            {"large_objects", 0},
            {"prepared", array()},
            {"long_transactions", array()},
            {"event_triggers", array()},
            {"subscriptions", array()},
            {"errors", object()}};
}

PreflightInput healthy() {
    PreflightInput input;
    input.source = side("1");
    input.target = side("2");
    input.not_captured.emplace();
    input.max_clients = 50;
    return input;
}

const Finding* find(const std::vector<Finding>& all, const std::string& name) {
    for (const auto& it : all) {
        if (it.name == name) {
            return &it;
        }
    }
    return nullptr;
}

TEST(Preflight, says_of_every_check_that_it_is_well_where_it_is) {
    const auto all = preflight(healthy());
    for (const auto& it : all) {
        EXPECT_EQ(it.severity, Severity::ok) << it.name << ": " << it.what;
    }
    EXPECT_GE(all.size(), 25U);
}

struct Case {
    const char* name;
    std::function<void(PreflightInput&)> plant;
    const char* check;
    Severity severity;
    const char* subject;
    const char* fix;  ///< part of it
};

object& server(object& snapshot) {
    return snapshot["server"].as_object();
}

object table(const char* name) {
    return {{"name", name},         {"kind", "r"},         {"persistence", "p"},
            {"row_security", false}, {"rules", false},     {"rows", 1},
            {"inherits", false},     {"triggers", array()}, {"foreign_actions", array()}};
}

void plant_table(PreflightInput& in, const char* member, value content) {
    auto it = table("public.t");
    it[member] = std::move(content);
    in.source["tables"].as_array().push_back(std::move(it));
}

void plant_object(object& snapshot, const char* kind, const char* name, const char* definition) {
    snapshot["objects"].as_array().push_back(
        object{{"kind", kind}, {"name", name}, {"definition", definition}});
}

const Case cases[] = {
    {"target_away",
     [](PreflightInput& in) {
         in.target.clear();
         in.target_error = "connection refused";
     },
     "reachable", Severity::block, "target", "[target]"},
    {"not_readable",
     [](PreflightInput& in) { in.source["errors"].as_object()["objects"] = "permission denied"; },
     "readable", Severity::warn, "source", "right"},
    {"same_database",
     [](PreflightInput& in) { server(in.target)["system_identifier"] = "1"; },
     "different_databases", Severity::block, "", "[target]"},
    {"standby", [](PreflightInput& in) { server(in.target)["in_recovery"] = true; },
     "takes_writes", Severity::block, "target", "Promote"},
    {"read_only", [](PreflightInput& in) { server(in.target)["read_only"] = true; },
     "takes_writes", Severity::block, "target", "default_transaction_read_only"},
    {"source_standby", [](PreflightInput& in) { server(in.source)["in_recovery"] = true; },
     "takes_writes", Severity::warn, "source", "primary"},
    {"older_target", [](PreflightInput& in) { server(in.target)["version_num"] = 140010; },
     "server_version", Severity::warn, "target", "newer"},
    {"no_superuser", [](PreflightInput& in) { server(in.source)["superuser"] = false; },
     "own_role", Severity::warn, "source", "SUPERUSER"},
    {"no_fsync", [](PreflightInput& in) { in.target["settings"].as_object()["fsync"] = "off"; },
     "durable", Severity::warn, "target", "fsync = on"},
    {"encoding", [](PreflightInput& in) { server(in.target)["encoding"] = "LATIN1"; }, "encoding",
     Severity::warn, "", "UTF8"},
    {"collate", [](PreflightInput& in) { server(in.target)["collate"] = "de_DE.UTF-8"; },
     "collation", Severity::warn, "collate", "LC_COLLATE"},
    {"collation_version",
     [](PreflightInput& in) {
         server(in.source)["collation_version"] = "2.31";
         server(in.target)["collation_version"] = "2.36";
     },
     "collation", Severity::warn, "version", "ICU"},
    {"stale_collation",
     [](PreflightInput& in) {
         in.source["collations"].as_array().push_back(
             object{{"name", "de-x-icu"}, {"recorded", "1"}, {"actual", "2"}});
     },
     "collation", Severity::warn, "de-x-icu", "REFRESH VERSION"},
    {"setting",
     [](PreflightInput& in) { in.target["settings"].as_object()["TimeZone"] = "Europe/O'Hare"; },
     "settings", Severity::warn, "TimeZone", "SET TimeZone = 'UTC'"},
    {"extension",
     [](PreflightInput& in) { in.source["extensions"].as_object()["citext"] = "1.6"; },
     "extensions", Severity::warn, "citext", "CREATE EXTENSION \"citext\""},
    {"table_missing",
     [](PreflightInput& in) { plant_object(in.source, "table", "public.t", ""); }, "schema_drift",
     Severity::block, "table public.t", "Create it"},
    {"table_more", [](PreflightInput& in) { plant_object(in.target, "table", "public.t", ""); },
     "schema_drift", Severity::info, "table public.t", "Drop it"},
    {"column_differs",
     [](PreflightInput& in) {
         plant_object(in.source, "column", "public.t.a", "integer");
         plant_object(in.target, "column", "public.t.a", "bigint");
     },
     "schema_drift", Severity::block, "column public.t.a", "like the source's"},
    {"sequence_missing",
     [](PreflightInput& in) { plant_object(in.source, "sequence", "public.s", "x"); },
     "schema_drift", Severity::block, "sequence public.s", "Create it"},
    {"constraint_more",
     [](PreflightInput& in) { plant_object(in.target, "constraint", "public.t.c", "CHECK (a > 0)"); },
     "schema_drift", Severity::warn, "constraint public.t.c", "Drop it"},
    {"index_missing",
     [](PreflightInput& in) { plant_object(in.source, "index", "public.i", "ON t (a)"); },
     "schema_drift", Severity::warn, "index public.i", "Create it"},
    {"mapping", [](PreflightInput& in) { in.mapping_problems = {"a->b: no such column"}; },
     "mappings", Severity::block, "", "[[mapping]]"},
    {"connections", [](PreflightInput& in) { in.max_clients = 1000; }, "max_connections",
     Severity::warn, "target", "max_clients"},
    {"role_missing", [](PreflightInput& in) { in.source["roles"].as_object()["report"] = true; },
     "roles", Severity::warn, "report", "pg_dumpall"},
    {"role_without_right",
     [](PreflightInput& in) { in.target["roles"].as_object()["app"] = false; }, "roles",
     Severity::warn, "app", "GRANT SET ON PARAMETER session_replication_role TO \"app\"  -- on the target"},
    {"no_key", [](PreflightInput& in) { in.not_captured->emplace_back("public.t", "no_key"); },
     "tables_capturable", Severity::block, "public.t", "PRIMARY KEY"},
    {"unlogged", [](PreflightInput& in) { plant_table(in, "persistence", "u"); }, "unlogged",
     Severity::warn, "public.t", "SET LOGGED"},
    {"row_security", [](PreflightInput& in) { plant_table(in, "row_security", true); },
     "row_security", Severity::info, "public.t", "capture install"},
    {"inherits", [](PreflightInput& in) { plant_table(in, "inherits", true); }, "inheritance",
     Severity::info, "public.t", "capture install"},
    {"triggers", [](PreflightInput& in) { plant_table(in, "triggers", array{"audit"}); },
     "triggers", Severity::info, "public.t", "capture install"},
    {"cascades", [](PreflightInput& in) { plant_table(in, "foreign_actions", array{"fk"}); },
     "foreign_actions", Severity::info, "public.t", "capture install"},
    {"rules", [](PreflightInput& in) { plant_table(in, "rules", true); }, "rules", Severity::info,
     "public.t", "capture install"},
    {"foreign_table", [](PreflightInput& in) { plant_table(in, "kind", "f"); }, "foreign_tables",
     Severity::warn, "public.t", "exclude"},
    {"large_objects", [](PreflightInput& in) { in.source["large_objects"] = 3; }, "large_objects",
     Severity::block, "", "pg_dump"},
    {"prepared", [](PreflightInput& in) { in.source["prepared"].as_array().push_back("gid"); },
     "prepared_transactions", Severity::warn, "source", "PREPARED"},
    {"subscription",
     [](PreflightInput& in) { in.target["subscriptions"].as_array().push_back("sub"); },
     "subscriptions", Severity::warn, "target", "DISABLE"},
    {"event_trigger",
     [](PreflightInput& in) { in.source["event_triggers"].as_array().push_back("e"); },
     "event_triggers", Severity::info, "source", ""},
    {"long_transaction",
     [](PreflightInput& in) {
         in.source["long_transactions"].as_array().push_back(object{
             {"process_id", 77}, {"user", "app"}, {"application", "x"}, {"seconds", 90}});
     },
     "long_transactions", Severity::warn, "process 77", "pg_terminate_backend(77)"},
};

class EachTrouble : public testing::TestWithParam<Case> {};

TEST_P(EachTrouble, is_found_with_its_fix_and_nothing_else_is) {
    auto input = healthy();
    GetParam().plant(input);
    const auto all = preflight(input);
    const auto* it = find(all, GetParam().check);
    ASSERT_NE(it, nullptr);
    EXPECT_EQ(it->severity, GetParam().severity) << it->what;
    EXPECT_EQ(it->subject, GetParam().subject);
    EXPECT_THAT(it->fix, HasSubstr(GetParam().fix));
    EXPECT_FALSE(it->what.empty());
    EXPECT_FALSE(it->why.empty());
    for (const auto& other : all) {
        if (other.name != GetParam().check) {
            EXPECT_EQ(other.severity, Severity::ok) << other.name << ": " << other.what;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Preflight, EachTrouble, testing::ValuesIn(cases),
                         [](const auto& it) { return it.param.name; });

TEST(Preflight, excluded_tables_are_nobodys_trouble) {
    auto input = healthy();
    plant_table(input, "persistence", "u");
    plant_object(input.source, "table", "public.t", "");
    input.excluded = {"public.t"};
    for (const auto& it : preflight(input)) {
        EXPECT_EQ(it.severity, Severity::ok) << it.name;
    }
}

TEST(Preflight, many_findings_of_one_check_are_counted_and_the_worst_come_first) {
    auto input = healthy();
    for (int i = 0; i < 50; ++i) {
        plant_object(input.source, "index", ("public.i" + std::to_string(i)).c_str(), "x");
    }
    server(input.target)["in_recovery"] = true;
    const auto all = preflight(input, 10);
    EXPECT_EQ(all.front().severity, Severity::block);
    EXPECT_EQ(std::count_if(all.begin(), all.end(),
                            [](const auto& it) { return it.name == "schema_drift"; }),
              11);
    const auto json = to_json(all);
    EXPECT_EQ(json.at("blocks").to_number<int>(), 1);
    EXPECT_EQ(json.at("warnings").to_number<int>(), 11);
}

TEST(Preflight, survives_documents_of_another_shape) {
    PreflightInput input;
    input.source = {{"server", 1}, {"settings", array()}, {"objects", object()}, {"errors", nullptr}};
    input.target = {{"tables", array{object()}}};
    EXPECT_FALSE(preflight(input).empty());
}

}  // namespace
}  // namespace banyan::router
