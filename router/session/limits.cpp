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

// A row written by this transaction. A transaction whose keys are too many to keep is not mirrored
// by row: its tables become suspect, and verification finds what it changed.
void SessionMachine::note_write(KeyWrite write) {
    if (!txn_.too_large) {
        txn_.write_bytes += write.key.bytes.size() + write_overhead;
        txn_.too_large = txn_.write_bytes > config_.limits.max_session_bytes;
        txn_.writes.push_back(std::move(write));
        if (!txn_.too_large) {
            return;
        }
        for (const auto& each : txn_.writes) {
            note_large_table(each.key.table);
        }
        std::vector<KeyWrite>().swap(txn_.writes);
        if (mirror_.in_transaction()) {
            rollback_mirror();
        }
        mirror_lost_in_transaction("it is larger than [limits] max_session_bytes");
        return;
    }
    note_large_table(write.key.table);
}

void SessionMachine::note_large_table(TableId table) {
    if (txn_.large_tables.insert(table).second) {
        txn_.suspects.push_back({table, "transaction_too_large"});
        port_.counters().add_reason("suspect", "transaction_too_large");
    }
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
