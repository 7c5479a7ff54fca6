// The pieces of SQL that backfill and verification share: how a table's key and its rows are written
// in a statement. Every literal carries its column's type, every name its schema. The rows come from
// primary_rows() and mirror_rows() (router/catalog/mapping.hpp), which give them the same names on both
// sides: those of Table::on_mirror(), and that is the table to pass here. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "router/catalog/catalog.hpp"
#include "router/catalog/mapping.hpp"
#include "router/pg/connection.hpp"

namespace banyan::router {

/// A key's columns as text under Connection's fixed settings, in key order.
using KeyText = std::vector<std::string>;

/// `"a", "b"`, each after `prefix`.
std::string column_list(const Table& table, const std::vector<std::size_t>& columns,
                        std::string_view prefix = "");
/// The columns of a row image, and key columns that are generated, in column order.
std::vector<std::size_t> copied_columns(const Table& table);
/// `("a", "b") > ('1'::integer, 'x'::text)`; `comparison` is an operator.
std::string key_compare(const Table& table, std::string_view comparison, const KeyText& key);
/// `low < key AND key <= high` as a WHERE clause with a leading space; an empty bound is open.
std::string key_range(const Table& table, const KeyText& low, const KeyText& high);
/// `"a" >= '1'::integer AND "a" <= '9'::integer`, of the leading key column.
std::string key_between(const Table& table, const std::string& low, const std::string& high);
/// `(i, "k1", "k2")` rows: VALUES (0, '1'::integer, ...), ... for a join by key.
std::string key_values(const Table& table, const std::vector<KeyText>& keys);
/// `t."k1" = v.k1 AND ...` for key_values() AS v(key_aliases()).
std::string key_join(const Table& table);
/// `i, k1, k2`
std::string key_aliases(const Table& table);
/// A 64-bit digest of the row image, alike on both sides.
std::string row_hash(const Table& table, std::string_view prefix = "");
/// Reads key columns from binary results.
RowKey row_key(const Table& table, const Rows& rows, int row, int first_column);
/// "id=7, part=2"
std::string printable_key(const Table& table, const KeyText& key);

/// Splits one line of COPY's text format and undoes its escapes; NULL becomes an empty string
/// (key columns are never NULL).
std::vector<std::string> split_copy_line(std::string_view line);

/// How a statement's failure is to be dealt with.
enum class Failure {
    lost,        ///< the connection or the server went away: connect again
    contention,  ///< a lock or a serialization conflict: again, with less
    data,        ///< a row that the database refuses
    other,       ///< will not get better by itself
};
Failure classify_failure(const Error& error, const Connection& connection);

}  // namespace banyan::router
