#include "router/session/route.hpp"

#include <gtest/gtest.h>

#include "tests/router/sql/sample_catalog.hpp"

namespace banyan::router {
namespace {

const std::vector<std::string> search_path = {"public"};
const std::vector<std::string> temporary_tables = {"scratch"};
const std::string role = "app";

Decision decided(const std::string& sql, bool with_catalog = true) {
    static const Catalog catalog = [] {
        Catalog made = sample_catalog();
        Table watched = table(160, "watched", {"id"});
        watched.user_triggers = true;
        made.add_table(std::make_shared<const Table>(watched));
        made.grant_select("app", 160);
        return made;
    }();
    const auto query = parse_query(sql);
    EXPECT_TRUE(query->parsed) << sql;
    EXPECT_EQ(query->statements.size(), 1U) << sql;
    return decide(*query, query->statements.front(),
                  {with_catalog ? &catalog : nullptr, &search_path, &temporary_tables, &role,
                   DdlPolicy::mirror, false});
}

struct Case {
    const char* sql;
    Route route;
    bool measure = false;
    bool suspects_all = false;
};

TEST(Route, EveryKindOfStatementHasItsRoute) {
    const Case cases[] = {
        {"SELECT * FROM item", Route::forward},
        {"SELECT * FROM item FOR UPDATE", Route::forward},
        {"SELECT user_volatile()", Route::guarded, true},
        {"SELECT * FROM item_view", Route::guarded, true},
        {"SELECT set_config('a.b', 'c', false)", Route::settings},
        {"INSERT INTO item VALUES (1)", Route::capture},
        {"UPDATE item SET name = 2", Route::capture},
        {"DELETE FROM item", Route::capture},
        {"DELETE FROM parent", Route::capture, true},
        {"INSERT INTO watched VALUES (1)", Route::capture, true},
        {"INSERT INTO keyless VALUES (1)", Route::guarded, true},
        {"INSERT INTO item_view VALUES (1)", Route::guarded, true},
        {"INSERT INTO scratch VALUES (1)", Route::forward},
        {"INSERT INTO left_out VALUES (1)", Route::forward},
        {"WITH d AS (DELETE FROM item RETURNING *) SELECT * FROM d", Route::guarded, true},
        {"COPY item FROM STDIN", Route::copy},
        {"COPY item FROM '/a/file'", Route::guarded, true},
        {"COPY item (id) FROM STDIN", Route::guarded, true},
        {"COPY keyless FROM STDIN", Route::guarded, true},
        {"COPY scratch FROM STDIN", Route::forward},
        {"COPY watched FROM STDIN", Route::guarded, true},
        {"COPY item_view FROM STDIN", Route::guarded, true},
        {"COPY nowhere FROM STDIN", Route::guarded, true},
        {"COPY item TO STDOUT", Route::forward},
        {"TRUNCATE item", Route::mirrored_text},
        {"TRUNCATE item CASCADE", Route::mirrored_text, false, true},
        {"TRUNCATE scratch", Route::settings},
        {"TRUNCATE scratch CASCADE", Route::settings},
        {"DROP TABLE scratch CASCADE", Route::settings},
        {"DROP TABLE scratch, item", Route::guarded, false, true},
        {"CREATE TABLE made (id int)", Route::mirrored_text, true},
        {"CREATE TEMPORARY TABLE made (id int)", Route::settings},
        {"DROP TABLE item CASCADE", Route::mirrored_text, false, true},
        {"CALL p()", Route::guarded, true},
        {"DO 'BEGIN END'", Route::guarded, true},
        {"EXECUTE s", Route::guarded, true},
        {"BEGIN", Route::begin},
        {"COMMIT", Route::commit},
        {"END", Route::commit},
        {"ROLLBACK", Route::rollback},
        {"SAVEPOINT a", Route::savepoint},
        {"RELEASE a", Route::release},
        {"ROLLBACK TO a", Route::rollback_to},
        {"PREPARE TRANSACTION 'x'", Route::prepare_transaction},
        {"COMMIT PREPARED 'x'", Route::commit_prepared, false, true},
        {"ROLLBACK PREPARED 'x'", Route::forward},
        {"SET search_path = a", Route::settings},
        {"DISCARD ALL", Route::settings},
        {"VACUUM", Route::forward},
        {"LISTEN a", Route::forward},
        {"LOCK TABLE item", Route::forward},
        {"DEALLOCATE a", Route::forward},
    };
    for (const auto& each : cases) {
        const auto decision = decided(each.sql);
        EXPECT_EQ(static_cast<int>(decision.route), static_cast<int>(each.route)) << each.sql;
        EXPECT_EQ(decision.measure, each.measure) << each.sql;
        EXPECT_EQ(!decision.suspects.empty() && decision.suspects[0].table == 0,
                  each.suspects_all)
            << each.sql;
        EXPECT_EQ(decision.route == Route::capture, decision.capture != nullptr) << each.sql;
    }
}

TEST(Route, WithoutACatalogueNoWriteIsTakenForHarmless) {
    const Case cases[] = {
        {"SELECT * FROM item", Route::forward, false, false},
        {"INSERT INTO item VALUES (1)", Route::guarded, false, true},
        {"WITH d AS (DELETE FROM item RETURNING *) SELECT * FROM d", Route::guarded, false, true},
        {"COPY item FROM STDIN", Route::suspect, false, true},
        {"TRUNCATE item", Route::mirrored_text, false, true},
        {"CREATE TABLE made (id int)", Route::mirrored_text, false, true},
    };
    for (const auto& each : cases) {
        const auto decision = decided(each.sql, false);
        EXPECT_EQ(static_cast<int>(decision.route), static_cast<int>(each.route)) << each.sql;
        EXPECT_EQ(!decision.suspects.empty() && decision.suspects[0].table == 0,
                  each.suspects_all)
            << each.sql;
        EXPECT_NE(decision.shadow_skip, "") << each.sql;
    }
}

TEST(Route, WhatIsNotCapturedNamesItsTables) {
    const auto named = [](const Decision& decision) {
        std::vector<TableId> tables;
        for (const auto& mark : decision.suspects) {
            EXPECT_FALSE(mark.reason.empty());
            tables.push_back(mark.table);
        }
        return tables;
    };
    EXPECT_EQ(named(decided("INSERT INTO keyless VALUES (1)")), std::vector<TableId>{142});
    EXPECT_EQ(named(decided("COPY item (id) FROM STDIN")), std::vector<TableId>{100});
    EXPECT_EQ(named(decided("TRUNCATE item, keyless")), (std::vector<TableId>{100, 142}));
    EXPECT_EQ(named(decided("DELETE FROM secured")), std::vector<TableId>{143});
    EXPECT_EQ(decided("INSERT INTO keyless VALUES (1)").reason, "no_key");
}

TEST(Route, WhatBothSidesWriteAlikeIsSuspectOnlyIfTheMirrorFails) {
    const auto copied = decided("COPY item FROM STDIN");
    EXPECT_TRUE(copied.suspects.empty());
    ASSERT_EQ(copied.tables.size(), 1U);
    EXPECT_EQ(copied.tables[0].table, 100U);
    EXPECT_FALSE(copied.tables[0].removes);
    const auto truncated = decided("TRUNCATE item, pair");
    EXPECT_TRUE(truncated.suspects.empty());
    ASSERT_EQ(truncated.tables.size(), 2U);
    EXPECT_EQ(truncated.tables[1].table, 101U);
    EXPECT_TRUE(truncated.tables[1].removes);
    EXPECT_EQ(truncated.mirror_sql, R"(TRUNCATE TABLE "public"."item", "public"."pair")");
    const auto triggered = decided("TRUNCATE watched");
    EXPECT_TRUE(triggered.tables.empty());
    EXPECT_TRUE(triggered.measure) << "its triggers may write anywhere";
}

TEST(Route, OnlyDdlReloadsTheCatalogue) {
    EXPECT_TRUE(decided("ALTER TABLE item ADD x int").reload_catalog);
    EXPECT_FALSE(decided("TRUNCATE item").reload_catalog);
    EXPECT_FALSE(decided("CREATE TEMPORARY TABLE made (id int)").reload_catalog);
    EXPECT_FALSE(decided("INSERT INTO item VALUES (1)").reload_catalog);
}

TEST(Route, ReadsSayWhetherTheyMayBeShadowed) {
    EXPECT_EQ(decided("SELECT * FROM item").shadow_skip, "");
    EXPECT_EQ(decided("SELECT * FROM item FOR UPDATE").shadow_skip, "locks_rows");
    EXPECT_EQ(decided("SELECT * FROM scratch").shadow_skip, "temporary_table");
    EXPECT_EQ(decided("INSERT INTO item VALUES (1)").shadow_skip, "not_select");
    EXPECT_EQ(decide_unparsed(nullptr).route, Route::guarded);
    EXPECT_TRUE(decide_unparsed(nullptr).measure);
}

}  // namespace
}  // namespace banyan::router
