// Statements that write a table on both sides alike without its rows being looked at: COPY FROM
// STDIN, whose data goes to both, and TRUNCATE. Pure.
#pragma once

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "router/sql/capture.hpp"
#include "router/sql/statement.hpp"

namespace banyan::router {

/// The client's copy data is the mirror's too.
struct CopyPlan {
    std::shared_ptr<const Table> table;
    std::string sql;  ///< the mirror's COPY: the table with its schema, every column by name
};

/// For a COPY FROM STDIN into `found`, whose rows must follow from the data alone: no trigger, and
/// no omitted column that the two servers may fill in differently. Why not, otherwise:
/// "copy_into_partition", "copy_where", "copy_option", "copy_columns", "copy_default",
/// "copy_binary_type", "copy_fragile_type", "row_security", or why the table is not captured.
std::variant<CopyPlan, NotCaptured> plan_copy(const ParsedQuery& query, const Statement& statement,
                                              const Catalog::Found& found);

struct TruncatePlan {
    std::vector<std::shared_ptr<const Table>> tables;
    std::string sql;  ///< the mirror's TRUNCATE, with schemas and under its names
};

/// For a TRUNCATE of captured tables, named by themselves and without CASCADE or triggers. Why not,
/// otherwise: "truncate_cascade", "truncate_partition", "truncate_with_triggers", "truncate", "truncate_mapped" (no
/// statement on the mirror would remove exactly these rows).
std::variant<TruncatePlan, NotCaptured> plan_truncate(const ParsedQuery& query,
                                                      const Statement& statement,
                                                      const Catalog& catalog,
                                                      const std::vector<std::string>& search_path);

}  // namespace banyan::router
