// The kind of a statement, from its parse tree's top node.
#pragma once

#include "router/sql/statement.hpp"
#include "router/sql/tree.hpp"

namespace banyan::router {

/// Fills what depends on the top node: kind, inner, target and the members that belong to one kind.
/// `modifying_with`: the statement has a data-modifying WITH (see collect.hpp).
void classify(const PgQuery__Node& top, bool modifying_with, Statement& statement);

}  // namespace banyan::router
