// The SQL expressions of a mapping: one expression over one row, without anything that is not in that
// row. Purely syntactic: whether its columns and functions exist, and whether its value is always the
// same, is asked of the database (router/catalog/mapping_check.hpp).
#pragma once

#include <string_view>

#include "router/catalog/mapping_rule.hpp"
#include "router/model/result.hpp"

namespace banyan::router {

/// The Error says what is wrong and what to write instead: not one expression, a sub-select, a
/// parameter, a qualified or system column, an aggregate or window call, DEFAULT, a clock.
Result<RowExpression> read_expression(std::string_view text);

}  // namespace banyan::router
