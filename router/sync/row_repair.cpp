#include "router/sync/row_repair.hpp"

#include <algorithm>

#include "router/catalog/mapping.hpp"
#include "router/model/mutant.hpp"
#include "router/model/sync_point.hpp"

namespace banyan::router {
namespace {

// How long repair waits for a row lock. Short: meanwhile it may hold the primary's row against
// deletes, and one thread serves all keys.
constexpr std::chrono::milliseconds longest_lock_wait{100};

constexpr const char* lock_not_available = "55P03";
constexpr const char* unique_violation = "23505";

/// "k1" = $n AND "k2" = $n+1 ...
std::string key_condition(const Table& table, std::size_t first_param) {
    std::string sql;
    for (const std::size_t column : table.key) {
        sql += (sql.empty() ? "" : " AND ") + quote_identifier(table.columns[column].name) +
               " = $" + std::to_string(first_param++);
    }
    return sql;
}

std::string column_list(const Table& table, const std::vector<std::size_t>& columns) {
    std::string sql;
    for (const std::size_t column : columns) {
        sql += (sql.empty() ? "" : ", ") + quote_identifier(table.columns[column].name);
    }
    return sql;
}

std::string insert_sql(const Table& table, const std::vector<std::size_t>& image) {
    std::string values;
    for (std::size_t i = 1; i <= image.size(); ++i) {
        values += (i == 1 ? "$" : ", $") + std::to_string(i);
    }
    return "INSERT INTO " + table.sql_name() + " (" + column_list(table, image) +
           ") OVERRIDING SYSTEM VALUE VALUES (" + values + ") ON CONFLICT (" +
           column_list(table, table.key) + ") DO NOTHING";
}

/// Key columns are set too: equal keys may print differently (1.0 and 1.00). Columns that are
/// GENERATED ALWAYS AS IDENTITY cannot be set; the row is left alone if one of them differs. Every
/// parameter must be used, or PostgreSQL could not tell its type.
std::string update_sql(const Table& table, const std::vector<std::size_t>& image) {
    std::string assignments;
    std::string identities;
    for (std::size_t i = 0; i < image.size(); ++i) {
        const Column& column = table.columns[image[i]];
        const std::string name = quote_identifier(column.name);
        const std::string param = "$" + std::to_string(i + 1);
        if (column.identity == Identity::always) {
            identities += " AND " + name + " IS NOT DISTINCT FROM " + param;
        } else {
            assignments += (assignments.empty() ? "" : ", ") + name + " = " + param;
        }
    }
    return "UPDATE " + table.only_name() + " SET " + assignments + " WHERE " +
           key_condition(table, image.size() + 1) + identities;
}

}  // namespace

Result<void> RowRepair::prepare_primary(Connection& primary) {
    // Locking a row writes WAL and a commit record; nothing depends on its being flushed.
    // A TRUNCATE that holds the table may itself wait for this repair on the mirror (R17).
    BANYAN_TRY(primary.exec("SET synchronous_commit = off; SET statement_timeout = '10s';"
                            "SET lock_timeout = " +
                            std::to_string(longest_lock_wait.count())));
    return {};
}

Result<void> RowRepair::prepare_mirror(Connection& mirror, std::chrono::milliseconds lock_timeout) {
    // As replica, triggers and foreign keys do not fire: their effects on the primary are captured
    // by themselves. Commits are flushed once per batch, before any key is cleared: flush().
    const auto wait = std::clamp(lock_timeout, std::chrono::milliseconds(1), longest_lock_wait);
    BANYAN_TRY(
        mirror.exec(std::string(mutant("mirror_triggers_fire")
                                    ? ""
                                    : "SET session_replication_role = replica;") +
                    "SET synchronous_commit = off;"
                    "SET statement_timeout = '10s'; SET lock_timeout = " +
                    std::to_string(wait.count())));
    return {};
}

Result<void> RowRepair::flush() {
    // PostgreSQL flushes at commit only for a transaction that wrote WAL itself; the message is the
    // smallest such write, and flushing it flushes everything before it.
    auto flushed = mirror_.exec(
        "BEGIN; SET LOCAL synchronous_commit TO DEFAULT;"
        "SELECT pg_logical_emit_message(true, 'banyan', ''); COMMIT");
    if (!flushed) {
        mirror_.rollback();
        return std::move(flushed).error();
    }
    return {};
}

Result<const RowRepair::Statements*> RowRepair::statements(const Table& table) {
    if (const auto known = statements_.find(table.id); known != statements_.end()) {
        return &known->second;
    }
    const Table& mirror = table.on_mirror();
    Statements made;
    made.prefix = "banyan_" + std::to_string(table.id) + "_";
    made.image = image_columns(mirror);
    made.updates = false;
    for (const std::size_t column : made.image) {
        const bool always = mirror.columns[column].identity == Identity::always;
        made.updates = made.updates || !always;
        made.compares_identity = made.compares_identity || (always && !mirror.is_key(column));
    }
    made.filtered = table.mapped() && table.mapping->passes.has_value();
    const std::string belongs =
        table.mapped() && table.mapping->belongs ? table.mapping->belongs->sql : "true";
    const bool locks = !mutant("repair_without_row_locks");
    const std::string by_key = " FROM " + mirror.only_name() + " WHERE " + key_condition(mirror, 1);
    std::string read = read_sql(table, made);
    if (const auto lock = read.rfind(" FOR KEY SHARE"); !locks && lock != std::string::npos) {
        read.erase(lock);
    }
    BANYAN_TRY(primary_.prepare(made.prefix + "read", read));
    BANYAN_TRY(mirror_.prepare(made.prefix + "lock",
                               "SELECT " + belongs + by_key + (locks ? " FOR UPDATE" : "")));
    BANYAN_TRY(mirror_.prepare(made.prefix + "delete", "DELETE" + by_key));
    BANYAN_TRY(mirror_.prepare(made.prefix + "insert", insert_sql(mirror, made.image)));
    if (made.updates) {
        BANYAN_TRY(mirror_.prepare(made.prefix + "update", update_sql(mirror, made.image)));
    }
    return &statements_.emplace(table.id, std::move(made)).first->second;
}

// The filter is a value, not a condition: a row that does not pass is locked like any other.
std::string RowRepair::read_sql(const Table& table, const Statements& made) {
    const std::string lock = " FOR KEY SHARE NOWAIT";
    if (!table.mapped()) {
        return "SELECT " + column_list(table, made.image) + " FROM " + table.only_name() + " WHERE " +
               key_condition(table, 1) + lock;
    }
    const Mapping& mapping = *table.mapping;
    if (mapping.by_repair()) {
        // Nobody else writes such a row, and whatever changes it makes its key dirty again.
        return "SELECT " + column_list(*mapping.mirror, made.image) + " FROM " +
               primary_rows(table) + " WHERE " + key_condition(*mapping.mirror, 1);
    }
    std::string values;
    for (const std::string& value : row_values(mapping, "")) {
        values += (values.empty() ? "" : ", ") + value;
    }
    if (made.filtered) {
        values += ", " + *row_passes(mapping, "");
    }
    return "SELECT " + values + " FROM " + table.only_name() + " WHERE " + key_condition(table, 1) +
           lock;
}

RowRepair::Verdict RowRepair::repair(const Table& table, const RowKey& key) {
    auto known = statements(table);
    if (!known) {
        return verdict_of(known.error());
    }
    std::vector<Param> key_params;
    for (const std::string_view column : split_key(key.bytes)) {
        key_params.push_back(Param::raw(column));
    }
    // Asked before the mirror's row is looked at, never after: a transaction that ended in between
    // has its row on the mirror, but not in what repair saw (REPAIR.md, "The barrier").
    const bool in_flight = !mutant("repair_without_barrier") && ledger_.in_flight(key);
    const Verdict verdict = locked(**known, key, key_params, in_flight);
    if (verdict != Verdict::repaired) {
        primary_.rollback();
        mirror_.rollback();
    }
    if (verdict == Verdict::conflict && !mutant("no_way_made")) {
        return make_way(table, **known, key, key_params);
    }
    return verdict;
}

RowRepair::Verdict RowRepair::locked(const Statements& known, const RowKey& key,
                                     const std::vector<Param>& key_params, bool in_flight) {
    if (auto begun = mirror_.exec("BEGIN"); !begun) {
        return verdict_of(begun.error());
    }
    auto mirror_row = mirror_.exec_prepared(known.prefix + "lock", key_params);
    if (!mirror_row) {
        return verdict_of(mirror_row.error());
    }
    const MirrorRow there = mirror_row->size() == 0     ? MirrorRow::none
                            : mirror_row->truth(0, 0) ? MirrorRow::ours
                                                      : MirrorRow::foreign;
    sync_point(SyncPoint::repair_look);
    if (mutant("repair_barrier_after_the_look")) {
        in_flight = ledger_.in_flight(key);
    }
    if (there == MirrorRow::none && in_flight) {
        why_ = "waits for a transaction in flight";
        return Verdict::busy;
    }
    if (auto begun = primary_.exec("BEGIN"); !begun) {
        return verdict_of_primary(begun.error());
    }
    auto primary_row = primary_.exec_prepared(known.prefix + "read", key_params);
    if (!primary_row) {
        return verdict_of_primary(primary_row.error());
    }
    std::optional<std::vector<Param>> image;
    const int values = primary_row->columns() - (known.filtered ? 1 : 0);
    if (primary_row->size() > 0 && (!known.filtered || primary_row->truth(0, values))) {
        image.emplace();
        for (int column = 0; column < values; ++column) {
            image->push_back(primary_row->null(0, column)
                                 ? Param::null()
                                 : Param::text(primary_row->text(0, column)));
        }
        image_ = *image;
    }
    sync_point(SyncPoint::repair_read);
    const Verdict written = write(known, key_params, there, image);
    if (written != Verdict::repaired) {
        return written;
    }
    sync_point(SyncPoint::repair_written);
    // The mirror first: until then the primary's row must not change its key or go.
    if (auto committed = mirror_.exec("COMMIT"); !committed) {
        violated_ = mirror_.violated_constraint();
        return verdict_of(committed.error());
    }
    sync_point(SyncPoint::repair_committed);
    // Only locks are left to release here; if this fails, the mirror is right all the same.
    primary_.rollback();
    return Verdict::repaired;
}

RowRepair::Verdict RowRepair::write(const Statements& known, const std::vector<Param>& key_params,
                                    MirrorRow there,
                                    const std::optional<std::vector<Param>>& image) {
    const bool on_mirror = there != MirrorRow::none;
    const auto run = [&](const char* statement, const std::vector<Param>& params) {
        auto done = mirror_.exec_prepared(known.prefix + statement, params);
        violated_ = done ? "" : mirror_.violated_constraint();
        return done;
    };
    if (there == MirrorRow::foreign) {
        why_ = "the mirror has a row of that key which the mapping's filter leaves out";
        return image ? Verdict::failed : Verdict::repaired;
    }
    if (on_mirror && !image) {
        auto erased = run("delete", key_params);
        return erased ? Verdict::repaired : verdict_of(erased.error());
    }
    if (!image) {
        return Verdict::repaired;  // on neither side
    }
    if (on_mirror && known.updates) {
        std::vector<Param> params = *image;
        params.insert(params.end(), key_params.begin(), key_params.end());
        auto updated = run("update", params);
        if (!updated) {
            return verdict_of(updated.error());
        }
        if (updated->affected() == 1) {
            return Verdict::repaired;
        }
    }
    if (on_mirror && !known.updates && !known.compares_identity) {
        return Verdict::repaired;  // the key is all there is
    }
    if (on_mirror) {
        if (auto erased = run("delete", key_params); !erased) {
            return verdict_of(erased.error());
        }
    }
    auto inserted = run("insert", *image);
    if (!inserted) {
        return verdict_of(inserted.error());
    }
    if (inserted->affected() == 0) {
        why_ = "the row has appeared on the mirror meanwhile";
        return Verdict::busy;
    }
    return Verdict::repaired;
}

// R6: another row of the mirror still has a unique value that now belongs to this one. This row
// lets go of its own (it stays dirty, so it may be missing for a while) and the other is made
// dirty, so that whichever of a swap, or of a longer cycle, is repaired next finds its value free.
RowRepair::Verdict RowRepair::make_way(const Table& table, const Statements& known,
                                       const RowKey& key, const std::vector<Param>& key_params) {
    auto erased = mirror_.exec_prepared(known.prefix + "delete", key_params);
    if (!erased) {
        return verdict_of(erased.error());
    }
    auto others = conflicting_keys(table, known, key, violated_);
    if (!others) {
        return verdict_of(others.error());
    }
    if (!others->empty()) {
        ledger_.mark_dirty(*others, "unique_conflict");
    }
    why_ = "the unique constraint " + violated_ + " of " + table.display_name() +
           " is held by another row of the mirror";
    return Verdict::conflict;
}

// The key of the row that has this row's values in the columns of a violated unique index. Only for
// indexes on plain columns: a conflicting row is dirty already or its table suspect, so looking for
// it hastens convergence but does not decide it.
Result<std::vector<RowKey>> RowRepair::conflicting_keys(const Table& pair, const Statements& known,
                                                        const RowKey& key,
                                                        const std::string& constraint) {
    const Table& table = pair.on_mirror();
    auto columns = mirror_.exec(
        "SELECT a.attname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        "  CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n)"
        "  LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum"
        "  WHERE i.indisunique AND k.n <= i.indnkeyatts AND c.relname = $1::text"
        "    AND (i.indrelid = $2::regclass OR i.indrelid IN"
        "         (SELECT relid FROM pg_partition_tree($2::regclass)))",
        {Param::text(constraint), Param::text(table.sql_name())});
    if (!columns) {
        return std::move(columns).error();
    }
    std::string condition;
    std::vector<Param> params;
    for (int row = 0; row < columns->size(); ++row) {
        const auto wanted =
            std::find_if(known.image.begin(), known.image.end(), [&](std::size_t column) {
                return !columns->null(row, 0) &&
                       table.columns[column].name == columns->view(row, 0);
            });
        if (wanted == known.image.end()) {
            return std::vector<RowKey>{};  // an expression or a generated column
        }
        params.push_back(image_.at(static_cast<std::size_t>(wanted - known.image.begin())));
        condition += (condition.empty() ? "" : " AND ") +
                     quote_identifier(table.columns[*wanted].name) + " = $" +
                     std::to_string(params.size());
    }
    std::vector<RowKey> keys;
    if (condition.empty()) {
        return keys;
    }
    auto rows = mirror_.exec("SELECT " + column_list(table, table.key) + " FROM " +
                                 table.sql_name() + " WHERE " + condition + " LIMIT 8",
                             params, true);
    if (!rows) {
        return std::move(rows).error();
    }
    for (int row = 0; row < rows->size(); ++row) {
        RowKey other{key.table, {}};
        for (int column = 0; column < rows->columns(); ++column) {
            append_key_column(other.bytes, rows->view(row, column));
        }
        if (other != key) {
            keys.push_back(std::move(other));
        }
    }
    return keys;
}

RowRepair::Verdict RowRepair::verdict_of_primary(const Error& error) {
    const Verdict verdict = verdict_of(error);
    fault_.reset();
    return verdict;
}

RowRepair::Verdict RowRepair::verdict_of(const Error& error) {
    why_ = error.message;
    fault_ = fault_of(MirrorDoing::statement, error.sqlstate);
    if (!primary_.alive() || !mirror_.alive()) {
        return Verdict::lost;
    }
    if (error.sqlstate == lock_not_available || error.sqlstate == "40P01" ||
        error.sqlstate == "40001") {
        return Verdict::busy;
    }
    if (error.sqlstate == unique_violation) {
        return Verdict::conflict;
    }
    // The statements may no longer fit the tables: they are prepared anew next time.
    statements_.clear();
    (void)primary_.exec("ROLLBACK; DEALLOCATE ALL");
    (void)mirror_.exec("ROLLBACK; DEALLOCATE ALL");
    return Verdict::failed;
}

}  // namespace banyan::router
