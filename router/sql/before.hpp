// The queries that run before an UPDATE or DELETE, where RETURNING cannot show which rows it will
// touch: the keys that an UPDATE replaces, and the rows that foreign keys carry along.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "router/sql/capture.hpp"

namespace banyan::router {

/// Every table that a write to `table` may change through foreign keys, itself included.
std::vector<std::shared_ptr<const Table>> reachable_tables(
    const Catalog& catalog, const std::shared_ptr<const Table>& table);

/// True if the columns named are part of `table`'s key.
bool touches_key(const Table& table, const std::vector<std::string>& columns);

/// True if changing `columns` of `table` (or deleting its rows, if `erases`) changes rows
/// elsewhere.
bool cascades(const Table& table, const std::vector<std::string>& columns, bool erases);

/// For one UPDATE or DELETE of `table`. Empty if RETURNING shows everything.
std::variant<std::vector<BeforeQuery>, NotCaptured> before_queries(
    const ParsedQuery& query, const Statement& statement, const Catalog& catalog,
    const std::string& role, const std::shared_ptr<const Table>& table);

}  // namespace banyan::router
