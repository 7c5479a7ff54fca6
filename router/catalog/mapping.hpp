// The SQL that reads a table's rows as they are, or should be, on the mirror. Everything that reads or
// compares rows (backfill, repair, verification) uses these, on either side, and so sees the same
// column names and values on both. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "router/catalog/catalog.hpp"

namespace banyan::router {

/// A FROM item, `... AS t`, whose columns are those of table.on_mirror(): ONLY "s"."t" AS t, or for a
/// mapped table a sub-select that maps and filters.
std::string primary_rows(const Table& table);
/// The same rows as they are on the mirror.
std::string mirror_rows(const Table& table);
/// The values of one row of the primary, for a SELECT or RETURNING with the row under `qualifier`
/// ("" where its bare names are in scope). A row that does not pass the filter yields NULLs: its
/// expressions are not evaluated.
std::vector<std::string> row_values(const Mapping& mapping, const std::string& qualifier);
/// The filter in the same place; nullopt: every row passes.
std::optional<std::string> row_passes(const Mapping& mapping, const std::string& qualifier);

/// `expression` over a row under `qualifier`, whatever other names are in scope there.
std::string over_row(const RowExpression& expression, const std::string& qualifier);

/// The primary's SELECT for Mapping::combined: rows of `tables` (each the one side of one rule of a
/// split, with its mapping to the one mirror), joined by key.
std::string combined_rows(const std::vector<std::shared_ptr<const Table>>& tables);

/// Mapping::reverse_check for the source's table of `forward` (one Table for each rule), `backward`
/// parallel to it: the same rules turned round.
std::string reverse_check(const std::vector<std::shared_ptr<const Table>>& forward,
                          const std::vector<std::shared_ptr<const Table>>& backward);

}  // namespace banyan::router
