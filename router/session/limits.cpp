// What one session may hold and how long it may wait ([limits]): idle transactions, prepared
// statements, and the memory that a client's work can make Banyan take.

#include <set>

#include "router/session/session_machine.hpp"

namespace banyan::router {
namespace {

// What a key in the list of a transaction costs besides its bytes.
constexpr std::size_t write_overhead = sizeof(KeyWrite) + 32;

}  // namespace

// As PostgreSQL's idle_in_transaction_session_timeout: between ReadyForQuery inside a block and the
// client's next message.
void SessionMachine::watch_idle() {
    const auto timeout = config_.limits.idle_in_transaction_timeout;
    const bool idle = timeout.count() != 0 && stage_ == Stage::ready && in_block_ && !unsynced_ &&
                      replies_.empty() && steps_.empty();
    if (idle == idle_watched_) {
        return;
    }
    idle_watched_ = idle;
    if (idle) {
        port_.set_deadline(Deadline::idle_in_transaction, timeout);
    } else {
        port_.clear_deadline(Deadline::idle_in_transaction);
    }
}

void SessionMachine::client_is_active() {
    if (idle_watched_) {
        idle_watched_ = false;
        port_.clear_deadline(Deadline::idle_in_transaction);
    }
}

// Counted while mirroring only: while Banyan relays, it keeps nothing of a statement.
bool SessionMachine::too_many_statements(const std::string& name) const {
    const auto limit = config_.limits.max_prepared_statements;
    return limit != 0 && !name.empty() && !statements_.contains(name) &&
           statements_.size() - statements_.count("") >= limit;
}

// The server must take part in the refusal: its error is what ends the pipeline up to Sync and
// fails the transaction. It is sent what it must refuse, and its words are replaced.
void SessionMachine::refuse_parse() {
    std::string message;
    protocol::encode_parse(message, "banyan_refused", "banyan refuses this statement");
    send_primary(
        message, Expect::parse, on_reply([this](char type, std::string_view, std::string_view) {
            if (type == 'E') {
                protocol::encode_error(
                    to_client_, "ERROR", "53400", "too many prepared statements",
                    "A session may have " + std::to_string(config_.limits.max_prepared_statements) +
                        ": close some, or raise [limits] max_prepared_statements in "
                        "Banyan's configuration.");
            } else if (type != 0) {
                violation("ParseComplete for what cannot be parsed");
            }
        }));
}

// A row written by this transaction. Of a table of which it writes too many, or of all of them when
// their keys take too much, ranges of keys are kept instead.
std::size_t SessionMachine::note_write(const Table& table, KeyWrite write) {
    const auto [found, first] = txn_.written.try_emplace(table.id);
    WrittenTable& written = found->second;
    if (first) {
        written.rows = KeyRanges::none(leading_key_type(table));
    }
    if (written.collapsed) {
        written.rows.add(write.key.bytes);
        written.removes = written.removes || write.removes;
        bool& dirty = txn_.writes[written.slot].dirty;
        dirty = dirty || write.dirty;
        return written.slot;
    }
    ++written.keys;
    txn_.write_bytes += write.key.bytes.size() + write_overhead;
    txn_.writes.push_back(std::move(write));
    const std::size_t number = txn_.writes.size() - 1;
    if (written.keys > config_.journal.max_transaction_keys) {
        collapse(table.id);
    } else if (txn_.write_bytes > config_.limits.max_session_bytes) {
        for (const auto& [id, each] : txn_.written) {
            collapse(id);
        }
    }
    return number;
}

// The writes stay as empty ones, so that the numbers of those on their way to the mirror still name
// them: a delete that is answered with no row makes one of them dirty, and with it the ranges.
void SessionMachine::collapse(TableId table) {
    WrittenTable& written = txn_.written[table];
    if (written.collapsed) {
        return;
    }
    written.collapsed = true;
    port_.counters().add_reason("collapsed", "transaction_too_large");
    for (std::size_t i = 0; i < txn_.writes.size(); ++i) {
        KeyWrite& write = txn_.writes[i];
        if (write.key.table == table) {
            written.rows.add(write.key.bytes);
            written.removes = written.removes || write.removes;
            written.slot = i;
            txn_.write_bytes -= write.key.bytes.size() + write_overhead - sizeof(KeyWrite);
            std::string().swap(write.key.bytes);
        }
    }
}

// What is journaled of them. Rows that the mirror did not find, or that only repair can write, have
// no key any more: their ranges are suspect whatever the mirror does.
void SessionMachine::take_writes(CommitIntent& intent) {
    std::set<TableId> unsure;
    std::erase_if(txn_.writes, [&](const KeyWrite& write) {
        const bool collapsed = txn_.written[write.key.table].collapsed;
        if (collapsed && write.dirty) {
            unsure.insert(write.key.table);
        }
        return collapsed;
    });
    for (const auto& [table, written] : txn_.written) {
        if (!written.collapsed) {
            continue;
        }
        txn_.tables.push_back(
            {table, written.removes, "transaction_too_large", true, written.rows});
        if (unsure.contains(table)) {
            txn_.suspects.push_back({table, "touched_no_row", written.rows});
            port_.counters().add_reason("suspect", "touched_no_row");
        }
    }
    txn_.writes.shrink_to_fit();
    intent.writes = std::move(txn_.writes);
}

// Rows kept for a client that fetches them piece by piece.
void SessionMachine::keep_row(HeldRows& held, const protocol::SplitRow& row) {
    protocol::Message(held.rows.emplace_back(), 'D').int16(row.kept_count).bytes(row.kept);
    held.bytes += held.rows.back().capacity() + sizeof(std::string);
    if (held.bytes > config_.limits.max_session_bytes) {
        fail_session(
            "53200",
            "out of memory: the rows of a portal that is fetched in pieces take more than " +
                std::to_string(config_.limits.max_session_bytes) + " bytes",
            "Fetch them without a row limit, or raise [limits] max_session_bytes in "
            "Banyan's configuration.");
    }
}

void SessionMachine::check_mirror_backlog() {
    const auto most = std::min<std::uint64_t>(max_mirror_backlog, config_.limits.max_session_bytes);
    if (mirror_out().size() > most) {
        on_mirror_lost("the mirror is too far behind", MirrorFault::slow);
    }
}

}  // namespace banyan::router
