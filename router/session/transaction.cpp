// The client's transaction and its mirror: row images applied, savepoints kept alike. Its end: commit.cpp.

#include <algorithm>
#include <set>
#include <utility>

#include "router/model/mutant.hpp"
#include "router/session/session_machine.hpp"

namespace banyan::router {
namespace {

// Rows per mirror group: bounds what a failed group has to skip, and keeps answers coming.
constexpr std::uint64_t rows_per_group = 512;
// What a transaction writes goes to the mirror together, if it is no more than this: one wake-up of
// its server instead of one for each statement.
constexpr std::size_t most_open_writes = 16;
constexpr std::size_t most_open_bytes = 8192;

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
    if (mirror_.begin_refused()) {
        suspect_what_was_written();
    }
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

// The next statement's rows may join those of this one.
bool SessionMachine::rows_can_wait() const {
    return mirror_.ready() && mirror_.open_writes() > 0 &&
           mirror_.open_writes() <= most_open_writes &&
           to_server_[static_cast<std::size_t>(other(primary_))].size() <= most_open_bytes;
}

void SessionMachine::capture_done(Capture& capture) {
    if (!rows_can_wait()) {
        mirror_.end_group(mirror_out());
    }
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
            in_block_ = statement != nullptr && statement->chain;
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

}  // namespace banyan::router
