// How deep a query nests, told without parsing it, and a thread with stack enough to parse it.
// libpg_query builds and copies its trees by recursion and does not check the stack (its
// stack_base_ptr is never set): "SELECT 1+1+1+..." or nested sub-selects of a few thousand levels
// would overflow the stack and take the process down.
#pragma once

#include <cstddef>
#include <functional>
#include <string_view>

namespace banyan::router {

/// An upper bound of the depth of the tree that PostgreSQL's grammar makes of `sql`, read from
/// its tokens alone. Long lists and chains of AND or OR do not count: the grammar keeps them flat.
std::size_t nesting_bound(std::string_view sql);

/// Queries whose bound is higher are not parsed at all.
inline constexpr std::size_t max_nesting = 4000;

/// Runs `work` (which parses `sql` and recurses over its tree) where its stack suffices: in place,
/// or for deep queries on a thread of its own. False, and not run, if the query is too deep or no
/// thread could be had.
bool with_stack_for(std::string_view sql, const std::function<void()>& work);

}  // namespace banyan::router
