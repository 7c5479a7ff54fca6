// How a write's effect is learned: the statement rewritten with a RETURNING list that yields the
// key and the mapped columns, and the queries to run before it where RETURNING cannot see enough
// (a changed key, rows that a foreign key cascades to). Pure.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "router/catalog/catalog.hpp"
#include "router/sql/statement.hpp"

namespace banyan::router {

enum class WriteOp : std::uint8_t { insert, update, erase };

/// Run on the primary, in the same transaction, before the statement itself, with the statement's
/// own parameters. Locks and yields the keys (binary, key order) of rows of `table` which the
/// statement will delete there (`erases`) or change in a way not seen by RETURNING (`!erases`).
struct BeforeQuery {
    std::string sql;
    std::shared_ptr<const Table> table;
    bool erases = false;
    /// The statement's own target rows (the first query, if any): its number of distinct keys
    /// (FROM and USING may yield a row twice) must equal the number of rows the statement then
    /// returns, else rows slipped in between.
    bool own_rows = false;
};

/// A value of a mapped table's row image, evaluated on the primary in the statement itself.
struct MappedValue {
    std::string sql;
    bool binary = false;
};

/// Where the row image of one of the mirror's tables stands among the captured values.
struct CapturedImage {
    std::shared_ptr<const Table> table;
    std::size_t first = 0;              ///< of its columns, in image order
    std::size_t count = 0;              ///< 0: none is needed, or none can be carried
    std::optional<std::size_t> passes;  ///< a boolean in binary: the row belongs to that table
    bool key_only = false;              ///< its key is made dirty instead
};

struct CapturePlan {
    WriteOp op = WriteOp::insert;
    std::shared_ptr<const Table> table;
    std::string sql;                   ///< the statement with the captured columns appended
    bool may_update = false;           ///< INSERT ... ON CONFLICT DO UPDATE
    bool client_returning = false;     ///< the client asked for rows itself
    std::vector<std::size_t> columns;  ///< captured, as indexes into table->columns, in the order
                                       ///< appended (the last columns of each row)
    std::vector<MappedValue> mapped;   ///< behind them, for a mapped table
    std::vector<CapturedImage> images; ///< one for each table of the mirror
    std::vector<BeforeQuery> before;
    /// The image holds fragile columns: only the key is used, and made dirty.
    bool key_only = false;

    /// Captured values of each row.
    std::size_t width() const { return columns.size() + mapped.size(); }
    /// Their formats as Bind wants them.
    std::vector<std::uint16_t> formats() const;
};

/// The write cannot be captured by row.
struct NotCaptured {
    std::string reason;  ///< stable word for metrics: "no_key", "rules", "no_select_privilege", ...
    std::vector<std::shared_ptr<const Table>> tables;  ///< to be made suspect
    bool ignorable = false;  ///< touches no mirrored table (temporary table, excluded table)
};

/// Decides for one INSERT, UPDATE or DELETE. `sql` is the whole query string the statement came
/// from. `role` is the role whose privileges apply. `temporary_tables`: names that a temporary
/// table of this session shadows.
std::variant<CapturePlan, NotCaptured> plan_capture(
    const ParsedQuery& query, const Statement& statement, const Catalog& catalog,
    const std::vector<std::string>& search_path, const std::string& role,
    const std::vector<std::string>& temporary_tables);

/// Whether a read may be run a second time on the mirror and compared, or why not
/// ("volatile_function", "locks_rows", "limit_without_order", "unordered_aggregate",
/// "system_catalog", "settings", "not_select", "temporary_table", "unmirrored_table", "mapped_table":
/// its name is another on the mirror): empty means
/// it may.
std::string shadow_skip_reason(const ParsedQuery& query, const Statement& statement,
                               const Catalog& catalog, const std::vector<std::string>& search_path,
                               const std::vector<std::string>& temporary_tables);

/// True if a read calls a function that may write (a user's volatile function): its tables are
/// then learned from pg_stat_xact_user_tables.
bool may_write(const Statement& statement, const Catalog& catalog);

}  // namespace banyan::router
