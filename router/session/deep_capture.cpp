// Deep capture as a session uses it: asked for before an opaque statement, its records taken after
// it, in the same transaction, and applied to the mirror as row images. Also what must be asked at
// COMMIT (deferred triggers), and the guard around statements that commit on their own.
// The records' meaning and what makes them exact: router/capture/README.md.

#include <algorithm>

#include "router/capture/record.hpp"
#include "router/session/session_machine.hpp"

namespace banyan::router {
namespace {

constexpr std::size_t rows_per_group = 512;  // as for captured rows

Oid oid_of(std::string_view binary) {
    Oid oid = 0;
    for (const char c : binary) {
        oid = (oid << 8U) | static_cast<unsigned char>(c);
    }
    return oid;
}

/// Its image is in the record as a mirror needs it; else only the key is.
bool has_image(const Table& table) {
    return std::all_of(table.columns.begin(), table.columns.end(), [](const Column& column) {
        return column.generated || (column.portable && !column.fragile);
    });
}

std::string key_of(const CapturedRecord& record, const Table& table) {
    std::string bytes;
    for (const auto column : table.key) {
        append_key_column(bytes, record.values[column].value_or(std::string_view{}));
    }
    return bytes;
}

}  // namespace

struct SessionMachine::TakenRows {
    std::shared_ptr<const Catalog> catalog;
    std::set<std::pair<TableId, std::string>> seen;
    std::size_t applied = 0;
};

std::string SessionMachine::ask_capture_sql() {
    if (capture_token_.empty()) {
        capture_token_ = port_.nonce();
    }
    // Not SET LOCAL: a procedure may commit, and what it writes then is recorded as well. Not where
    // nothing can be written, and not under SERIALIZABLE: reading the records would conflict with
    // what other sessions record, and fail the client's transaction.
    return "pg_catalog.set_config('banyan.capture', CASE WHEN "
           "pg_catalog.current_setting('transaction_isolation') OPERATOR(pg_catalog.=) 'serializable' "
           "OR pg_catalog.current_setting('transaction_read_only') OPERATOR(pg_catalog.=) 'on' "
           "THEN '' ELSE " + quote_literal(capture_token_) + " END, false)";
}

void SessionMachine::start_capture() {
    wait_mirror_login();
    internal_query("SELECT " + ask_capture_sql(), true,
                   [this](bool ok, const std::vector<Row>& rows) {
                       txn_.capturing = ok && !rows.empty() && rows[0][0] == capture_token_;
                   });
}

void SessionMachine::take_captured() {
    then([this] {
        if (!txn_.capturing) {
            return true;
        }
        auto taken = std::make_shared<TakenRows>();
        taken->catalog = port_.catalog();
        own_query({"SELECT relation, ended, old, new FROM banyan.take_rows(" +
                       quote_literal(capture_token_) + ")",
                   true, true,
                   [this, taken](const RowView& row) { apply_captured(*taken, row); },
                   [this, taken](bool) {
                       txn_.capturing = false;
                       mirror_.end_group(mirror_out());
                   }});
        return true;
    });
}

void SessionMachine::apply_captured(TakenRows& taken, const RowView& row) {
    if (row.size() != 4 || !row[0] || !row[1] || !taken.catalog) {
        return;
    }
    const auto table = taken.catalog->table_by_oid(taken.catalog->root_of(oid_of(*row[0])));
    if (!table) {
        return;  // excluded, or new: measuring deals with it
    }
    if (!row[2] && !row[3]) {
        suspect_table(table, "truncated");
        port_.counters().add_reason("suspect", "truncated");
        return;
    }
    if (!table->deep) {
        return;  // measured, and found to be more than what was captured
    }
    CapturedRecord before;
    CapturedRecord after;
    if ((row[2] && !(decode_record(*row[2], before) && fits(before, *table))) ||
        (row[3] && !(decode_record(*row[3], after) && fits(after, *table)))) {
        suspect_table(table, "columns_changed");
        port_.counters().add_reason("suspect", "columns_changed");
        return;
    }
    const bool ended = row[1] == std::string_view("\1", 1);
    port_.counters().add(Counter::rows_captured);
    txn_.recorded.insert(table->id);
    const std::string old_key = row[2] ? key_of(before, *table) : std::string();
    const std::string new_key = row[3] ? key_of(after, *table) : std::string();
    if (row[2] && (!row[3] || old_key != new_key)) {
        captured_key(taken, *table, old_key, nullptr, ended);
    }
    if (row[3]) {
        captured_key(taken, *table, new_key, &after, ended);
    }
}

// A key recorded twice by one statement: nested triggers record in an order that is not that of the
// writes, so only the row itself can tell. The same for what a procedure has committed already:
// others may have written it since.
void SessionMachine::captured_key(TakenRows& taken, const Table& table, const std::string& key,
                                  const CapturedRecord* image, bool ended) {
    const bool again = !taken.seen.emplace(table.id, key).second;
    const bool key_only = image != nullptr && !has_image(table);
    KeyWrite write;
    write.key = {table.id, key};
    write.removes = image == nullptr;
    write.dirty = again || ended || key_only;
    const auto number = note_write(table, std::move(write));
    if (ended || key_only || !mirror_usable()) {
        return;
    }
    begin_mirror();
    if (image == nullptr) {
        mirror_.erase(table, taken.catalog->version, key, number, mirror_out());
    } else {
        std::vector<std::optional<std::string_view>> values;
        for (const auto column : image_columns(table)) {
            values.push_back(image->values[column]);
        }
        mirror_.upsert(table, taken.catalog->version, values, mirror_out());
    }
    port_.counters().add(Counter::mirror_rows_applied);
    if (++taken.applied % rows_per_group == 0) {
        mirror_.end_group(mirror_out());
    }
}

// --- what would fire at COMMIT ---

// Deferred triggers and constraints, while there is still something to roll back and the mirror can
// follow. Their error becomes the answer to the client's COMMIT.
void SessionMachine::fire_deferred() {
    const auto catalog = port_.catalog();
    if (!catalog || !catalog->deferrable_triggers) {
        return;
    }
    const bool deep = catalog->deep();
    if (deep) {
        start_capture();
    }
    then([this] {
        firing_deferred_ = true;
        return true;
    });
    own_query({"SET CONSTRAINTS ALL IMMEDIATE", true, false, nullptr,
               [this](bool) { firing_deferred_ = false; }});
    if (deep) {
        take_captured();
    }
}

// Steps: what can be known only at the end of the transaction. In a block, what fails here is the
// answer to the client's COMMIT or PREPARE TRANSACTION.
void SessionMachine::measure_before_the_end() {
    if (!txn_.measured) {
        return;
    }
    ending_block_ = in_block_;
    fire_deferred();
    measure_changes();
    then([this] {
        ending_block_ = false;
        return true;
    });
}

// PostgreSQL's COMMIT would have ended the block by its error; so does Banyan, behind the Sync.
void SessionMachine::roll_back_refused() {
    commit_refused_ = false;
    std::string message;
    protocol::Message(message, 'Q').string("ROLLBACK");
    send_primary(message, Expect::query,
                 on_reply([this](char type, std::string_view, std::string_view reply) {
                     if (type == 'Z') {
                         to_client_.append(reply);
                     }
                 }));
}

// --- statements that commit on their own ---

// What a procedure has committed before Banyan knows of it would be lost with Banyan: until its end
// is known, the journal says that everything may differ.
void SessionMachine::guard_own_commits(const std::string& reason) {
    // It commits what stands before it in a pipeline, too: images come before a commit, whoever sends it.
    if (!in_block_) {
        if (!replies_.only_prepares()) {
            wait_primary();
        }
        wait_mirror_applied();
    }
    then([this, reason] {
        if (in_block_ || guard_txn_) {
            return true;
        }
        guard_waiting_ = true;
        guard_txn_ = port_.begin_commit({{}, {}, {{0, false, reason}}});
        then([this] { return !guard_waiting_; });
        return true;
    });
}

void SessionMachine::release_guard(bool failed) {
    if (!guard_txn_) {
        return;
    }
    // An error tells nothing of what was committed before it.
    port_.finish(*guard_txn_, failed ? CommitOutcome::not_mirrored : CommitOutcome::rolled_back);
    guard_txn_.reset();
}

}  // namespace banyan::router
