#include "router/sql/expression.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace banyan::router {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Expression, names_its_columns_once_each_and_tells_plain_ones) {
    const auto email = read_expression("lower(email) || coalesce(\"Odd \"\"x\", email)");
    ASSERT_TRUE(email) << email.error().message;
    EXPECT_THAT(email->columns, ElementsAre("email", "Odd \"x"));
    EXPECT_FALSE(email->plain);

    const auto plain = read_expression(" Email ");
    ASSERT_TRUE(plain);
    EXPECT_TRUE(plain->plain);
    EXPECT_EQ(plain->sql, "\"email\"");

    const auto constant = read_expression("'shop'::text");
    ASSERT_TRUE(constant);
    EXPECT_TRUE(constant->columns.empty());
    EXPECT_FALSE(constant->plain);
}

TEST(Expression, a_comment_cannot_swallow_what_stands_behind_it) {
    const auto expression = read_expression("a -- the rest");
    ASSERT_TRUE(expression);
    EXPECT_EQ(expression->sql, "\"a\"");
    const auto computed = read_expression("a + 1 -- the rest");
    ASSERT_TRUE(computed);
    EXPECT_EQ(computed->sql, "(\na + 1 -- the rest\n)");
}

struct Refused {
    const char* name;
    const char* sql;
    const char* why;
};

TEST(Expression, what_is_no_expression_over_one_row_is_refused_with_its_reason) {
    const Refused cases[] = {
        {"nothing", " \n", "is empty"},
        {"no SQL", "lower(", "is not an SQL expression: syntax error"},
        {"two expressions", "a), (b", "is not one SQL expression"},
        {"two statements", "a); DROP TABLE t; SELECT (1", "is not one SQL expression"},
        {"another clause", "a) FROM t WHERE (true", "is not one SQL expression"},
        {"an alias", "a) AS \"x\" --", "is not"},
        {"a sub-select", "(select max(x) from t)", "sub-select"},
        {"an array of a sub-select", "array(select x from t)", "sub-select"},
        {"EXISTS", "exists (select 1)", "sub-select"},
        {"a parameter", "a + $1", "parameter"},
        {"a table's column", "t.a", "bare name"},
        {"the whole row", "lower(t.*)", "bare name"},
        {"an aggregate with DISTINCT", "count(distinct a)", "aggregate"},
        {"count(*)", "count(*)", "aggregate"},
        {"a window", "rank() over ()", "window"},
        {"the clock", "coalesce(a, current_timestamp)", "the clock"},
        {"the clock in a literal", "'now'::timestamptz", "the clock"},
        {"the session", "current_user", "the session"},
        {"a system column", "ctid::text", "where the row is stored"},
    };
    for (const Refused& it : cases) {
        const auto expression = read_expression(it.sql);
        ASSERT_FALSE(expression) << it.name << ": " << expression->sql;
        EXPECT_THAT(expression.error().message, HasSubstr(it.why)) << it.name;
    }
    EXPECT_FALSE(read_expression(std::string(20'000, '(')));
    EXPECT_FALSE(read_expression(std::string("a\0b", 3)));
}

}  // namespace
}  // namespace banyan::router
