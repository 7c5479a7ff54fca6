#include "router/sql/nesting.hpp"

#include <gtest/gtest.h>
#include <pthread.h>

#include <functional>
#include <random>

#include "router/sql/statement.hpp"

namespace banyan::router {
namespace {

std::string repeated(std::string_view text, std::size_t times) {
    std::string result;
    result.reserve(text.size() * times);
    for (std::size_t i = 0; i < times; ++i) {
        result += text;
    }
    return result;
}

/// A query that nests `n` levels deep in one way.
struct Shape {
    const char* name;
    std::string (*query)(std::size_t n);
};

const Shape shapes[] = {
    {"sums", [](std::size_t n) { return "SELECT 1" + repeated("+1", n); }},
    {"signs", [](std::size_t n) { return "SELECT " + repeated("- ", n) + "1"; }},
    {"negations", [](std::size_t n) { return "SELECT " + repeated("NOT ", n) + "true"; }},
    {"casts", [](std::size_t n) { return "SELECT 1" + repeated("::int", n); }},
    {"collations", [](std::size_t n) { return "SELECT a" + repeated(" COLLATE \"C\"", n); }},
    {"time zones", [](std::size_t n) { return "SELECT a" + repeated(" AT TIME ZONE 'x'", n); }},
    {"parentheses",
     [](std::size_t n) { return "SELECT " + repeated("(", n) + "1" + repeated(")", n); }},
    {"sub-selects",
     [](std::size_t n) { return repeated("SELECT (", n) + "SELECT 1" + repeated(")", n); }},
    {"from sub-selects",
     [](std::size_t n) {
         return repeated("SELECT * FROM (", n) + "SELECT 1" + repeated(") x", n);
     }},
    {"functions",
     [](std::size_t n) { return "SELECT " + repeated("f(", n) + "1" + repeated(")", n); }},
    {"arrays",
     [](std::size_t n) { return "SELECT ARRAY" + repeated("[", n) + "1" + repeated("]", n); }},
    {"cases",
     [](std::size_t n) {
         return "SELECT " + repeated("CASE WHEN a AND ", n) + "true" + repeated(" THEN 1 END", n);
     }},
    {"else cases",
     [](std::size_t n) {
         return "SELECT " + repeated("CASE WHEN a THEN b ELSE ", n) + "1" + repeated(" END", n);
     }},
    {"unions", [](std::size_t n) { return "SELECT 1" + repeated(" UNION SELECT a, b", n); }},
    {"joins", [](std::size_t n) { return "SELECT 1 FROM t" + repeated(" JOIN t ON a AND b", n); }},
    {"betweens", [](std::size_t n) { return "SELECT a" + repeated(" BETWEEN 1 AND NOT a", n); }},
    {"withs",
     [](std::size_t n) {
         return repeated("WITH a AS (", n) + "SELECT 1" + repeated(") SELECT 1", n);
     }},
    {"escape strings that hold a quote",
     [](std::size_t n) { return "SELECT E'\\'" + std::string("'") + repeated("+1", n); }},
    {"escape strings that go on",
     [](std::size_t n) { return "SELECT E'a'\n'\\''" + repeated("+1", n) + "+'" + "'"; }},
    {"case in comments",
     [](std::size_t n) { return "SELECT /* ' */ 1" + repeated("+ -- '\n1", n); }},
    {"operators of users", [](std::size_t n) { return "SELECT 1" + repeated(" @#% 1", n); }},
    {"mixed",
     [](std::size_t n) { return "SELECT " + repeated("NOT (a = -", n) + "1" + repeated(")", n); }},
};

/// Runs `work` on a thread with a stack of that size: an overflow ends the test program.
void on_stack(std::size_t bytes, const std::function<void()>& work) {
    pthread_attr_t attributes;
    ASSERT_EQ(pthread_attr_init(&attributes), 0);
    ASSERT_EQ(pthread_attr_setstacksize(&attributes, bytes), 0);
    pthread_t thread{};
    auto copy = work;
    ASSERT_EQ(pthread_create(
                  &thread, &attributes,
                  +[](void* argument) -> void* {
                      (*static_cast<std::function<void()>*>(argument))();
                      return nullptr;
                  },
                  &copy),
              0);
    pthread_join(thread, nullptr);
    pthread_attr_destroy(&attributes);
}

TEST(Nesting, no_shape_of_query_overflows_a_small_stack) {
    for (const Shape& shape : shapes) {
        for (const std::size_t n : {10U, 44U, 60U, 300U, 1000U, 3000U, 5000U, 40000U}) {
            SCOPED_TRACE(shape.name + std::string(" ") + std::to_string(n));
            const std::string sql = shape.query(n);
            on_stack(std::size_t{1} << 20U, [&] {
                const auto query = parse_query(sql);
                fingerprint(sql);
                normalize(sql);
                EXPECT_EQ(query->parsed, !query->statements.empty());
            });
        }
    }
}

TEST(Nesting, a_megabyte_of_open_brackets_is_refused_quietly) {
    for (const char* text : {"(",     "[",  "CASE ", "NOT ", "-",  "a+",     "SELECT(", "f(", "'",
                             "E'\\'", "/*", "$$",    "$a$",  "\"", "UNION ", "x=",      "{",  "\\",
                             "\xff",  "+",  "/**/",  "+-",   "a,", "(1),",   "/*/**/ "}) {
        const std::string sql =
            repeated(text, (max_sql_bytes - 16) / std::string_view(text).size());
        parse_query(sql);
        parse_query("SELECT " + sql);
    }
}

TEST(Nesting, moderate_depth_is_parsed) {
    for (const Shape& shape : shapes) {
        const auto query = parse_query(shape.query(200));
        // NOT behind BETWEEN ... AND and the like need not be valid SQL; deep must not be why.
        EXPECT_EQ(query->error.find("nested"), std::string::npos) << shape.name;
    }
    EXPECT_TRUE(parse_query(shapes[0].query(1500))->parsed);
}

TEST(Nesting, long_flat_queries_are_not_deep) {
    EXPECT_LT(
        nesting_bound("INSERT INTO t VALUES " + repeated("(1, -2, 'a'), ", 10000) + "(1,2,3)"),
        10U);
    EXPECT_LT(
        nesting_bound("SELECT * FROM t WHERE a = 0" + repeated(" OR (a = 1 AND b > -2)", 9000)),
        10U);
    EXPECT_LT(nesting_bound("SELECT * FROM t WHERE a IN (0" + repeated(", 1", 90000) + ")"), 10U);
    EXPECT_TRUE(parse_query("INSERT INTO t VALUES " + repeated("(1, -2, 'a'), ", 10000) + "(1,2,3)")
                    ->parsed);
}

TEST(Nesting, damaged_queries_never_crash_the_parser) {
    std::mt19937 random(7);
    const std::string alphabet = "()[]'\"$-+*/;,.: \nEeaN\\1\xc3\x28";
    const std::string seed =
        "WITH a AS (SELECT E'x\\'' || $1 FROM \"t\" WHERE b BETWEEN 1 AND 2) UPDATE t SET a = CASE "
        "WHEN x THEN $$y$$ END WHERE id IN (TABLE a) RETURNING *";
    for (int i = 0; i < 20000; ++i) {
        std::string sql = seed;
        const int edits = static_cast<int>(random() % 6) + 1;
        for (int edit = 0; edit < edits; ++edit) {
            const std::size_t at = random() % sql.size();
            switch (random() % 3) {
                case 0:
                    sql[at] = alphabet[random() % alphabet.size()];
                    break;
                case 1:
                    sql.erase(at, 1 + random() % 5);
                    break;
                default:
                    sql.insert(at, 1, static_cast<char>(random() % 255 + 1));
                    break;
            }
            if (sql.empty()) {
                break;
            }
        }
        const auto query = parse_query(sql);
        for (const Statement& statement : query->statements) {
            ASSERT_LE(statement.begin, statement.end);
            ASSERT_LE(statement.end, query->sql.size());
        }
    }
}

}  // namespace
}  // namespace banyan::router
