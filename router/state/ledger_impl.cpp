#include "router/state/ledger_impl.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <stdexcept>

#include "router/model/mutant.hpp"
#include "router/state/journal_entry.hpp"

namespace banyan::router {
namespace {

// It writes everything anew, which costs the more the less there is room for: the pauses grow.
constexpr std::chrono::milliseconds shortest_resync_interval{500};
constexpr std::chrono::milliseconds longest_resync_interval{5000};

std::int64_t unix_ms() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

}  // namespace

void Ledger::Impl::write(std::function<void(sqlite3*)> work, std::function<void(bool)> then,
                         std::vector<TableId> at_stake) {
    db_.submit(std::move(work),
               [this, then = std::move(then), at_stake = std::move(at_stake)](bool ok) {
                   if (!ok) {
                       const std::lock_guard guard(mutex_);
                       SuspectRows changed;  // written by resync()
                       for (const TableId table : at_stake) {
                           mark_suspect({table, "journal_failed", {}}, changed);
                       }
                       ++failures_;
                       if (!std::exchange(journal_failed_, true)) {
                           db_.note_journal_lost(true);
                       }
                   }
                   if (then) {
                       then(ok);
                   }
               });
    resync();
}

void Ledger::Impl::resync() {
    const auto now = Clock::now();
    resync_interval_ = std::max(resync_interval_, shortest_resync_interval);
    if (!journal_failed_ || resyncing_ || now - last_resync_ < resync_interval_) {
        return;
    }
    last_resync_ = now;
    resyncing_ = true;
    auto contents = std::make_shared<const LedgerStore::Contents>(snapshot());
    db_.submit([this, contents](sqlite3* db) { store_.replace_all(db, *contents); },
               [this, failures = failures_](bool ok) {
                   const std::lock_guard guard(mutex_);
                   resyncing_ = false;
                   if (ok && failures == failures_) {
                       journal_failed_ = false;
                       db_.note_journal_lost(false);
                       spdlog::warn("state: the journal can be written again, nothing is owed");
                   }
                   resync_interval_ = ok ? shortest_resync_interval
                                         : std::min(resync_interval_ * 2, longest_resync_interval);
               });
}

LedgerStore::Contents Ledger::Impl::snapshot() const {
    LedgerStore::Contents contents;
    for (const auto& [id, txn] : txns_) {
        contents.journal.emplace_back(id, encode_journal_entry(txn.intent));
    }
    contents.dirty = dirty_.sample(dirty_.size());
    for (const auto& [table, suspect] : suspects_) {
        contents.suspects.push_back(suspect);
    }
    return contents;
}

void Ledger::Impl::mark_suspect(const SuspectMark& mark, SuspectRows& changed) {
    if (mark.table == 0 && !tables_.empty()) {
        for (const TableId table : tables_) {
            mark_suspect({table, mark.reason, {}}, changed);
        }
        return;
    }
    SuspectTable& suspect = suspects_[mark.table];
    if (suspect.generation == 0) {
        suspect.table = mark.table;
        suspect.since_unix_ms = unix_ms();
        suspect.rows = mark.rows;
    } else {
        suspect.rows.add(mark.rows);
    }
    suspect.generation = ++generation_;
    suspect.reason = mark.reason;
    changed.push_back(suspect);
    // The chunk may bring back what is gone: see close_window().
    for (auto& [id, window] : windows_) {
        if (window.table == mark.table) {
            window.suspicion = mark.reason;
        }
    }
}

void Ledger::Impl::touch(const RowKey& key, std::vector<DirtyKey>& changed) {
    bool touched = false;
    for (auto& [id, window] : windows_) {
        if (window.table == key.table) {
            window.touched.insert(key);
            touched = true;
        }
    }
    if (touched) {
        changed.push_back(mark_dirty(key, "window"));
    }
}

void Ledger::Impl::limit_dirty() {
    while (dirty_.size() > limits_.max_dirty_keys) {
        const TableId table = dirty_.largest();
        const auto type = key_types_.find(table);
        SuspectMark mark{table, "too_many_dirty_keys",
                         KeyRanges::none(type == key_types_.end() ? 0 : type->second)};
        const std::size_t keys =
            dirty_.clear_table(table, [&](const RowKey& key) { mark.rows.add(key.bytes); });
        collapsed_dirty_ += keys;
        spdlog::warn("state: {} dirty keys of table {} are too many: ranges of it are verified",
                     keys, table);
        SuspectRows changed;
        mark_suspect(mark, changed);
        write(
            [this, table, changed = std::move(changed)](sqlite3* db) {
                store_.put_suspects(db, changed);
                store_.erase_dirty(db, table);
            },
            {}, {table});
    }
}

bool Ledger::Impl::window_open(TableId table) const {
    return std::any_of(windows_.begin(), windows_.end(),
                       [&](const auto& entry) { return entry.second.table == table; });
}

bool Ledger::Impl::repair_blocked(TableId table) const {
    return windows_waiting_.contains(table) || window_open(table);
}

void Ledger::Impl::end(TxnId id, CommitOutcome outcome, const char* reason) {
    const auto found = txns_.find(id);
    if (found == txns_.end()) {
        return;
    }
    std::vector<DirtyKey> keys;
    SuspectRows suspects;
    for (const KeyWrite& write : found->second.intent.writes) {
        const auto count = in_flight_.find(write.key);
        if (--count->second == 0) {
            in_flight_.erase(count);
        }
        if (outcome == CommitOutcome::not_mirrored ||
            (outcome == CommitOutcome::mirrored && write.dirty)) {
            keys.push_back(mark_dirty(write.key, reason));
        }
    }
    const bool settled = outcome == CommitOutcome::mirrored && found->second.settling;
    for (const TableWrite& write : found->second.intent.tables) {
        if (const auto written = tables_in_flight_.find(write.table);
            written != tables_in_flight_.end()) {
            written->second.erase(id);
            if (written->second.empty()) {
                tables_in_flight_.erase(written);
            }
        }
        if (outcome == CommitOutcome::not_mirrored || settled) {
            mark_suspect({write.table, settled ? reason : write.reason, write.rows}, suspects);
        }
    }
    for (const SuspectMark& mark : found->second.intent.suspects) {
        if (--carried_[mark.table] == 0) {
            carried_.erase(mark.table);
        }
        // Marked again: a verification that ran since begin_commit saw the table before this
        // transaction's changes were visible.
        if (outcome != CommitOutcome::rolled_back && !mutant("suspicion_not_renewed")) {
            mark_suspect(mark, suspects);
        }
    }
    txns_.erase(found);
    const bool work = !keys.empty();
    // One request, hence one SQLite transaction: the entry goes only with its keys in place.
    write([this, id, keys = std::move(keys), suspects = std::move(suspects)](sqlite3* db) {
        store_.put_dirty(db, keys);
        store_.put_suspects(db, suspects);
        store_.erase_journal(db, id);
    });
    limit_dirty();
    ended_.notify_all();
    if (work) {
        work_.notify_all();
    }
}

void Ledger::Impl::recover() {
    if (!db_.submit_and_wait([](sqlite3* db) { LedgerStore::create_tables(db); })) {
        throw std::runtime_error("the ledger's tables cannot be created in the state database");
    }
    LedgerStore::Contents contents;
    db_.read([&](sqlite3* db) { contents = LedgerStore::load(db); });
    for (DirtyKey& key : contents.dirty) {
        generation_ = std::max(generation_, key.generation);
        dirty_.mark(key.key, std::move(key.reason), key.generation);
    }
    for (SuspectTable& suspect : contents.suspects) {
        generation_ = std::max(generation_, suspect.generation);
        suspects_[suspect.table] = std::move(suspect);
    }
    if (contents.journal.empty()) {
        return;
    }
    SuspectRows changed;
    for (const auto& [id, bytes] : contents.journal) {
        last_txn_ = std::max(last_txn_, id);
        auto intent = decode_journal_entry(bytes);
        if (!intent) {
            mark_suspect({0, "journal_damaged", {}}, changed);
            continue;
        }
        for (const KeyWrite& key_write : intent->writes) {
            mark_dirty(key_write.key, "recovered");
        }
        for (const TableWrite& table_write : intent->tables) {
            mark_suspect({table_write.table, table_write.reason, table_write.rows}, changed);
        }
        for (const SuspectMark& mark : intent->suspects) {
            mark_suspect(mark, changed);
        }
    }
    const auto recovered = snapshot();
    if (!db_.submit_and_wait([&](sqlite3* db) { store_.replace_all(db, recovered); })) {
        throw std::runtime_error("the recovered journal cannot be written to the state database");
    }
}

}  // namespace banyan::router
