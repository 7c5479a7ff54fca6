// What RETURNING cannot see: which tables an opaque statement has changed is measured in its own
// transaction, by pg_stat_xact_user_tables before it and before the commit.

#include <charconv>

#include "router/model/mutant.hpp"
#include "router/session/session_machine.hpp"

namespace banyan::router {
namespace {

constexpr std::string_view changed_tables_sql =
    "SELECT relid::pg_catalog.text, (n_tup_ins + n_tup_upd + n_tup_del)::pg_catalog.text "
    "FROM pg_catalog.pg_stat_xact_user_tables WHERE n_tup_ins + n_tup_upd + n_tup_del > 0 "
    "UNION ALL SELECT 'clock', pg_catalog.date_part('epoch', "
    "pg_catalog.transaction_timestamp())::pg_catalog.text "
    // Functions and triggers that came, changed or went (pg_proc, pg_trigger): they lock no table.
    "UNION ALL SELECT 'schema', (pg_catalog.pg_stat_get_xact_tuples_inserted(1255) + "
    "pg_catalog.pg_stat_get_xact_tuples_updated(1255) + "
    "pg_catalog.pg_stat_get_xact_tuples_deleted(1255) + "
    "pg_catalog.pg_stat_get_xact_tuples_inserted(2620) + "
    "pg_catalog.pg_stat_get_xact_tuples_updated(2620) + "
    "pg_catalog.pg_stat_get_xact_tuples_deleted(2620))::pg_catalog.text";

// TRUNCATE and DDL inside of a function count no rows, but hold their locks until the end. A table
// that was dropped is found nowhere any more.
constexpr std::string_view locked_tables_sql =
    " UNION ALL SELECT 'locked', l.relation::pg_catalog.text FROM pg_catalog.pg_locks l"
    " LEFT JOIN pg_catalog.pg_class c ON c.oid = l.relation"
    " WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.granted"
    " AND l.pid = pg_catalog.pg_backend_pid() AND (c.oid IS NULL"
    "   OR c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't')";

std::int64_t to_number(const std::optional<std::string>& text) {
    std::int64_t number = 0;
    if (text) {
        std::from_chars(text->data(), text->data() + text->size(), number);
    }
    return number;
}

}  // namespace

void SessionMachine::take_baseline(const std::string& reason, bool deep) {
    if (txn_.measured) {
        if (deep) {
            start_capture();
        }
        return;
    }
    txn_.measured = true;
    txn_.measure_reason = reason.empty() ? "opaque" : reason;
    std::string sql(changed_tables_sql);
    if (deep) {  // in one round trip
        wait_mirror_login();
        sql += " UNION ALL SELECT 'capture', " + ask_capture_sql();
    }
    internal_query(std::move(sql), true, [this, deep](bool ok, const std::vector<Row>& rows) {
        txn_.measured = ok;  // if it failed, so does the statement it was for
        txn_.captured_rows.clear();  // they are in the baseline
        for (const auto& row : rows) {
            if (deep && row.size() == 2 && row[0] == "capture") {
                txn_.capturing = row[1] == capture_token_;
            } else if (row.size() == 2 && row[0] == "clock") {
                txn_.baseline_clock = row[1].value_or("");
            } else if (row.size() == 2 && row[0] == "schema") {
                txn_.baseline_schema = to_number(row[1]);
            } else if (row.size() == 2) {
                txn_.baseline[static_cast<Oid>(to_number(row[0]))] = to_number(row[1]);
            }
        }
    });
}

void SessionMachine::measure_changes() {
    std::string sql(changed_tables_sql);
    if (txn_.opaque) {
        sql += locked_tables_sql;
    }
    internal_query(std::move(sql), true, [this](bool ok, const std::vector<Row>& rows) {
        const auto catalog = port_.catalog();
        if (!ok) {
            txn_.suspects.push_back({0, txn_.measure_reason});
            return;
        }
        std::map<TableId, std::int64_t> changed;
        for (const auto& row : rows) {
            if (row.size() == 2 && row[0] == "schema") {
                if (to_number(row[1]) > txn_.baseline_schema) {
                    note_hidden_ddl();
                }
                continue;
            }
            if (row.size() == 2 && row[0] == "clock") {
                if (row[1].value_or("") != txn_.baseline_clock) {
                    // A procedure committed on its way: what it changed before is not shown.
                    note_unmeasured(catalog.get());
                }
                continue;
            }
            if (row.size() == 2 && row[0] == "locked") {
                note_locked(catalog.get(), static_cast<Oid>(to_number(row[1])));
                continue;
            }
            const auto relation = static_cast<Oid>(to_number(row[0]));
            const auto table =
                catalog ? catalog->table_by_oid(catalog->root_of(relation)) : nullptr;
            if (table) {
                changed[table->id] += to_number(row[1]) - txn_.baseline[relation];
            }
        }
        for (const auto& [table, count] : changed) {
            // Rows that a function wrote and rolled back itself (an EXCEPTION block) are counted
            // here, but not recorded: the records decide.
            const bool recorded = txn_.recorded.contains(table) && !txn_.unrecorded;
            if (count > txn_.captured_rows[table] && !recorded && !mutant("opaque_not_measured")) {
                suspect_table(catalog->table_by_id(table), txn_.measure_reason);
                port_.counters().add_reason("suspect", txn_.measure_reason);
            }
        }
    });
}

void SessionMachine::note_unmeasured(const Catalog* catalog) {
    if (catalog == nullptr || !catalog->deep()) {
        txn_.suspects.push_back({0, txn_.measure_reason});
        return;
    }
    for (const auto& table : catalog->tables()) {
        if (!table->deep && table->captured()) {
            txn_.suspects.push_back({table->id, txn_.measure_reason});
        }
    }
}

void SessionMachine::note_hidden_ddl() {
    if (!txn_.reload_catalog) {
        port_.counters().add_reason("not_mirrored", "hidden_ddl");
        port_.log(3, "a function, DO or a statement that cannot be read has changed the schema, or "
                     "locked a table exclusively, on the primary alone");
        note_schema_change();
    }
}

// Truncated, altered, created or dropped by a statement that did not say so.
void SessionMachine::note_locked(const Catalog* catalog, Oid relation) {
    note_hidden_ddl();
    const auto table = catalog != nullptr ? catalog->table_by_oid(catalog->root_of(relation)) : nullptr;
    if (table) {
        suspect_table(table, "exclusively_locked");
        port_.counters().add_reason("suspect", "exclusively_locked");
    }
}

// TRUNCATE sets the counters of its tables to zero (pgstat_count_truncate).
void SessionMachine::forget_measured(const std::vector<TableWrite>& tables) {
    const auto catalog = port_.catalog();
    for (const auto& write : tables) {
        const auto table = catalog ? catalog->table_by_id(write.table) : nullptr;
        txn_.captured_rows.erase(write.table);
        for (auto& [relation, count] : txn_.baseline) {
            if (table && catalog->root_of(relation) == table->oid) {
                count = 0;
            }
        }
    }
}

}  // namespace banyan::router
