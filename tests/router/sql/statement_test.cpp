#include "router/sql/statement.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace banyan::router {
namespace {

using testing::ElementsAre;
using testing::UnorderedElementsAre;

Statement only(const std::string& sql) {
    const auto query = parse_query(sql);
    EXPECT_TRUE(query->parsed) << sql << ": " << query->error;
    EXPECT_EQ(query->statements.size(), 1U) << sql;
    return query->statements.empty() ? Statement{} : query->statements[0];
}

std::vector<std::string> table_names(const std::string& sql) {
    std::vector<std::string> names;
    for (const RangeName& name : only(sql).tables) {
        names.push_back(name.schema.empty() ? name.name : name.schema + "." + name.name);
    }
    return names;
}

TEST(ParseQuery, a_query_of_nothing_has_no_statements) {
    for (const char* sql :
         {"", " ", "\n\t", ";", ";;", " ; ; ", "-- note", "/* a /* b */ c */", "-- a\n;-- b\n"}) {
        const auto query = parse_query(sql);
        EXPECT_TRUE(query->parsed) << sql;
        EXPECT_TRUE(query->statements.empty()) << sql;
    }
}

TEST(ParseQuery, what_the_grammar_cannot_read_is_said_to_be_unparsed) {
    for (const char* sql : {"SELEC 1", "SELECT 'abc", "SELECT \"abc", "SELECT $x$abc", "/* open",
                            "SELECT (", "INSERT INTO", "SELECT 1; BOGUS", "\xff\xfe", "E'\\",
                            "SELECT 1 FROM t LIMIT 1, 2", "\\"}) {
        const auto query = parse_query(sql);
        EXPECT_FALSE(query->parsed) << sql;
        EXPECT_FALSE(query->error.empty()) << sql;
        EXPECT_TRUE(query->statements.empty()) << sql;
    }
}

TEST(ParseQuery, extents_leave_out_white_space_and_semicolons_but_keep_comments) {
    const std::string sql = "  SELECT 1 ;\n/* hint */ UPDATE t SET a = 2 -- why\n; DELETE FROM t  ";
    const auto query = parse_query(sql);
    std::vector<std::string> texts;
    for (const Statement& statement : query->statements) {
        texts.push_back(sql.substr(statement.begin, statement.end - statement.begin));
    }
    EXPECT_THAT(texts,
                ElementsAre("SELECT 1", "/* hint */ UPDATE t SET a = 2 -- why", "DELETE FROM t"));
}

TEST(ParseQuery, semicolons_inside_other_things_end_nothing) {
    const auto query = parse_query("SELECT ';', $$;$$, \";\" /* ; */ -- ;\n;SELECT 2");
    EXPECT_EQ(query->statements.size(), 2U);
}

TEST(ParseQuery, text_behind_a_nul_is_not_read) {
    const auto query = parse_query(std::string_view("SELECT 1\0garbage", 16));
    EXPECT_TRUE(query->parsed);
    EXPECT_EQ(query->sql, "SELECT 1");
}

TEST(ParseQuery, a_query_beyond_the_limit_is_not_read) {
    const std::string sql = "SELECT '" + std::string(max_sql_bytes, 'x') + "'";
    EXPECT_FALSE(parse_query(sql)->parsed);
    EXPECT_EQ(fingerprint(sql), "");
    EXPECT_EQ(normalize(sql), "");
}

TEST(ParseQuery, parameters_are_noticed_anywhere) {
    EXPECT_TRUE(parse_query("SELECT * FROM t WHERE a IN (SELECT $1::int)")->has_parameters);
    EXPECT_TRUE(parse_query("SELECT 1; SELECT 1 LIMIT $2")->has_parameters);
    EXPECT_FALSE(parse_query("SELECT '$1'")->has_parameters);
}

struct TablesCase {
    const char* name;
    const char* sql;
    std::vector<std::string> tables;
};

TEST(Tables, relations_are_found_wherever_they_stand) {
    const TablesCase cases[] = {
        {"joins", "SELECT * FROM a JOIN s.b ON true, c", {"a", "s.b", "c"}},
        {"sub-selects", "SELECT (SELECT 1 FROM b) FROM a WHERE EXISTS (TABLE c)", {"b", "a", "c"}},
        {"a with name is no table", "WITH w AS (SELECT * FROM a) SELECT * FROM w", {"a"}},
        {"a with name does not see itself", "WITH a AS (SELECT * FROM a) SELECT * FROM a", {"a"}},
        {"but a recursive one does",
         "WITH RECURSIVE w AS (SELECT 1 UNION ALL SELECT * FROM w JOIN a ON true) TABLE w",
         {"a"}},
        {"a with name is seen by later ones",
         "WITH v AS (TABLE a), w AS (TABLE v) SELECT * FROM w",
         {"a"}},
        {"a schema makes it a table", "WITH w AS (TABLE a) SELECT * FROM s.w", {"a", "s.w"}},
        {"a with name ends with its query",
         "SELECT * FROM (WITH w AS (TABLE a) TABLE w) x, w",
         {"a", "w"}},
        {"a written table is never a with name",
         "WITH t AS (SELECT 1) INSERT INTO t SELECT * FROM t",
         {"t"}},
        {"update with from", "UPDATE a SET x = 1 FROM b WHERE c IN (TABLE d)", {"a", "b", "d"}},
        {"delete with using", "DELETE FROM a USING b", {"a", "b"}},
        {"insert with select", "INSERT INTO a SELECT * FROM b", {"a", "b"}},
        {"locked names are aliases", "SELECT * FROM a x FOR UPDATE OF x", {"a"}},
        {"truncate", "TRUNCATE a, s.b", {"a", "s.b"}},
        {"copy", "COPY s.a FROM STDIN", {"s.a"}},
        {"drop", "DROP TABLE a, s.b", {"a", "s.b"}},
        {"lateral functions", "SELECT * FROM a, LATERAL f((SELECT 1 FROM b)) g", {"a", "b"}},
        {"tablesample", "SELECT * FROM a TABLESAMPLE system (1)", {"a"}},
        {"each once", "SELECT * FROM a JOIN a ON true", {"a"}},
    };
    for (const TablesCase& each : cases) {
        EXPECT_THAT(table_names(each.sql), testing::UnorderedElementsAreArray(each.tables))
            << each.name;
    }
}

TEST(StatementFacts, functions_are_named_without_schema_in_lower_case_and_once) {
    const Statement s = only(
        "SELECT Pg_Catalog.NOW(), a.\"Mixed\"(1), count(*) FILTER (WHERE f(1)) OVER (ORDER BY "
        "g(2)), now() FROM h() x ORDER BY extract(day FROM i())");
    EXPECT_THAT(s.functions,
                UnorderedElementsAre("now", "mixed", "count", "f", "g", "h", "i", "extract"));
}

TEST(StatementFacts, a_call_names_its_procedure) {
    EXPECT_THAT(only("CALL s.P(1)").functions, ElementsAre("p"));
}

TEST(StatementFacts, an_update_lists_the_columns_it_assigns) {
    EXPECT_THAT(
        only("UPDATE s.t AS x SET a = 1, (b, \"C\") = (SELECT 1, 2), d[1] = 2, e.f = 3").assigned,
        ElementsAre("a", "b", "C", "d", "e"));
    EXPECT_EQ(only("UPDATE s.t AS x SET a = 1").target, (RangeName{"s", "t", "x"}));
}

TEST(StatementFacts, an_upsert_lists_what_its_conflict_part_assigns) {
    const Statement s =
        only("INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 1, c = 2 RETURNING a");
    EXPECT_TRUE(s.on_conflict_update);
    EXPECT_TRUE(s.returning);
    EXPECT_THAT(s.conflict_assigned, ElementsAre("b", "c"));
    EXPECT_FALSE(only("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING").on_conflict_update);
}

TEST(StatementFacts, names_order_and_limits_are_read) {
    EXPECT_EQ(only("SAVEPOINT \"My s\"").name, "My s");
    EXPECT_EQ(only("PREPARE TRANSACTION 'gid 1'").name, "gid 1");
    EXPECT_EQ(only("SET LOCAL TimeZone = 'UTC'").name, "timezone");
    EXPECT_TRUE(only("SET LOCAL a.b = 'UTC'").local);
    EXPECT_EQ(only("RESET ALL").name, "all");
    EXPECT_EQ(only("SET ROLE x").name, "role");
    EXPECT_EQ(only("DISCARD SEQUENCES").name, "sequences");
    EXPECT_EQ(only("EXECUTE p(1)").name, "p");
    EXPECT_TRUE(only("COMMIT AND CHAIN").chain);
    EXPECT_TRUE(only("SELECT 1 ORDER BY 1").order_by);
    EXPECT_TRUE(only("SELECT 1 FETCH FIRST ROW ONLY").limit);
    EXPECT_TRUE(only("SELECT 1 OFFSET 1").limit);
    EXPECT_TRUE(only("SELECT * FROM (SELECT 1 FROM t FOR SHARE) x").locks_rows);
    EXPECT_TRUE(only("COPY t FROM STDIN").from_stdin);
    EXPECT_FALSE(only("COPY t FROM PROGRAM 'x'").from_client);
    EXPECT_TRUE(only("COPY t TO STDOUT").from_client);
    EXPECT_EQ(only("PREPARE p AS DELETE FROM t").inner, StatementKind::erase);
    EXPECT_EQ(only("DELETE FROM t").inner, StatementKind::erase);
}

TEST(StatementFacts, temporary_relations_are_told_apart) {
    for (const char* sql :
         {"CREATE TEMP TABLE t (a int)", "CREATE TABLE pg_temp.t (a int)", "SELECT 1 INTO TEMP t",
          "CREATE TEMP TABLE t AS SELECT 1", "CREATE TEMP VIEW t AS SELECT 1",
          "CREATE TEMPORARY SEQUENCE t", "SELECT 1 INTO TEMP t UNION SELECT 2"}) {
        EXPECT_TRUE(only(sql).temporary) << sql;
        EXPECT_EQ(only(sql).target.name, "t") << sql;
    }
    EXPECT_FALSE(only("CREATE UNLOGGED TABLE t (a int)").temporary);
}

TEST(StatementFacts, syntax_that_two_servers_answer_differently_is_noticed) {
    for (const char* sql : {"SELECT CURRENT_TIMESTAMP", "SELECT current_user", "SELECT ctid FROM t",
                            "SELECT t.xmin FROM t", "SELECT 'now'::timestamp",
                            "SELECT date ' Today '", "SELECT * FROM t TABLESAMPLE system (1)"}) {
        EXPECT_TRUE(only(sql).volatile_syntax) << sql;
    }
    EXPECT_FALSE(only("SELECT 'nowhere'::text, a FROM t").volatile_syntax);
}

TEST(StatementFacts, choices_left_to_the_server_are_noticed) {
    EXPECT_TRUE(only("SELECT * FROM (SELECT * FROM t LIMIT 1) x").unordered_choice);
    EXPECT_TRUE(only("SELECT DISTINCT ON (a) * FROM t").unordered_choice);
    EXPECT_FALSE(only("SELECT DISTINCT a FROM t").unordered_choice);
    EXPECT_FALSE(only("SELECT DISTINCT ON (a) * FROM t ORDER BY a").unordered_choice);
    EXPECT_TRUE(only("SELECT array_agg(a) FROM t").unordered_aggregate);
    EXPECT_FALSE(only("SELECT array_agg(a ORDER BY a) FROM t").unordered_aggregate);
}

TEST(Fingerprint, constants_make_no_difference_and_names_do) {
    EXPECT_EQ(fingerprint("SELECT 1 FROM t"), fingerprint("select  2 from t"));
    EXPECT_NE(fingerprint("SELECT 1 FROM t"), fingerprint("SELECT 1 FROM u"));
    EXPECT_EQ(fingerprint("SELEC"), "");
    EXPECT_EQ(normalize("SELECT 'secret' FROM t WHERE a = 5"), "SELECT $1 FROM t WHERE a = $2");
    EXPECT_EQ(normalize("SELEC"), "");
}

TEST(ParseQuery, many_threads_parse_at_once) {
    std::vector<std::thread> threads;
    std::atomic<int> wrong = 0;
    for (int t = 0; t < 8; ++t) {
        threads.emplace_back([&wrong, t] {
            for (int i = 0; i < 300; ++i) {
                const std::string table = "t" + std::to_string(t * 1000 + i);
                const auto query = parse_query("SELECT f($1) FROM " + table + "; SELEC");
                const auto good = parse_query("SELECT f($1) FROM " + table);
                if (query->parsed || !good->parsed || good->statements[0].tables[0].name != table) {
                    ++wrong;
                }
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace banyan::router
