#include "router/catalog/mapping_check.hpp"

#include <algorithm>

#include "router/catalog/catalog.hpp"

namespace banyan::router {
namespace {

constexpr const char* rows_table = "pg_temp.banyan_mapping";

std::string sql_name(const TableName& table) {
    return quote_identifier(table.schema) + "." + quote_identifier(table.name);
}

// What a client may have set, and what Banyan's own connections have. Literals are read when the
// expression is.
constexpr const char* other_settings =
    "SET LOCAL TimeZone = 'Asia/Tokyo'; SET LOCAL DateStyle = 'German, DMY';"
    "SET LOCAL IntervalStyle = 'sql_standard'; SET LOCAL lc_monetary = 'C';"
    "SET LOCAL standard_conforming_strings = off; SET LOCAL escape_string_warning = off;"
    "SET LOCAL transform_null_equals = on; SET LOCAL array_nulls = off;";
constexpr const char* own_settings =
    "SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, MDY';"
    "SET LOCAL IntervalStyle = 'postgres'; SET LOCAL standard_conforming_strings = on;"
    "SET LOCAL transform_null_equals = off; SET LOCAL array_nulls = on;";

/// Adds the expression to the table of rows and takes it away again; gives it as PostgreSQL has read it.
Result<Rows> as_read(Connection& connection, const ExpressionCheck& check,
                     const std::string& settings) {
    // By itself: a query string is taken apart into its literals before any of it runs.
    BANYAN_TRY(connection.exec(settings));
    BANYAN_TRY(connection.exec(std::string("ALTER TABLE ") + rows_table + " ADD COLUMN banyan_value " +
                               check.type_name + " GENERATED ALWAYS AS (" + check.expression.sql +
                               ") STORED"));
    auto read = connection.exec(
        std::string(own_settings) +
        "SELECT pg_catalog.pg_get_expr(adbin, adrelid) FROM pg_catalog.pg_attrdef"
        " WHERE adrelid = 'pg_temp.banyan_mapping'::pg_catalog.regclass");
    BANYAN_TRY(connection.exec(std::string("ALTER TABLE ") + rows_table + " DROP banyan_value"));
    return read;
}

/// Runs inside a savepoint that the caller rolls back. Empty: nothing is wrong.
std::string problem_of(Connection& connection, const ExpressionCheck& check) {
    // A statement's own error is its best explanation; a lost connection is found by the caller.
    auto made = connection.exec("CREATE TEMPORARY TABLE banyan_value ON COMMIT DROP AS SELECT " +
                                check.expression.sql + " AS value FROM " + rows_table +
                                " WITH NO DATA");
    if (!made) {
        return made.error().message;
    }
    auto type = connection.exec(
        "SELECT pg_catalog.format_type(atttypid, atttypmod) FROM pg_catalog.pg_attribute"
        " WHERE attrelid = 'pg_temp.banyan_value'::pg_catalog.regclass AND attnum = 1");
    if (!type) {
        return type.error().message;
    }
    if (const std::string found = type->text(0, 0); found != check.type_name) {
        return "is of type " + found + ", but " + check.type_name +
               " is wanted: write (...)::" + check.type_name;
    }
    const auto usual = as_read(connection, check, own_settings);
    if (!usual && usual.error().sqlstate == "42P17") {
        return "is not immutable: its value depends on the clock, on settings such as TimeZone or "
               "DateStyle, or on other rows; use functions of the row's columns only (as in "
               "at AT TIME ZONE 'UTC')";
    }
    if (!usual) {
        return usual.error().message;
    }
    const auto elsewhere = as_read(connection, check, other_settings);
    if (!elsewhere || elsewhere->view(0, 0) != usual->view(0, 0)) {
        return "has a literal that sessions read differently (TimeZone, DateStyle, "
               "standard_conforming_strings, ...); write it in full, as '2020-01-01 00:00+00', or "
               "E'\\\\' for a backslash";
    }
    return "";
}

}  // namespace

Result<void> check_expressions(Connection& connection, std::vector<ExpressionCheck*>& checks) {
    std::stable_sort(checks.begin(), checks.end(),
                     [](const auto* a, const auto* b) { return a->table < b->table; });
    for (auto first = checks.begin(); first != checks.end();) {
        const TableName& table = (*first)->table;
        const auto last = std::find_if(first, checks.end(),
                                       [&](const auto* check) { return check->table != table; });
        BANYAN_TRY(connection.exec("BEGIN"));
        auto rows = connection.exec(
            std::string("CREATE TEMPORARY TABLE banyan_mapping ON COMMIT DROP AS SELECT * FROM ") +
            sql_name(table) + " WITH NO DATA");
        for (; first != last; ++first) {
            if (!rows) {
                (*first)->problem = "cannot be tried: " + rows.error().message;
                continue;
            }
            BANYAN_TRY(connection.exec("SAVEPOINT banyan_expression"));
            (*first)->problem = problem_of(connection, **first);
            BANYAN_TRY(connection.exec("ROLLBACK TO SAVEPOINT banyan_expression"));
        }
        connection.rollback();
        if (!connection.alive()) {
            return Error{"the connection was lost", ""};
        }
    }
    return {};
}

}  // namespace banyan::router
