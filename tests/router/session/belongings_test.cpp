// What the rows say that a session owns, and the SQL that brings it along.
#include "router/session/belongings.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace banyan::router {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Belongings owned(const std::vector<OwnedRow>& rows) {
    Belongings belongings;
    for (const auto& row : rows) {
        EXPECT_TRUE(take_owned(belongings, row, parse_query)) << row[0].value_or("");
    }
    return belongings;
}

TEST(Belongings, EachThingIsCarriedOrStaysByName) {
    const struct {
        OwnedRow row;
        const char* stays;
    } cases[] = {
        {{"relation", "scratch", "r"}, "temporary table \"scratch\""},
        {{"relation", "parts", "p"}, "temporary table \"parts\""},
        {{"relation", "seen", "v"}, "temporary view \"seen\""},
        {{"relation", "counter", "S"}, "temporary sequence \"counter\""},
        {{"relation", "pair", "c"}, "temporary type \"pair\""},
        {{"function", "pg_temp.f(integer)", ""}, "temporary function \"pg_temp.f(integer)\""},
        {{"type", "mood", ""}, "temporary type \"mood\""},
        {{"cursor", "c", ""}, "cursor WITH HOLD \"c\""},
        {{"prepare", "q", "no SQL at all"},
         "prepared statement \"q\" (its PREPARE cannot be read)"},
        {{"listen", "news", ""}, nullptr},
        {{"lock", "ExclusiveLock", "0 5 1"}, nullptr},
    };
    for (const auto& each : cases) {
        const auto belongings = owned({each.row});
        if (each.stays == nullptr) {
            EXPECT_THAT(belongings.stays, IsEmpty()) << *each.row[0];
        } else {
            EXPECT_THAT(belongings.stays, ElementsAre(each.stays));
        }
    }
    EXPECT_THAT(owned({{"listen", "news", ""}}).channels, ElementsAre("news"));
}

TEST(Belongings, RowsOfOtherKindsAreLeftAlone) {
    Belongings belongings;
    EXPECT_FALSE(take_owned(belongings, {"setting", "work_mem", "4MB"}, parse_query));
    EXPECT_FALSE(take_owned(belongings, {std::nullopt, "x", "y"}, parse_query));
    EXPECT_FALSE(take_owned(belongings, {"listen", "x"}, parse_query));
}

// pg_prepared_statements shows the whole query string: the rest of it must not run again.
TEST(Belongings, OnlyThePrepareItselfIsTakenFromItsQueryString) {
    const std::string text =
        "PREPARE a AS SELECT 1; DELETE FROM item; PREPARE b (int) AS SELECT $1 ; SELECT 2";
    const auto both = owned({{"prepare", "a", text}, {"prepare", "b", text}});
    ASSERT_EQ(both.statements.size(), 2U);
    EXPECT_EQ(both.statements[0].sql, "PREPARE a AS SELECT 1");
    EXPECT_EQ(both.statements[1].sql, "PREPARE b (int) AS SELECT $1");
    const auto again =
        owned({{"prepare", "a", "PREPARE a AS SELECT 1; DEALLOCATE a; PREPARE a AS SELECT 2"}});
    EXPECT_EQ(again.statements.at(0).sql, "PREPARE a AS SELECT 2");
}

TEST(Belongings, LocksAreReadAsTheirFunctionsTakeThem) {
    const auto locks = owned({{"lock", "ExclusiveLock", "0 5 1"},
                              {"lock", "ExclusiveLock", "4294967295 4294967295 1"},
                              {"lock", "ShareLock", "2147483648 0 1"},
                              {"lock", "ExclusiveLock", "1 4294967294 2"},
                              {"lock", "ShareLock", "7 8 2"}})
                           .locks;
    ASSERT_EQ(locks.size(), 5U);
    EXPECT_EQ(to_string(locks[0]), "advisory lock 5");
    EXPECT_EQ(to_string(locks[1]), "advisory lock -1");
    EXPECT_EQ(to_string(locks[2]), "advisory lock -9223372036854775808, shared");
    EXPECT_EQ(to_string(locks[3]), "advisory lock (1, -2)");
    EXPECT_EQ(to_string(locks[4]), "advisory lock (7, 8), shared");
    EXPECT_EQ(
        try_locks_sql(locks),
        "SELECT d, pg_catalog.pg_try_advisory_lock(a::pg_catalog.int8) FROM (VALUES "
        "('advisory lock 5', 5), ('advisory lock -1', -1)) AS v(d, a); "
        "SELECT d, pg_catalog.pg_try_advisory_lock_shared(a::pg_catalog.int8) FROM (VALUES "
        "('advisory lock -9223372036854775808, shared', -9223372036854775808)) AS v(d, a); "
        "SELECT d, pg_catalog.pg_try_advisory_lock(a::pg_catalog.int4, b::pg_catalog.int4) "
        "FROM (VALUES ('advisory lock (1, -2)', 1, -2)) AS v(d, a, b); "
        "SELECT d, pg_catalog.pg_try_advisory_lock_shared(a::pg_catalog.int4, "
        "b::pg_catalog.int4) FROM (VALUES ('advisory lock (7, 8), shared', 7, 8)) AS v(d, a, b)");
    EXPECT_EQ(try_locks_sql({}), "");
}

// No view lists them: their names are read from the statements that may set them.
TEST(Belongings, NamesOfCustomSettingsAreReadFromStatements) {
    const struct {
        const char* sql;
        std::set<std::string> names;
    } cases[] = {
        {"SET app.tenant = 7", {"app.tenant"}},
        {"SET LOCAL App.Tenant TO 7; SET work_mem = '4MB'", {"app.tenant"}},
        {"SELECT set_config('app.a', 'x.y', false), 'not a name.'", {"app.a", "x.y"}},
        {"SELECT pg_catalog.set_config($1, $2, true)", {}},
        {"DO $$ BEGIN PERFORM set_config('a.b$1', '1', false); END $$", {"a.b$1"}},
        {"SELECT 'app.tenant'", {}},
        {"SELECT set_config('work_mem', '4.5', false)", {}},
        {"SELECT set_config('it''s a.b', '.a', false), '1.b', 'a..b', 'a b.c'", {}},
        {"SET", {}},
    };
    for (const auto& each : cases) {
        std::set<std::string> names;
        note_custom_settings(names, *parse_query(each.sql));
        EXPECT_EQ(names, each.names) << each.sql;
    }
    EXPECT_EQ(custom_settings_sql({}), "");
    EXPECT_THAT(custom_settings_sql({"a.b", "c.d"}),
                HasSubstr("(VALUES ('a.b'), ('c.d')) AS v(n)"));
}

TEST(Belongings, ARelayLooksOnlyAtWhatBeginsLikeASetting) {
    for (const char* sql : {"SET a.b = 1", "set a.b to 1", "Select Set_Config('a.b', '1', false)",
                            "select pg_catalog.set_config('a.b', '1', false)"}) {
        EXPECT_TRUE(may_set(sql)) << sql;
    }
    for (const char* sql : {"", "s", "set", "select 1", "settle", "insert into t values (1)"}) {
        EXPECT_FALSE(may_set(sql)) << sql;
    }
}

}  // namespace
}  // namespace banyan::router
