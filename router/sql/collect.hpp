// Gathers what a statement names (relations, functions, parameters, row locks) by visiting every
// node of its tree.
#pragma once

#include "router/sql/statement.hpp"
#include "router/sql/tree.hpp"

namespace banyan::router {

struct Collected {
    bool parameters = false;      ///< $1 and the like
    bool modifying_with = false;  ///< a data-modifying statement below the top one
};

/// Fills `statement`'s tables, functions, locks_rows, volatile_syntax, unordered and returns the
/// rest. Names of common table expressions are no tables where they are in scope.
Collected collect(const PgQuery__Node& top, Statement& statement);

/// The same for a part of a statement: whether evaluating it once more may give another result
/// (volatile functions of users are asked of `catalog`).
bool repeats_exactly(const ProtobufCMessage& part, const Catalog& catalog);

RangeName range_name(const PgQuery__RangeVar& relation);

}  // namespace banyan::router
