#include "router/sql/capture.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sample_catalog.hpp"

namespace banyan::router {
namespace {

using Outcome = std::variant<CapturePlan, NotCaptured>;

Outcome plan(const std::string& sql, std::size_t index = 0) {
    static const Catalog catalog = sample_catalog();
    const auto query = parse_query(sql);
    EXPECT_TRUE(query->parsed) << sql << ": " << query->error;
    return plan_capture(*query, query->statements.at(index), catalog, {"public"}, "app",
                        {"scratch"});
}

CapturePlan captured(const std::string& sql, std::size_t index = 0) {
    Outcome outcome = plan(sql, index);
    if (auto* reason = std::get_if<NotCaptured>(&outcome); reason != nullptr) {
        ADD_FAILURE() << sql << " not captured: " << reason->reason;
        return {};
    }
    const CapturePlan result = std::get<CapturePlan>(outcome);
    EXPECT_TRUE(parse_query(result.sql)->parsed) << result.sql << parse_query(result.sql)->error;
    return result;
}

NotCaptured refused(const std::string& sql) {
    Outcome outcome = plan(sql);
    if (std::holds_alternative<CapturePlan>(outcome)) {
        ADD_FAILURE() << sql << " captured: " << std::get<CapturePlan>(outcome).sql;
        return {};
    }
    return std::get<NotCaptured>(outcome);
}

std::vector<std::string> names(const NotCaptured& reason) {
    std::vector<std::string> result;
    for (const auto& table : reason.tables) {
        result.push_back(table->name);
    }
    return result;
}

struct RewriteCase {
    const char* name;
    const char* sql;
    const char* rewritten;
};

TEST(Capture, the_columns_are_appended_and_nothing_before_is_touched) {
    const RewriteCase cases[] = {
        {"an insert", "INSERT INTO item VALUES (1)",
         "INSERT INTO item VALUES (1)\nRETURNING \"item\".\"id\", \"item\".\"name\", "
         "\"item\".\"Odd \"\"Name\""},
        {"an insert with an alias", "INSERT INTO pair AS p VALUES ($1, $2)",
         "INSERT INTO pair AS p VALUES ($1, $2)\nRETURNING \"p\".\"a\", \"p\".\"b\", \"p\".\"v\""},
        {"a statement that ends in a comment", "INSERT INTO pair VALUES (1, 2, 3) -- done",
         "INSERT INTO pair VALUES (1, 2, 3) -- done\nRETURNING \"pair\".\"a\", \"pair\".\"b\", "
         "\"pair\".\"v\""},
        {"a statement with RETURNING", "UPDATE pair x SET v = 1 RETURNING *, 'a'",
         "UPDATE pair x SET v = 1 RETURNING *, 'a'\n, \"x\".\"a\", \"x\".\"b\", \"x\".\"v\""},
        {"a delete yields the key in key order", "DELETE FROM public.pair",
         "DELETE FROM public.pair\nRETURNING \"pair\".\"b\", \"pair\".\"a\""},
        {"white space around it goes", "  DELETE FROM pair ; ",
         "DELETE FROM pair\nRETURNING \"pair\".\"b\", \"pair\".\"a\""},
        {"comments before it stay", "/* trace */ DELETE FROM pair",
         "/* trace */ DELETE FROM pair\nRETURNING \"pair\".\"b\", \"pair\".\"a\""},
        {"generated columns are left out", "INSERT INTO generated VALUES (1)",
         "INSERT INTO generated VALUES (1)\nRETURNING \"generated\".\"id\", \"generated\".\"v\""},
        {"a leaf partition gives its root's columns", "UPDATE events_1 SET at = at", nullptr},
        {"a target named like another table of FROM",
         "UPDATE public.pair SET v = 1 FROM other.pair WHERE true",
         "UPDATE public.pair SET v = 1 FROM other.pair WHERE true\nRETURNING "
         "\"public\".\"pair\".\"a\", \"public\".\"pair\".\"b\", \"public\".\"pair\".\"v\""},
    };
    for (const RewriteCase& each : cases) {
        SCOPED_TRACE(each.name);
        if (each.rewritten != nullptr) {
            EXPECT_EQ(captured(each.sql).sql, each.rewritten);
        } else {
            EXPECT_EQ(captured(each.sql).table->name, "events");
        }
    }
}

TEST(Capture, one_statement_of_several_is_taken_by_itself) {
    EXPECT_EQ(captured("SELECT 1; DELETE FROM item; SELECT 2", 1).sql,
              "DELETE FROM item\nRETURNING \"item\".\"id\"");
}

TEST(Capture, a_plan_says_what_it_captures) {
    const CapturePlan insert = captured("INSERT INTO item VALUES (1) RETURNING id");
    EXPECT_EQ(insert.op, WriteOp::insert);
    EXPECT_TRUE(insert.client_returning);
    EXPECT_THAT(insert.columns, testing::ElementsAre(0U, 1U, 2U));
    EXPECT_FALSE(insert.key_only);
    EXPECT_EQ(captured("UPDATE item SET name = 1").op, WriteOp::update);
    const CapturePlan erase = captured("DELETE FROM pair");
    EXPECT_EQ(erase.op, WriteOp::erase);
    EXPECT_THAT(erase.columns, testing::ElementsAre(1U, 0U));
    EXPECT_TRUE(erase.before.empty());
}

TEST(Capture, a_table_with_a_fragile_column_gives_keys_only) {
    const CapturePlan fragile = captured("INSERT INTO fragile VALUES (1)");
    EXPECT_TRUE(fragile.key_only);
    EXPECT_THAT(fragile.columns, testing::ElementsAre(0U));
}

struct RefusalCase {
    const char* sql;
    const char* reason;
    bool ignorable;
    std::vector<std::string> tables;
};

TEST(Capture, what_cannot_be_captured_is_named) {
    const RefusalCase cases[] = {
        {"INSERT INTO scratch VALUES (1)", "temporary_table", true, {}},
        {"INSERT INTO pg_temp.x VALUES (1)", "temporary_table", true, {}},
        {"UPDATE pg_catalog.pg_class SET relname = 'x'", "system_catalog", true, {}},
        {"UPDATE pg_settings SET setting = 1", "system_catalog", true, {}},
        {"DELETE FROM information_schema.sql_parts", "system_catalog", true, {}},
        {"DELETE FROM left_out", "excluded", true, {}},
        {"DELETE FROM item_view", "view", false, {}},
        {"DELETE FROM remote", "foreign_table", false, {}},
        {"DELETE FROM nowhere", "unknown_relation", false, {}},
        {"DELETE FROM keyless", "no_key", false, {"keyless"}},
        {"DELETE FROM secured", "row_security", false, {"secured"}},
        {"INSERT INTO unreadable VALUES (1)", "no_select_privilege", false, {"unreadable"}},
        {"INSERT INTO item VALUES (1) ON CONFLICT (name) DO UPDATE SET id = 2",
         "conflict_changes_key",
         false,
         {"item"}},
        {"SELECT 1", "not_a_row_write", false, {}},
        {"UPDATE item SET id = 2 WHERE CURRENT OF c", "where_current_of", false, {"item"}},
        {"UPDATE item SET id = 2 WHERE random() < 0.5", "volatile_condition", false, {"item"}},
        {"UPDATE item SET id = 2 WHERE user_volatile()", "volatile_condition", false, {"item"}},
        {"UPDATE item SET id = 2 WHERE id = (SELECT id FROM pair LIMIT 1 FOR UPDATE SKIP LOCKED)",
         "volatile_condition",
         false,
         {"item"}},
        {"DELETE FROM keyless_parent", "cascade_uncaptured", false, {"keyless_parent", "keyless"}},
        {"UPDATE keyed SET id = 2", "cascade_changes_key", false, {"keyed", "keyed_child"}},
        {"UPDATE ring SET id = 2 WHERE id = 1", "cascade_to_moved_rows", false, {"ring"}},
        {"DELETE FROM ping", "cascade_too_deep", false, {"ping", "pong"}},
    };
    for (const RefusalCase& each : cases) {
        SCOPED_TRACE(each.sql);
        const NotCaptured reason = refused(each.sql);
        EXPECT_EQ(reason.reason, each.reason);
        EXPECT_EQ(reason.ignorable, each.ignorable);
        EXPECT_EQ(names(reason), each.tables);
    }
}

TEST(Before, an_update_of_the_key_first_locks_the_rows_it_will_rename) {
    const CapturePlan update = captured(
        "WITH w AS (SELECT 1 AS n) UPDATE ONLY pair AS p SET a = nextval('s') FROM item i, w "
        "WHERE p.b = i.id AND p.v = $2 AND w.n = 1");
    ASSERT_EQ(update.before.size(), 1U);
    EXPECT_EQ(update.before[0].sql,
              "WITH w AS (SELECT 1 AS n) SELECT p.b, p.a FROM ONLY pair p, item i, w WHERE p.b = "
              "i.id AND p.v = $2 AND w.n = 1 FOR UPDATE OF p");
    EXPECT_TRUE(update.before[0].own_rows);
    EXPECT_TRUE(update.before[0].erases);
    EXPECT_EQ(update.before[0].table->name, "pair");
    EXPECT_TRUE(captured("UPDATE pair SET v = 1").before.empty());
    EXPECT_TRUE(captured("UPDATE item SET name = 1 WHERE CURRENT OF c").before.empty());
}

TEST(Before, a_delete_follows_the_foreign_keys_level_by_level) {
    const CapturePlan erase = captured("DELETE FROM parent AS x USING item WHERE x.id = item.id");
    ASSERT_EQ(erase.before.size(), 3U);
    EXPECT_TRUE(erase.before[0].own_rows);
    EXPECT_EQ(erase.before[0].sql,
              "SELECT x.id FROM parent x, item WHERE x.id = item.id FOR UPDATE OF x");
    EXPECT_EQ(erase.before[1].table->name, "child");
    EXPECT_TRUE(erase.before[1].erases);
    EXPECT_FALSE(erase.before[1].own_rows);
    EXPECT_EQ(erase.before[1].sql,
              "SELECT \"id\" FROM ONLY \"public\".\"child\" WHERE (\"parent_id\") IN (SELECT x.id FROM "
              "parent x, item WHERE x.id = item.id) FOR UPDATE");
    EXPECT_EQ(erase.before[2].table->name, "grandchild");
    EXPECT_FALSE(erase.before[2].erases);
    EXPECT_EQ(erase.before[2].sql,
              "SELECT \"id\" FROM ONLY \"public\".\"grandchild\" WHERE (\"child_id\") IN (SELECT \"id\" "
              "FROM ONLY \"public\".\"child\" WHERE (\"parent_id\") IN (SELECT x.id FROM parent x, item "
              "WHERE x.id = item.id)) FOR UPDATE");
    for (const BeforeQuery& before : erase.before) {
        EXPECT_TRUE(parse_query(before.sql)->parsed) << before.sql;
    }
}

TEST(Before, an_update_of_a_referenced_column_refreshes_the_rows_that_follow_it) {
    const CapturePlan update = captured("UPDATE parent SET code = 2 WHERE id = 1");
    ASSERT_EQ(update.before.size(), 2U);
    EXPECT_FALSE(update.before[0].erases);
    EXPECT_TRUE(update.before[0].own_rows);
    EXPECT_EQ(update.before[1].table->name, "coded");
    EXPECT_FALSE(update.before[1].erases);
    EXPECT_TRUE(captured("UPDATE parent SET note = 2").before.empty());
}

TEST(Before, a_table_that_references_itself_is_followed_to_any_depth) {
    const CapturePlan erase = captured("DELETE FROM tree WHERE id = 1");
    ASSERT_EQ(erase.before.size(), 3U);
    EXPECT_NE(erase.before[1].sql.find("WITH RECURSIVE"), std::string::npos);
    EXPECT_EQ(erase.before[1].table->name, "tree");
    EXPECT_EQ(erase.before[2].table->name, "leafy");
    EXPECT_TRUE(parse_query(erase.before[2].sql)->parsed)
        << parse_query(erase.before[2].sql)->error;
}

TEST(Before, conditions_of_every_kind_survive_being_put_into_text_again) {
    for (const char* condition :
         {"id = ANY ($1)",
          "id IN (1, 2, 3)",
          "name BETWEEN 1 AND 2 OR NOT name IS NULL",
          "(id, name) = ($1, $2)",
          "name LIKE 'a\\%' ESCAPE '\\'",
          "name::text ~* E'\\\\d+\\n'",
          "name = CASE WHEN id > 1 THEN -1 ELSE +2 END",
          "EXISTS (SELECT 1 FROM pair WHERE a = id)",
          "id = (SELECT max(a) FROM pair GROUP BY b HAVING count(*) > 1 ORDER BY 1 LIMIT 1)",
          "name IS DISTINCT FROM 3",
          "data->>'a' = 'b' AND data @> '{\"a\": 1}'::jsonb",
          "at < now() - interval '1 day'",
          "at AT TIME ZONE 'UTC' > CURRENT_TIMESTAMP",
          "\"Odd \"\"Name\" = 1",
          "id IN (VALUES (1), (2))",
          "ARRAY[id, 2] && $1::int[]",
          "COALESCE(name, 1, NULLIF(id, 2)) = GREATEST(1, 2)",
          "(item).name = 1",
          "name COLLATE \"C\" = 'x' AND x IS NOT TRUE",
          "extract(day FROM at) = 1",
          "substring('a' FROM 1 FOR 2) = 'a' AND trim(both 'x' FROM 'y') = position('a' IN "
          "'b')::text",
          "name = 1e10 OR name = .5 OR name = B'101'::int OR name = X'1F'::int",
          "row_number = 1 AND overlay('a' PLACING 'b' FROM 1) = 'c'",
          "id = -(-1) AND id - -1 = 2",
          "\"select\" = 1 AND \"Mixed\".\"Case\"",
          "id OPERATOR(pg_catalog.=) 1"}) {
        const std::string sql = "UPDATE item SET id = 2 WHERE " + std::string(condition);
        Outcome outcome = plan(sql);
        if (auto* reason = std::get_if<NotCaptured>(&outcome); reason != nullptr) {
            EXPECT_EQ(reason->reason, "nothing") << sql;
        }
    }
}

struct ShadowCase {
    const char* sql;
    const char* reason;
};

TEST(Shadow, only_reads_that_repeat_exactly_are_compared) {
    static const Catalog catalog = sample_catalog();
    const ShadowCase cases[] = {
        {"SELECT * FROM item", ""},
        {"SELECT 1", ""},
        {"VALUES (1)", ""},
        {"SELECT count(*), sum(v) FROM pair JOIN item ON id = a GROUP BY b ORDER BY 1 LIMIT 3", ""},
        {"WITH w AS (TABLE item) SELECT upper(name) FROM w WHERE id = $1", ""},
        {"SHOW work_mem", "not_select"},
        {"EXPLAIN SELECT 1", "not_select"},
        {"INSERT INTO item VALUES (1)", "not_select"},
        {"SELECT * FROM item FOR UPDATE", "locks_rows"},
        {"SELECT * FROM item WHERE random() < 1", "volatile_function"},
        {"SELECT now()", "volatile_function"},
        {"SELECT CURRENT_DATE", "volatile_function"},
        {"SELECT nextval('s')", "volatile_function"},
        {"SELECT pg_advisory_lock(1)", "volatile_function"},
        {"SELECT user_volatile() FROM item", "volatile_function"},
        {"SELECT * FROM item TABLESAMPLE system (1)", "volatile_function"},
        {"SELECT current_setting('x')", "settings"},
        {"SELECT set_config('a', 'b', false)", "settings"},
        {"SELECT * FROM pg_class", "system_catalog"},
        {"SELECT * FROM information_schema.tables", "system_catalog"},
        {"SELECT * FROM scratch", "temporary_table"},
        {"SELECT * FROM item, pg_temp.x", "temporary_table"},
        {"SELECT * FROM nowhere", "unmirrored_table"},
        {"SELECT * FROM item_view", "unmirrored_table"},
        {"SELECT * FROM keyless", "unmirrored_table"},
        {"SELECT * FROM item LIMIT 1", "limit_without_order"},
        {"SELECT * FROM (SELECT * FROM item OFFSET 1) x", "limit_without_order"},
        {"SELECT string_agg(name, ',') FROM item", "unordered_aggregate"},
    };
    for (const ShadowCase& each : cases) {
        const auto query = parse_query(each.sql);
        ASSERT_TRUE(query->parsed) << each.sql;
        EXPECT_EQ(
            shadow_skip_reason(*query, query->statements[0], catalog, {"public"}, {"scratch"}),
            each.reason)
            << each.sql;
    }
}

TEST(MayWrite, a_read_may_write_through_a_volatile_function_of_a_user) {
    static const Catalog catalog = sample_catalog();
    const auto check = [](const char* sql) {
        return may_write(parse_query(sql)->statements.at(0), catalog);
    };
    EXPECT_TRUE(check("SELECT user_volatile()"));
    EXPECT_TRUE(check("SELECT * FROM s.USER_VOLATILE(1) x"));
    EXPECT_TRUE(check("SELECT query_to_xml('DELETE FROM t', true, true, '')"));
    EXPECT_TRUE(check("SELECT dblink_exec('', 'DELETE FROM t')"));
    EXPECT_FALSE(check("SELECT random(), nextval('s'), upper('a'), pg_sleep(1), lo_create(1)"));
}

}  // namespace
}  // namespace banyan::router
