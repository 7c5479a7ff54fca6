// Asks a database about the expressions of mappings: do they exist there, of which type are they, and
// does their value follow from the row alone?
#pragma once

#include <string>
#include <vector>

#include "router/catalog/mapping_rule.hpp"
#include "router/pg/connection.hpp"

namespace banyan::router {

struct ExpressionCheck {
    TableName table;           ///< over whose row
    RowExpression expression;
    std::string type_name;     ///< wanted, as format_type() writes it
    std::string problem;       ///< the answer: empty, or what is wrong and what to write
};

/// PostgreSQL itself decides, by its rules for generated columns: no sub-selects, aggregates or window
/// calls, and nothing but immutable functions; and literals that mean the same under any session's
/// settings. Each table is copied, empty and without constraints, to
/// a temporary one, in a transaction that is rolled back. Error: the connection failed.
Result<void> check_expressions(Connection& connection, std::vector<ExpressionCheck*>& checks);

}  // namespace banyan::router
