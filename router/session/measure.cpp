// What RETURNING cannot see: which tables an opaque statement has changed is measured in its own
// transaction, by pg_stat_xact_user_tables before it and before the commit.

#include <charconv>

#include "router/session/session_machine.hpp"

namespace banyan::router {
namespace {

constexpr const char* changed_tables_sql =
    "SELECT relid::pg_catalog.text, (n_tup_ins + n_tup_upd + n_tup_del)::pg_catalog.text "
    "FROM pg_catalog.pg_stat_xact_user_tables WHERE n_tup_ins + n_tup_upd + n_tup_del > 0 "
    "UNION ALL SELECT 'clock', pg_catalog.date_part('epoch', "
    "pg_catalog.transaction_timestamp())::pg_catalog.text";

std::int64_t to_number(const std::optional<std::string>& text) {
    std::int64_t number = 0;
    if (text) {
        std::from_chars(text->data(), text->data() + text->size(), number);
    }
    return number;
}

}  // namespace

void SessionMachine::take_baseline(const std::string& reason) {
    if (txn_.measured) {
        return;
    }
    txn_.measured = true;
    txn_.measure_reason = reason.empty() ? "opaque" : reason;
    internal_query(changed_tables_sql, true, [this](bool ok, const std::vector<Row>& rows) {
        txn_.measured = ok;  // if it failed, so does the statement it was for
        for (const auto& row : rows) {
            if (row.size() == 2 && row[0] == "clock") {
                txn_.baseline_clock = row[1].value_or("");
            } else if (row.size() == 2) {
                txn_.baseline[static_cast<Oid>(to_number(row[0]))] = to_number(row[1]);
            }
        }
    });
}

void SessionMachine::measure_changes() {
    internal_query(changed_tables_sql, true, [this](bool ok, const std::vector<Row>& rows) {
        const auto catalog = port_.catalog();
        if (!ok) {
            txn_.suspects.push_back({0, txn_.measure_reason});
            return;
        }
        std::map<TableId, std::int64_t> changed;
        for (const auto& row : rows) {
            if (row.size() == 2 && row[0] == "clock") {
                if (row[1].value_or("") != txn_.baseline_clock) {
                    // A procedure committed on its way: what it changed before is not shown.
                    txn_.suspects.push_back({0, txn_.measure_reason});
                }
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
            if (count > txn_.captured_rows[table]) {
                txn_.suspects.push_back({table, txn_.measure_reason});
                port_.counters().add_reason("suspect", txn_.measure_reason);
            }
        }
    });
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
