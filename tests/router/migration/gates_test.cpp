#include "router/migration/gates.hpp"

#include <gtest/gtest.h>

#include <functional>

namespace banyan::router {
namespace {

Facts healthy() {
    Facts facts;
    for (SideFacts* side : {&facts.source, &facts.target}) {
        side->reachable = true;
        side->database = "shop";
        side->in_recovery = false;
        side->roles_without_replication_role.emplace();
        side->sequences = {"public.orders_id_seq"};
        side->large_objects = 0;
        side->max_connections = 100;
        side->used_connections = 5;
    }
    facts.source.system_identifier = "1";
    facts.target.system_identifier = "2";
    facts.catalog_known = true;
    facts.tables_captured = 1;
    facts.backfill_done = true;
    facts.backfill_state = "done";
    facts.verified = {{"public.orders", "equal", 1}};
    facts.shadow_matched = 100;
    facts.shadow_minimum = 100;
    facts.foreign.emplace();
    facts.sessions = 10;
    return facts;
}

struct Case {
    const char* name;
    Phase from;
    Phase to;
    std::function<void(Facts&)> spoil;
    const char* gate;
    Verdict verdict;
    const char* says = "";
};

const Gate* find(const std::vector<Gate>& gates, const std::string& name) {
    for (const Gate& gate : gates) {
        if (gate.name == name) {
            return &gate;
        }
    }
    return nullptr;
}

TEST(Gates, AllPassWhenAllIsWell) {
    const Facts facts = healthy();
    for (const auto& [from, to] : {std::pair(Phase::initial, Phase::dual_write),
                                   {Phase::dual_write, Phase::dual_read},
                                   {Phase::dual_read, Phase::switchover},
                                   {Phase::switchover, Phase::complete},
                                   {Phase::switchover, Phase::dual_read}}) {
        const auto gates = evaluate_gates(from, to, facts);
        EXPECT_FALSE(gates.empty());
        EXPECT_TRUE(gates_open(gates, false)) << to_string(to) << ": " << closed_gates(gates);
    }
}

TEST(Gates, NothingGuardsTheWayBackToTheSource) {
    EXPECT_TRUE(evaluate_gates(Phase::dual_write, Phase::initial, Facts()).empty());
    EXPECT_TRUE(evaluate_gates(Phase::dual_read, Phase::dual_write, Facts()).empty());
}

TEST(Gates, WithoutFactsNothingForwardOpens) {
    for (const auto& [from, to] : {std::pair(Phase::initial, Phase::dual_write),
                                   {Phase::dual_write, Phase::dual_read},
                                   {Phase::dual_read, Phase::switchover},
                                   {Phase::switchover, Phase::complete}}) {
        EXPECT_FALSE(gates_open(evaluate_gates(from, to, Facts()), false)) << to_string(to);
        EXPECT_FALSE(gates_open(evaluate_gates(from, to, Facts()), true)) << to_string(to);
    }
}

TEST(Gates, EachOneClosesForItsOwnReason) {
    const Phase i = Phase::initial, w = Phase::dual_write, r = Phase::dual_read,
                s = Phase::switchover, c = Phase::complete;
    const auto fail = Verdict::fail;
    const auto open = Verdict::inconclusive;
    const std::vector<Case> cases{
        {"source down", i, w, [](Facts& f) { f.source.reachable = false; }, "source_reachable",
         fail},
        {"target down", i, w, [](Facts& f) { f.target.reachable = false; }, "target_reachable",
         fail},
        {"same database", i, w, [](Facts& f) { f.target.system_identifier = "1"; },
         "different_clusters", fail},
        {"target a standby", i, w, [](Facts& f) { f.target.in_recovery = true; },
         "target_takes_writes", fail, "until it is promoted"},
        {"target a standby, later", r, s, [](Facts& f) { f.target.in_recovery = true; },
         "target_takes_writes", fail, "until it is promoted"},
        {"target read-only", r, s, [](Facts& f) { f.target.read_only = true; },
         "target_takes_writes", fail, "default_transaction_read_only"},
        {"recovery unknown", r, s, [](Facts& f) { f.target.in_recovery.reset(); },
         "target_takes_writes", open},
        {"rollback, source a standby", s, r, [](Facts& f) { f.source.in_recovery = true; },
         "source_takes_writes", fail},
        {"cluster unknown", i, w, [](Facts& f) { f.target.system_identifier = ""; },
         "different_clusters", open},
        {"missing there", i, w,
         [](Facts& f) {
             f.not_captured = {{"public.t", "not_on_mirror"}};
         },
         "schema_matches", fail, "public.t (not_on_mirror)"},
        {"no key", i, w,
         [](Facts& f) {
             f.not_captured = {{"public.t", "no_key"}};
         },
         "tables_capturable", fail, "[migration] exclude"},
        {"no table", i, w, [](Facts& f) { f.tables_captured = 0; }, "tables_capturable", open},
        {"no catalogue", i, w, [](Facts& f) { f.catalog_known = false; }, "schema_matches", open},
        {"privilege on the source", i, w,
         [](Facts& f) { f.source.roles_without_replication_role = {{"app\"x"}}; },
         "mirror_privileges", fail,
         "on the source: GRANT SET ON PARAMETER session_replication_role TO \"app\"\"x\";"},
        {"privileges unknown", i, w,
         [](Facts& f) { f.target.roles_without_replication_role.reset(); }, "mirror_privileges",
         open},
        {"too few connections", i, w, [](Facts& f) { f.sessions = 90; }, "max_connections", fail},
        {"connections unknown", i, w, [](Facts& f) { f.target.max_connections = 0; },
         "max_connections", open},
        {"journal failing", i, w, [](Facts& f) { f.journal_failed = true; }, "journal_healthy",
         fail},
        {"backfill running", w, r, [](Facts& f) { f.backfill_done = false; }, "backfill_done",
         fail},
        {"breaker open", w, r, [](Facts& f) { f.breaker_closed = false; }, "mirror_breaker", fail},
        {"dirty", w, r, [](Facts& f) { f.dirty = 1001; }, "dirty_keys", fail},
        {"suspect", r, s, [](Facts& f) { f.suspects = {"public.t (truncate)"}; }, "suspect_tables",
         fail, "public.t (truncate)"},
        {"different", r, s,
         [](Facts& f) {
             f.verified = {{"a", "equal", 1}, {"b", "different", 1}};
         },
         "verified", fail, "b"},
        {"not verified", r, s,
         [](Facts& f) {
             f.verified = {{"a", "equal", 1}, {"b", "", 0}};
         },
         "verified", open, "b"},
        {"nothing to verify", r, s, [](Facts& f) { f.verified.clear(); }, "verified", open},
        {"confirmed", r, s, [](Facts& f) { f.confirmed_unacknowledged = 1; }, "shadow_mismatches",
         fail},
        {"discrepancies that cannot be read", r, s,
         [](Facts& f) { f.confirmed_unacknowledged.reset(); }, "shadow_mismatches", open},
        {"confirmed with few samples", r, s,
         [](Facts& f) { f.confirmed_unacknowledged = 1, f.shadow_matched = 0; },
         "shadow_mismatches", fail},
        {"a mapping that does not fit", i, w,
         [](Facts& f) { f.mapping_problems = {"mapping a.b->c.d: columns.x: no such column"}; },
         "mappings", fail, "mapping a.b->c.d: columns.x"},
        {"mappings unknown", i, w, [](Facts& f) { f.catalog_known = false; }, "mappings", open},
        {"no way back", r, s,
         [](Facts& f) { f.reverse = {{"a.b->c.d", "has expressions (x) and no `reverse`", "", 0, ""}}; },
         "reverse_mappings", fail, "a.b->c.d has expressions (x)"},
        {"a way back to something else", r, s,
         [](Facts& f) { f.reverse = {{"a.b->c.d", "", "", 3, "(7)"}, {"e", "", "", 0, ""}}; },
         "reverse_mappings", fail, "3 rows of the source, such as the one with key (7)"},
        {"a way back that could not be tried", r, s,
         [](Facts& f) { f.reverse = {{"a.b->c.d", "", "statement timeout", 0, ""}}; },
         "reverse_mappings", open, "a.b->c.d: statement timeout"},
        {"a sequence of another name", r, s,
         [](Facts& f) {
             f.sequence_twins = {{"public.orders_id_seq", "sales.orders_id_seq"}};
             f.target.sequences = {{"sales.orders_id_seq"}};
         },
         "sequences_present", Verdict::pass},
        {"few samples", r, s, [](Facts& f) { f.shadow_matched = 99; }, "shadow_mismatches", open},
        {"undecided", r, s, [](Facts& f) { f.shadow_undecided = 1; }, "shadow_mismatches", open},
        {"sequence missing", r, s, [](Facts& f) { f.target.sequences->clear(); },
         "sequences_present", fail, "public.orders_id_seq"},
        {"sequences unknown", r, s, [](Facts& f) { f.target.sequences.reset(); },
         "sequences_present", open},
        {"foreign writer", r, s,
         [](Facts& f) {
             f.foreign = {{{7, "joe", "psql", true, false}}};
         },
         "bypassing_writers", fail, "process 7 (joe, psql)"},
        {"prepared transaction", r, s,
         [](Facts& f) {
             f.foreign = {{{0, "joe", "gid1", true, true}}};
         },
         "bypassing_writers", fail, "prepared transaction gid1"},
        {"idle foreigner", r, s,
         [](Facts& f) {
             f.foreign = {{{7, "joe", "psql", false, false}}};
         },
         "bypassing_writers", Verdict::pass, "1 connections bypass"},
        {"activity unknown", r, s, [](Facts& f) { f.foreign.reset(); }, "bypassing_writers", open},
        {"rollback, suspect", s, r, [](Facts& f) { f.suspects = {"t"}; }, "suspect_tables", fail},
        {"rollback, source down", s, r, [](Facts& f) { f.source.reachable = false; },
         "source_reachable", fail},
        {"large objects", r, s, [](Facts& f) { f.source.large_objects = 3; }, "large_objects",
         fail, "pg_dump"},
        {"large objects unknown", r, s, [](Facts& f) { f.source.large_objects.reset(); },
         "large_objects", open},
        {"rollback, large objects", s, r, [](Facts& f) { f.target.large_objects = 1; },
         "large_objects", fail},
        {"rollback, sequence", s, r, [](Facts& f) { f.source.sequences->clear(); },
         "sequences_present", fail},
        {"complete, suspect", s, c, [](Facts& f) { f.suspects = {"t"}; }, "suspect_tables", fail},
        {"complete, dirty", s, c, [](Facts& f) { f.dirty = 1'000'000; }, "dirty_keys", fail},
        {"complete, target down", s, c, [](Facts& f) { f.target.reachable = false; },
         "target_reachable", fail},
    };
    for (const Case& it : cases) {
        Facts facts = healthy();
        it.spoil(facts);
        const auto gates = evaluate_gates(it.from, it.to, facts);
        const Gate* gate = find(gates, it.gate);
        ASSERT_NE(gate, nullptr) << it.name;
        EXPECT_EQ(gate->verdict, it.verdict) << it.name;
        EXPECT_EQ(gates_open(gates, false), it.verdict == Verdict::pass) << it.name;
        EXPECT_NE(gate->explanation.find(it.says), std::string::npos)
            << it.name << ": " << gate->explanation;
        EXPECT_TRUE(it.verdict == Verdict::pass || !gate->explanation.empty()) << it.name;
    }
}

TEST(Gates, AnOverridePassesWhatAnOperatorMayJudgeOnly) {
    Facts facts = healthy();
    facts.dirty = 5000;
    facts.shadow_matched = 0;
    EXPECT_TRUE(gates_open(evaluate_gates(Phase::dual_read, Phase::switchover, facts), true));
    EXPECT_EQ(closed_gates(evaluate_gates(Phase::dual_read, Phase::switchover, facts)),
              "dirty_keys, shadow_mismatches");
    facts.backfill_done = false;
    EXPECT_FALSE(gates_open(evaluate_gates(Phase::dual_read, Phase::switchover, facts), true));
    facts = healthy();
    facts.target.in_recovery = true;
    EXPECT_FALSE(gates_open(evaluate_gates(Phase::dual_read, Phase::switchover, facts), true));
    facts = healthy();
    facts.target.system_identifier = "1";
    EXPECT_FALSE(gates_open(evaluate_gates(Phase::initial, Phase::dual_write, facts), true));
}

TEST(Gates, JsonShowsUnknownNumbersAsNull) {
    const auto gates = evaluate_gates(Phase::dual_read, Phase::switchover, healthy());
    const auto breaker = to_json(*find(gates, "mirror_breaker"));
    EXPECT_TRUE(breaker.at("samples").is_null());
    EXPECT_EQ(breaker.at("verdict").as_string(), "pass");
    const auto shadow = to_json(*find(gates, "shadow_mismatches"));
    EXPECT_EQ(shadow.at("samples").to_number<int>(), 100);
    EXPECT_EQ(shadow.at("minimum_samples").to_number<int>(), 100);
}

}  // namespace
}  // namespace banyan::router
