// The client's transaction and its mirror: row images applied, savepoints kept alike, and the order
// of a commit: every apply answered, keys in the journal, COMMIT on the primary, the client's answer,
// COMMIT on the mirror, the journal entry cleared.

#include <algorithm>
#include <set>
#include <utility>

#include "router/model/mutant.hpp"
#include "router/model/sync_point.hpp"
#include "router/session/session_machine.hpp"

namespace banyan::router {
namespace {

// Rows per mirror group: bounds what a failed group has to skip, and keeps answers coming.
constexpr std::uint64_t rows_per_group = 512;

}  // namespace

void SessionMachine::count_route(const Decision& decision) {
    note_ran(decision.leaves_nothing);
    if (!decision.mirror_sql.empty()) {
        port_.counters().add(Counter::statements_captured);
        return;
    }
    switch (decision.route) {
        case Route::capture:
        case Route::copy:
            port_.counters().add(Counter::statements_captured);
            break;
        case Route::guarded:
        case Route::mirrored_text:
        case Route::suspect:
            port_.counters().add(Counter::statements_opaque);
            port_.counters().add_reason("opaque", decision.reason);
            break;
        case Route::forward:
            port_.counters().add(Counter::statements_read);
            if (!decision.reason.empty()) {
                port_.counters().add_reason("not_mirrored", decision.reason);
            }
            break;
        case Route::refuse:
            port_.counters().add(Counter::statements_other);
            port_.counters().add_reason("refused", decision.reason);
            break;
        default:
            port_.counters().add(Counter::statements_other);
    }
}

// --- rows ---

bool SessionMachine::mirror_usable() {
    if (txn_.mirror_lost) {
        return false;
    }
    if (mirror_.ready() && (mirror_.in_transaction() ? !mirror_.failed()
                                                     : port_.breaker().allows())) {
        return true;
    }
    txn_.mirror_lost = true;
    return false;
}

// Row images carry text in the client's encoding: the mirror must read it in the same.
void SessionMachine::begin_mirror() {
    if (!mirror_.in_transaction()) {
        push_mirror_settings();
        mirror_.begin(txn_.savepoints, mirror_out());
        settings_before_mirror_ = mirror_settings_;
        return;
    }
    const auto wanted = settings_.find("client_encoding");
    const auto applied = mirror_settings_.find("client_encoding");
    if (wanted != settings_.end() &&
        (applied == mirror_settings_.end() || applied->second != wanted->second)) {
        mirror_.statement("SET client_encoding = " + quote_literal(wanted->second), mirror_out());
        mirror_settings_["client_encoding"] = wanted->second;
    } else if (wanted == settings_.end() && applied != mirror_settings_.end()) {
        mirror_.statement("RESET client_encoding", mirror_out());
        mirror_settings_.erase("client_encoding");
    }
}

void SessionMachine::rollback_mirror() {
    mirror_.rollback(mirror_out());
    mirror_settings_ = settings_before_mirror_;  // what was set inside is undone
}

bool SessionMachine::mirror_is_coming() {
    if (mirror_.state() == MirrorLink::State::down) {
        connect_mirror();
    }
    return mirror_.state() == MirrorLink::State::connecting ||
           mirror_.state() == MirrorLink::State::login;
}

void SessionMachine::wait_mirror_login() {
    // A transaction that the mirror has lost has nothing to wait for, but the next one may.
    if (mirror_is_coming() && !txn_.mirror_lost) {
        await_mirror([this] {
            return mirror_.ready() || mirror_.state() == MirrorLink::State::down;
        });
    }
}

void SessionMachine::apply_row(Capture& capture, const protocol::SplitRow& row) {
    const CapturePlan& plan = *capture.plan;
    const Table& table = *plan.table;
    std::string key;
    if (plan.op == WriteOp::erase || plan.key_only || table.mapped()) {
        // The captured columns are those of the key.
        for (std::size_t i = 0; i < plan.columns.size(); ++i) {
            append_key_column(key, row.captured[i].value_or(std::string_view{}));
        }
    } else {
        for (const auto column : table.key) {
            const auto at = std::find(plan.columns.begin(), plan.columns.end(), column);
            const auto& value = row.captured[static_cast<std::size_t>(at - plan.columns.begin())];
            append_key_column(key, value.value_or(std::string_view{}));
        }
    }
    port_.counters().add(Counter::rows_captured);
    ++capture.rows;
    ++txn_.captured_rows[table.id];
    for (const CapturedImage& image : plan.images) {
        apply_image(capture, image, key, row);
    }
    if (capture.rows % rows_per_group == 0) {
        mirror_.end_group(mirror_out());
    }
}

// What one row of the primary means for one table of the mirror.
void SessionMachine::apply_image(Capture& capture, const CapturedImage& image,
                                 const std::string& key, const protocol::SplitRow& row) {
    const CapturePlan& plan = *capture.plan;
    const bool passes = !image.passes || row.captured[*image.passes] == std::string_view("\1", 1);
    const bool new_row = plan.op == WriteOp::insert && !plan.may_update;
    if (!passes && new_row) {
        return;  // there was no row before, and there is none to be
    }
    // An UPDATE may have moved the row out of the filter.
    const bool removes = plan.op == WriteOp::erase || !passes;
    const auto write =
        note_write(*image.table, {{image.table->id, key}, removes, image.key_only});
    if (image.key_only || !mirror_usable() ||
        (plan.op == WriteOp::update && mutant("updates_not_mirrored"))) {
        return;
    }
    begin_mirror();
    if (removes) {
        mirror_.erase(*image.table, capture.catalog_version, key, write, mirror_out());
    } else {
        // Generated key columns stand behind the image: they name the row, they are not written.
        const auto first = row.captured.begin() + static_cast<std::ptrdiff_t>(image.first);
        capture.image.assign(first, first + static_cast<std::ptrdiff_t>(image.count));
        const bool may_miss = image.table->mapped() && image.table->mapping->belongs;
        mirror_.upsert(*image.table, capture.catalog_version, capture.image, mirror_out(),
                       may_miss ? write : MirrorLink::not_watched);
    }
    port_.counters().add(Counter::mirror_rows_applied);
}

void SessionMachine::capture_done(Capture& capture) {
    mirror_.end_group(mirror_out());
    if (capture.expected_rows && *capture.expected_rows != capture.rows) {
        // Rows slipped in between the look and the write: what they cascaded to, or their former
        // keys, are not known.
        suspect_table(capture.plan->table, "rows_slipped_in");
        for (const auto& before : capture.plan->before) {
            suspect_table(before.table, "rows_slipped_in");
        }
    }
}

void SessionMachine::suspect_table(const std::shared_ptr<const Table>& table,
                                   const std::string& reason) {
    for (const auto& each : with_siblings(table)) {
        txn_.suspects.push_back({each->id, reason});
    }
}

void SessionMachine::mirror_statement(std::string_view sql) {
    if (mirror_usable()) {
        begin_mirror();
        mirror_.statement(sql, mirror_out());
    }
}

void SessionMachine::mirror_lost_in_transaction(const std::string& why) {
    txn_.mirror_lost = true;
    if (txn_.mirrored_ddl) {
        txn_.suspects.push_back({0, "ddl_not_mirrored"});
    }
    port_.counters().add(Counter::mirror_failures);
    port_.log(2, "mirror transaction given up, its keys turn dirty: " + why);
}

void SessionMachine::suspect_what_was_written() {
    std::set<TableId> tables;
    for (const auto& write : txn_.writes) {
        tables.insert(write.key.table);
    }
    for (const auto& write : txn_.tables) {
        tables.insert(write.table);
    }
    std::vector<SuspectMark> marks;
    for (const auto table : tables) {
        marks.push_back({table, "written_outside_transaction"});
    }
    port_.mark_suspect(std::move(marks));
}

// --- statements that are not captured ---

void SessionMachine::note_suspects(const Decision& decision) {
    txn_.suspects.insert(txn_.suspects.end(), decision.suspects.begin(), decision.suspects.end());
    for (const auto& write : decision.tables) {
        const auto same = [&](const TableWrite& noted) {
            return noted.table == write.table && noted.removes == write.removes;
        };
        if (std::none_of(txn_.tables.begin(), txn_.tables.end(), same)) {
            txn_.tables.push_back(write);
        }
    }
    if (decision.reload_catalog) {
        note_schema_change();
    }
}

// Until the transaction ends the catalogue is older than what its statements see.
void SessionMachine::note_schema_change() {
    if (!txn_.reload_catalog) {
        txn_.reload_catalog = true;
        ++decision_generation_;
    }
}

void SessionMachine::prepare_uncaptured(const Decision& decision) {
    note_suspects(decision);
    if (decision.route == Route::mirrored_text) {
        wait_mirror_login();
    }
    if (decision.may_commit) {
        guard_own_commits(decision.reason);
    }
    if (decision.measure) {
        take_baseline(decision.reason, decision.deep);
        // DDL and TRUNCATE that are repeated on the mirror say themselves what they lock.
        const bool opaque = decision.route == Route::guarded;
        txn_.opaque = txn_.opaque || opaque;
        txn_.unrecorded = txn_.unrecorded || !decision.deep;
    }
}

ReplyHandler SessionMachine::statement_watch(const Decision& decision,
                                             std::shared_ptr<const ParsedQuery> parsed,
                                             std::size_t index) {
    return on_reply([this, decision, parsed = std::move(parsed), index](
                        char type, std::string_view body, std::string_view reply) {
        if (type == 'C') {
            std::string sql = parsed->sql;
            if (parsed->parsed) {
                const auto& statement = parsed->statements[index];
                sql = sql.substr(statement.begin, statement.end - statement.begin);
            }
            const bool refused = std::exchange(commit_refused_, false);
            after_statement(decision, sql, *parsed, index, body.substr(0, body.find('\0')));
            if (refused) {
                return;  // the client has the error that ended its block
            }
        }
        if (type != 0) {
            to_client_.append(reply);
        }
    });
}

// A statement that was not captured has succeeded on the primary.
void SessionMachine::after_statement(const Decision& decision, const std::string& sql,
                                     const ParsedQuery& parsed, std::size_t index,
                                     std::string_view tag) {
    const Statement* statement =
        parsed.parsed && index < parsed.statements.size() ? &parsed.statements[index] : nullptr;
    switch (decision.route) {
        case Route::settings:
            settings_stale_ = true;
            txn_.settings_touched = true;
            if (tag == "DISCARD ALL") {
                statements_.clear();
            }
            break;
        case Route::guarded:
            settings_stale_ = true;  // a function may set, and make temporary tables
            txn_.settings_touched = true;
            break;
        case Route::begin:
            in_block_ = true;
            break;
        case Route::rollback:
            transaction_ended();
            break;
        case Route::savepoint:
            txn_.savepoints.push_back(statement->name);
            if (mirror_.in_transaction() && mirror_usable()) {
                mirror_.statement("SAVEPOINT " + quote_identifier(statement->name), mirror_out());
            }
            break;
        case Route::release:
        case Route::rollback_to:
            savepoint_ended(*statement, decision.route == Route::release);
            break;
        case Route::mirrored_text:
            txn_.mirrored_ddl = txn_.mirrored_ddl || decision.reload_catalog;
            if (decision.reload_catalog && !mirror_usable()) {
                txn_.suspects.push_back({0, "ddl_not_mirrored"});
            }
            mirror_statement(decision.mirror_sql.empty() ? sql : decision.mirror_sql);
            forget_measured(decision.tables);
            break;
        case Route::prepare_transaction:
            if (statement != nullptr && tag == "PREPARE TRANSACTION") {
                note_prepared(statement->name);
            }
            transaction_ended();
            break;
        case Route::forward:
            if (statement != nullptr && statement->kind == StatementKind::rollback_prepared) {
                port_.prepared_transactions().forget(statement->name);
            }
            if (statement != nullptr && statement->kind == StatementKind::deallocate) {
                if (statement->name.empty()) {
                    statements_.clear();
                } else {
                    statements_.erase(statement->name);
                }
            }
            break;
        default:
            break;
    }
}

void SessionMachine::savepoint_ended(const Statement& statement, bool released) {
    if (mutant("savepoints_not_mirrored")) {
        return;
    }
    auto& names = txn_.savepoints;
    const auto last = std::find(names.rbegin(), names.rend(), statement.name);
    if (last != names.rend()) {
        // RELEASE forgets the savepoint too; ROLLBACK TO keeps it.
        names.erase(released ? last.base() - 1 : last.base(), names.end());
    }
    if (!released && txn_.settings_touched) {
        settings_stale_ = true;
    }
    if (mirror_.in_transaction() && mirror_usable()) {
        mirror_.statement((released ? "RELEASE SAVEPOINT " : "ROLLBACK TO SAVEPOINT ") +
                              quote_identifier(statement.name),
                          mirror_out());
    }
}

// --- the end of a transaction ---

// Steps: wait until everything is known and durable, then `send` the commit.
void SessionMachine::commit_barrier(std::function<void()> send) {
    wait_primary();
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
        wait_mirror_applied();
        then([this] {
            reject_unmirrored();
            return true;
        });
        journal_then(send);
        return true;
    });
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

void SessionMachine::journal_then(std::function<void()> send) {
    then([this] {
        if (replies_.skipping() || status_ == 'E') {
            return true;  // measuring failed: there is nothing to commit any more
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

ReplyHandler SessionMachine::commit_on_tag() {
    return on_reply([this](char type, std::string_view body, std::string_view reply) {
        const bool refused = type == 'C' && std::exchange(commit_refused_, false);
        if (type == 'C') {
            commit_decided(protocol::word_of_tag(body.substr(0, body.find('\0'))) == "COMMIT");
        } else if (type == 'E') {
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
    in_block_ = false;  // unless AND CHAIN: ReadyForQuery tells
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
