// The end of a transaction, and the order of a commit: every apply answered, keys in the journal, COMMIT on
// the primary, the client's answer, COMMIT on the mirror, the journal entry cleared.

#include <utility>

#include "router/model/mutant.hpp"
#include "router/model/sync_point.hpp"
#include "router/session/session_machine.hpp"

namespace banyan::router {

// Steps: wait until everything is known and durable, then `send` the commit.
void SessionMachine::commit_barrier(std::function<void()> send) {
    wait_primary();
    commit_once_safe(std::move(send));
}

// The answers to Parse, Bind and Describe can only say that there will be no COMMIT. Where that undoes
// all that was written, they may come with COMMIT's: a round trip less while rows are locked.
bool SessionMachine::prepares_can_wait() const {
    const bool nothing = !txn_.has_work() && !txn_.measured && !mirror_.in_transaction();
    return replies_.only_prepares() && (nothing || answers_change_nothing());
}

void SessionMachine::commit_once_safe(std::function<void()> send) {
    then([this, send = std::move(send)] {
        const bool failed = replies_.skipping() || status_ == 'E';
        const bool work = txn_.has_work() || txn_.measured || mirror_.in_transaction();
        // Sync behind a COPY: swallowed by the server, the commit comes with the next one.
        if (failed || !work || replies_.copying_in()) {
            send();
            return true;
        }
        if (rejects()) {
            wait_mirror_login();
        }
        measure_before_the_end();
        then([this, send] {
            if (answers_change_nothing()) {  // the journal is written while the mirror applies
                journal();
            }
            wait_mirror_applied();
            then([this] {
                reject_unmirrored();
                return true;
            });
            journal_then(send);
            return true;
        });
        return true;
    });
}

// All of the block's writes are upserts of keys that are known, and there is no savepoint to return to:
// whatever fails now undoes all of it.
bool SessionMachine::answers_change_nothing() const {
    return in_block_ && !txn_.measured && !rejects() && txn_.suspects.empty() &&
           txn_.tables.empty() && txn_.savepoints.empty() && mirror_.all_or_nothing();
}

void SessionMachine::wait_mirror_applied() {
    then([this] {
        const auto applied = [this] {
            return !mirror_.in_transaction() || mirror_.drained() || txn_.mirror_lost ||
                   mutant("images_applied_after_commit");
        };
        if (!applied() && mirror_.front_is_shadow()) {
            port_.set_deadline(Deadline::shadow_yield, std::chrono::milliseconds(20));
        }
        await_mirror(applied, txn_.mirrored_ddl ? config_.mirror.ddl_timeout
                                                : std::chrono::milliseconds(0));
        return true;
    });
}

void SessionMachine::journal() {
    if (commit_txn_ || replies_.skipping() || status_ == 'E') {
        return;  // it is written already; or measuring failed: there is nothing to commit any more
    }
    CommitIntent intent;
    take_writes(intent);
    if (!mutant("opaque_not_suspect")) {
        intent.suspects = std::move(txn_.suspects);
    }
    intent.tables = std::move(txn_.tables);
    txn_.wrote = !intent.writes.empty() || !intent.tables.empty();
    journal_waiting_ = true;
    commit_txn_ = port_.begin_commit(std::move(intent));
}

void SessionMachine::journal_then(std::function<void()> send) {
    then([this] {
        journal();
        return true;
    });
    then([this] {
        if (journal_waiting_) {
            return false;
        }
        if (std::exchange(journal_refused_, false)) {
            reject_unjournaled();
        }
        return true;
    });
    then([this, send = std::move(send)] {
        if (!port_.may_commit()) {
            return false;
        }
        if (commit_txn_ && (replies_.skipping() || status_ == 'E')) {
            port_.finish(*commit_txn_, CommitOutcome::rolled_back);  // rejected: there is no commit
            commit_txn_.reset();
        }
        commit_sent_ = commit_txn_.has_value();
        if (commit_sent_) {
            sync_point(SyncPoint::journaled);
            sync_point_pending(SyncPoint::commit_sent);
        }
        if (mutant("mirror_commits_first") && commit_txn_ && mirror_.in_transaction() &&
            !mirror_.failed()) {
            mirror_.commit(*commit_txn_, mirror_out());
        }
        send();
        return true;
    });
}

void SessionMachine::journaled(TxnId txn, bool durable) {
    if (guard_txn_ == txn && guard_waiting_) {
        guard_waiting_ = false;  // not durable: the ledger has made the tables suspect
        pump();
        return;
    }
    if (!commit_txn_ || *commit_txn_ != txn || !journal_waiting_) {
        return;
    }
    journal_waiting_ = false;
    if (!durable) {
        // The ledger made the tables suspect, the mirror is left out. Not the client's problem, unless
        // it wants both or neither.
        txn_.mirror_lost = true;
        journal_refused_ = rejects() && (in_block_ || unsynced_) && !guard_txn_;
        port_.log(4, "the journal cannot be written: mirroring of this transaction is given up");
    }
    pump();
}

ReplyHandler SessionMachine::commit_on_ready() {
    return on_reply([this](char type, std::string_view, std::string_view reply) {
        if (type == 0) {
            return;
        }
        if (type == 'Z') {
            if (!statement_failed_) {
                to_client_.append(held_tail_);
            }
            held_tail_.clear();
            commit_decided(!statement_failed_);
        }
        to_client_.append(reply);
    });
}

ReplyHandler SessionMachine::commit_on_tag(bool chain) {
    return on_reply([this, chain](char type, std::string_view body, std::string_view reply) {
        const bool refused = type == 'C' && std::exchange(commit_refused_, false);
        if (type == 'C') {
            commit_decided(protocol::word_of_tag(body.substr(0, body.find('\0'))) == "COMMIT");
            in_block_ = chain;
        } else if (type == 'E' || (type == 0 && commit_txn_)) {
            commit_decided(false);
        }
        if (type != 0 && !refused) {  // the client has the error: there was no ROLLBACK
            to_client_.append(reply);
        }
    });
}

// The primary has said how the transaction ended.
void SessionMachine::commit_decided(bool committed) {
    commit_sent_ = false;
    const auto txn = commit_txn_;
    if (txn) {
        sync_point(SyncPoint::commit_answered);
    }
    commit_txn_.reset();
    if (committed && mirror_.in_transaction() && !mirror_.failed() && !txn_.mirror_lost && txn) {
        mirror_.commit(*txn, mirror_out());  // finish() follows its answer
        sync_point_pending(SyncPoint::mirror_commit_sent);
        sync_point_pending(SyncPoint::client_told);
        port_.counters().add(Counter::mirror_commits);
        watch_owed_commits();
    } else {
        if (mirror_.in_transaction()) {
            rollback_mirror();
        }
        if (txn) {
            const bool unmirrored = txn_.mirror_lost && txn_.wrote;
            if (committed && unmirrored) {
                port_.counters().add(Counter::mirror_skipped);
            }
            port_.finish(*txn, !committed   ? CommitOutcome::rolled_back
                               : unmirrored ? CommitOutcome::not_mirrored
                                            : CommitOutcome::mirrored);
        }
    }
    if (committed && txn_.reload_catalog) {
        wait_for_catalog();
    }
    reset_transaction();
}

// The transaction is over without a commit having been sent: rolled back, or nothing was written.
void SessionMachine::transaction_ended() {
    if (mirror_.in_transaction()) {
        rollback_mirror();
    }
    reset_transaction();
}

void SessionMachine::reset_transaction() {
    // Whether it committed or not: SET LOCAL ends here, and so does a table ON COMMIT DROP.
    settings_stale_ = settings_stale_ || txn_.settings_touched;
    in_block_ = false;  // unless AND CHAIN: who knows of it says so
    wrote_ = false;
    if (txn_.reload_catalog) {
        ++decision_generation_;
    }
    txn_ = Transaction{};
    release_kept_images();
}

void SessionMachine::on_committed_on_mirror(std::uint64_t txn, bool committed) {
    sync_point(SyncPoint::mirror_answered);
    watch_owed_commits();
    if (!committed) {
        port_.counters().add(Counter::mirror_failures);
        if (const auto fault = mirror_.fault()) {
            note_fault(*fault, "COMMIT: " + mirror_.error());
        }
    } else if (!last_wait_slow_) {
        port_.breaker().succeeded();
    }
    port_.finish(txn, committed ? CommitOutcome::mirrored : CommitOutcome::not_mirrored);
}

// After DDL the next statement must see the new catalogue.
void SessionMachine::wait_for_catalog() {
    const auto catalog = port_.catalog();
    const auto version = catalog ? catalog->version : 0;
    catalog_deadline_passed_ = false;
    port_.request_catalog_reload();
    port_.set_deadline(Deadline::catalog, std::chrono::seconds(2));
    then([this, version] {
        const auto now = port_.catalog();
        if ((!now || now->version == version) && !catalog_deadline_passed_) {
            return false;
        }
        port_.clear_deadline(Deadline::catalog);
        return true;
    });
}

}  // namespace banyan::router
