#include "router/state/ledger.hpp"

#include <algorithm>
#include <future>

#include "router/model/mutant.hpp"
#include "router/model/sync_point.hpp"
#include "router/state/journal_entry.hpp"
#include "router/state/ledger_impl.hpp"

namespace banyan::router {
namespace {

std::vector<TableId> tables_of(const CommitIntent& intent) {
    std::vector<TableId> tables;
    const auto add = [&](TableId table) {
        if (std::find(tables.begin(), tables.end(), table) == tables.end()) {
            tables.push_back(table);
        }
    };
    for (const KeyWrite& write : intent.writes) {
        add(write.key.table);
    }
    for (const TableWrite& write : intent.tables) {
        add(write.table);
    }
    for (const SuspectMark& mark : intent.suspects) {
        add(mark.table);
    }
    return tables;
}

}  // namespace

Ledger::Ledger(StateDb& db, LedgerLimits limits) : impl_(std::make_unique<Impl>(db, limits)) {
    impl_->recover();
}

Ledger::~Ledger() {
    // Requests run in order, so after this one nothing queued refers to the ledger any more.
    impl_->db_.submit_and_wait([](sqlite3*) {});
    impl_->store_.close();
}

TxnId Ledger::begin_commit(CommitIntent intent, std::function<void(bool durable)> done) {
    const bool settling = impl_->settling_;
    if (settling) {
        for (KeyWrite& write : intent.writes) {
            write.dirty = true;
        }
    }
    std::string entry;
    if (intent.tables.empty()) {
        entry = encode_journal_entry(intent);  // which may be long: without the mutex
    }
    std::vector<TableId> at_stake = tables_of(intent);
    const auto now = Impl::Clock::now();
    const std::lock_guard guard(impl_->mutex_);
    const TxnId id = ++impl_->last_txn_;
    std::vector<DirtyKey> touched;
    Impl::SuspectRows changed;  // durable by the journal entry until the end
    for (const KeyWrite& write : intent.writes) {
        ++impl_->in_flight_[write.key];
        if (write.removes && !impl_->windows_.empty()) {
            impl_->touch(write.key, touched);
        }
    }
    for (const TableWrite& write : intent.tables) {
        impl_->tables_in_flight_[write.table].emplace(id, write.rows);
        impl_->collapsed_writes_ += write.by_row ? 1U : 0U;
        if (write.removes && impl_->window_open(write.table)) {
            intent.suspects.push_back({write.table, write.reason, write.rows});
        }
    }
    if (!intent.tables.empty()) {
        entry = encode_journal_entry(intent);
    }
    for (const SuspectMark& mark : intent.suspects) {
        impl_->mark_suspect(mark, changed);
        ++impl_->carried_[mark.table];
    }
    impl_->txns_.emplace(id, Impl::Txn{std::move(intent), now, settling, false, {}, {}});
    ++impl_->journaled_;
    if (mutant("journal_after_commit")) {
        std::exchange(done, nullptr)(true);
    }
    impl_->write(
        [impl = impl_.get(), id, entry = std::move(entry),
         touched = std::move(touched)](sqlite3* db) {
            if (mutant("no_journal")) {
                return;
            }
            sync_point(SyncPoint::journal);
            impl->store_.put_journal(db, id, entry);
            impl->store_.put_dirty(db, touched);
        },
        std::move(done), std::move(at_stake));
    impl_->limit_dirty();
    return id;
}

void Ledger::finish(TxnId txn, CommitOutcome outcome) {
    const std::lock_guard guard(impl_->mutex_);
    const auto found = impl_->txns_.find(txn);
    const bool settling = found != impl_->txns_.end() && found->second.settling;
    impl_->end(txn, outcome,
               outcome != CommitOutcome::mirrored ? "not_mirrored"
               : settling                         ? "settling"
                                                  : "touched_no_row");
}

void Ledger::lose(TxnId txn, std::vector<LimboBackend> backends) {
    const std::lock_guard guard(impl_->mutex_);
    if (const auto found = impl_->txns_.find(txn); found != impl_->txns_.end()) {
        found->second.limbo = true;
        found->second.lost = Impl::Clock::now();
        found->second.backends = std::move(backends);
        impl_->work_.notify_all();
    }
}

void Ledger::set_tables(std::vector<TableId> tables,
                        std::map<TableId, std::uint32_t> key_types) {
    const std::lock_guard guard(impl_->mutex_);
    impl_->tables_ = std::move(tables);
    impl_->key_types_ = std::move(key_types);
    impl_->limit_dirty();
    const auto all = impl_->suspects_.find(0);
    if (all == impl_->suspects_.end() || impl_->tables_.empty()) {
        return;
    }
    const std::string reason = all->second.reason;
    impl_->suspects_.erase(all);
    Impl::SuspectRows changed;
    impl_->mark_suspect({0, reason}, changed);
    impl_->write([impl = impl_.get(), changed = std::move(changed)](sqlite3* db) {
        impl->store_.put_suspects(db, changed);
        impl->store_.erase_suspect(db, 0);
    });
}

void Ledger::mark_suspect(const std::vector<SuspectMark>& marks) {
    const std::lock_guard guard(impl_->mutex_);
    Impl::SuspectRows changed;
    for (const SuspectMark& mark : marks) {
        impl_->mark_suspect(mark, changed);
    }
    impl_->write([impl = impl_.get(), changed = std::move(changed)](sqlite3* db) {
        impl->store_.put_suspects(db, changed);
    });
}

void Ledger::mark_dirty(const std::vector<RowKey>& keys, const std::string& reason) {
    const std::lock_guard guard(impl_->mutex_);
    std::vector<DirtyKey> changed;
    for (const RowKey& key : keys) {
        changed.push_back(impl_->mark_dirty(key, reason));
    }
    impl_->write([impl = impl_.get(), changed = std::move(changed)](sqlite3* db) {
        impl->store_.put_dirty(db, changed);
    });
    impl_->limit_dirty();
    impl_->work_.notify_all();
}

std::vector<std::pair<TxnId, std::vector<LimboBackend>>> Ledger::limbo() const {
    const std::lock_guard guard(impl_->mutex_);
    std::vector<std::pair<TxnId, std::vector<LimboBackend>>> lost;
    for (const auto& [id, txn] : impl_->txns_) {
        if (txn.limbo) {
            lost.emplace_back(id, txn.backends);
        }
    }
    return lost;
}

void Ledger::resolve_limbo(TxnId txn) {
    const std::lock_guard guard(impl_->mutex_);
    const auto found = impl_->txns_.find(txn);
    if (found != impl_->txns_.end() && found->second.limbo) {
        impl_->end(txn, CommitOutcome::not_mirrored, "unknown_outcome");
    }
}

std::chrono::milliseconds Ledger::limbo_age(TxnId txn) const {
    const std::lock_guard guard(impl_->mutex_);
    const auto found = impl_->txns_.find(txn);
    if (found == impl_->txns_.end() || !found->second.limbo) {
        return {};
    }
    return std::chrono::duration_cast<std::chrono::milliseconds>(Impl::Clock::now() -
                                                                 found->second.lost);
}

bool Ledger::in_flight(const RowKey& key) const {
    const std::lock_guard guard(impl_->mutex_);
    if (impl_->in_flight_.contains(key)) {
        return true;
    }
    const auto written = impl_->tables_in_flight_.find(key.table);
    return written != impl_->tables_in_flight_.end() &&
           std::any_of(written->second.begin(), written->second.end(),
                       [&](const auto& entry) { return entry.second.contains(key.bytes); });
}

bool Ledger::wait_in_flight(std::chrono::milliseconds timeout) const {
    std::unique_lock lock(impl_->mutex_);
    const TxnId newest = impl_->last_txn_;
    return impl_->ended_.wait_for(lock, timeout, [&] {
        return impl_->txns_.empty() || impl_->txns_.begin()->first > newest;
    });
}

Ledger::WindowId Ledger::open_window(TableId table) {
    std::unique_lock lock(impl_->mutex_);
    const auto waiting = impl_->windows_waiting_.insert(table);
    impl_->ended_.wait(lock, [&] { return !impl_->repairing_.contains(table); });
    impl_->windows_waiting_.erase(waiting);
    const WindowId id = ++impl_->last_window_;
    impl_->windows_[id].table = table;
    std::vector<DirtyKey> touched;
    Impl::SuspectRows suspects;
    for (const auto& [txn_id, txn] : impl_->txns_) {
        if (mutant("window_forgets_deletes_in_flight")) {
            break;
        }
        for (const TableWrite& write : txn.intent.tables) {
            if (write.removes && write.by_row && write.table == table) {
                impl_->mark_suspect({table, write.reason, write.rows}, suspects);
            }
        }
        for (const KeyWrite& write : txn.intent.writes) {
            if (write.removes && write.key.table == table) {
                impl_->touch(write.key, touched);
            }
        }
    }
    if (touched.empty() && suspects.empty()) {
        return id;
    }
    // Their COMMIT may be on its way already, so unlike in begin_commit nothing else keeps the
    // chunk from committing before they are durable.
    auto durable = std::make_shared<std::promise<bool>>();
    impl_->write(
        [impl = impl_.get(), touched = std::move(touched),
         suspects = std::move(suspects)](sqlite3* db) {
            impl->store_.put_dirty(db, touched);
            impl->store_.put_suspects(db, suspects);
        },
        [durable](bool ok) { durable->set_value(ok); }, {table});
    impl_->limit_dirty();
    lock.unlock();
    durable->get_future().wait();
    return id;
}

std::vector<RowKey> Ledger::touched(WindowId window) const {
    const std::lock_guard guard(impl_->mutex_);
    const auto found = impl_->windows_.find(window);
    if (found == impl_->windows_.end()) {
        return {};
    }
    return {found->second.touched.begin(), found->second.touched.end()};
}

void Ledger::close_window(WindowId window) {
    const std::lock_guard guard(impl_->mutex_);
    const auto found = impl_->windows_.find(window);
    if (found == impl_->windows_.end()) {
        return;
    }
    SuspectMark again{found->second.table, found->second.suspicion};
    if (const auto suspect = impl_->suspects_.find(again.table);
        suspect != impl_->suspects_.end()) {
        again.rows = suspect->second.rows;  // it has not been cleared since
    }
    impl_->windows_.erase(found);
    if (!again.reason.empty()) {
        // A verification that ran meanwhile did not see what the chunk has brought.
        Impl::SuspectRows changed;
        impl_->mark_suspect(again, changed);
        impl_->write([impl = impl_.get(), changed = std::move(changed)](sqlite3* db) {
            impl->store_.put_suspects(db, changed);
        });
    }
    impl_->work_.notify_all();
}

void Ledger::begin_settling() {
    impl_->settling_ = !mutant("mirrored_beside_unmirrored");
}

void Ledger::end_settling() {
    const std::lock_guard guard(impl_->mutex_);
    impl_->settling_ = false;
    impl_->work_.notify_all();
}

std::vector<DirtyKey> Ledger::begin_repair(std::size_t max) {
    const std::lock_guard guard(impl_->mutex_);
    if (impl_->settling_) {
        return {};
    }
    auto keys = impl_->dirty_.ready(max, Impl::Clock::now(),
                                    [&](TableId table) { return impl_->repair_blocked(table); });
    for (const DirtyKey& key : keys) {
        impl_->repairing_.insert(key.key.table);
    }
    return keys;
}

void Ledger::clear_dirty(const RowKey& key, std::uint64_t generation) {
    const std::lock_guard guard(impl_->mutex_);
    if (!impl_->dirty_.clear(key, generation)) {
        return;
    }
    ++impl_->repaired_;
    impl_->write([impl = impl_.get(), key, generation](sqlite3* db) {
        impl->store_.erase_dirty(db, key, generation);
    });
}

void Ledger::requeue(const RowKey& key, std::chrono::milliseconds delay) {
    const std::lock_guard guard(impl_->mutex_);
    impl_->dirty_.postpone(key, Impl::Clock::now() + delay);
}

void Ledger::end_repair() {
    const std::lock_guard guard(impl_->mutex_);
    impl_->repairing_.clear();
    impl_->ended_.notify_all();
}

std::uint64_t Ledger::dirty_count() const {
    const std::lock_guard guard(impl_->mutex_);
    return impl_->dirty_.size();
}

std::uint64_t Ledger::dirty_count(TableId table) const {
    const std::lock_guard guard(impl_->mutex_);
    return impl_->dirty_.size(table);
}

std::vector<std::pair<TableId, std::uint64_t>> Ledger::dirty_tables() const {
    const std::lock_guard guard(impl_->mutex_);
    return impl_->dirty_.tables();
}

bool Ledger::dirty_backlog() const {
    const std::lock_guard guard(impl_->mutex_);
    constexpr std::uint64_t many = 100'000;
    return impl_->dirty_.size() >= std::min(many, impl_->limits_.max_dirty_keys / 2 + 1);
}

std::vector<DirtyKey> Ledger::dirty_sample(std::size_t max) const {
    const std::lock_guard guard(impl_->mutex_);
    return impl_->dirty_.sample(max);
}

void Ledger::wait_for_work(std::chrono::milliseconds timeout) const {
    const auto deadline = Impl::Clock::now() + timeout;
    std::unique_lock lock(impl_->mutex_);
    impl_->resync();
    for (;;) {
        const auto now = Impl::Clock::now();
        const auto next =
            impl_->dirty_.next_ready([&](TableId table) { return impl_->repair_blocked(table); });
        if (now >= deadline || (next && *next <= now)) {
            return;
        }
        impl_->work_.wait_until(lock, next ? std::min(*next, deadline) : deadline);
    }
}

std::vector<SuspectTable> Ledger::suspects() const {
    const std::lock_guard guard(impl_->mutex_);
    std::vector<SuspectTable> suspects;
    for (const auto& [table, suspect] : impl_->suspects_) {
        suspects.push_back(suspect);
    }
    return suspects;
}

std::optional<SuspectTable> Ledger::suspect(TableId table) const {
    const std::lock_guard guard(impl_->mutex_);
    auto found = impl_->suspects_.find(table);
    if (found == impl_->suspects_.end()) {
        found = impl_->suspects_.find(0);
    }
    return found == impl_->suspects_.end() ? std::nullopt : std::optional(found->second);
}

bool Ledger::clear_suspect(TableId table, std::uint64_t generation) {
    const std::lock_guard guard(impl_->mutex_);
    const auto found = impl_->suspects_.find(table);
    if (table == 0 || found == impl_->suspects_.end() || found->second.generation != generation ||
        impl_->carried_.contains(table) || impl_->carried_.contains(0) || impl_->settling_) {
        return false;
    }
    for (const auto& [id, window] : impl_->windows_) {
        if (window.table == table && !window.suspicion.empty()) {
            return false;
        }
    }
    impl_->suspects_.erase(found);
    impl_->write(
        [impl = impl_.get(), table](sqlite3* db) { impl->store_.erase_suspect(db, table); });
    return true;
}

void Ledger::forget_all() {
    const std::lock_guard guard(impl_->mutex_);
    impl_->txns_.clear();
    impl_->in_flight_.clear();
    impl_->tables_in_flight_.clear();
    impl_->carried_.clear();
    impl_->dirty_.clear_all();
    impl_->suspects_.clear();
    impl_->windows_.clear();
    impl_->settling_ = false;
    impl_->write([impl = impl_.get()](sqlite3* db) { impl->store_.replace_all(db, {}); });
    impl_->ended_.notify_all();
}

LedgerStats Ledger::stats() const {
    LedgerStats stats;
    stats.journal_bytes = impl_->db_.file_bytes();
    const std::lock_guard guard(impl_->mutex_);
    impl_->resync();
    stats.in_flight = impl_->txns_.size();
    stats.limbo = static_cast<std::uint64_t>(
        std::count_if(impl_->txns_.begin(), impl_->txns_.end(),
                      [](const auto& entry) { return entry.second.limbo; }));
    stats.dirty = impl_->dirty_.size();
    stats.suspect_tables = impl_->suspects_.size();
    stats.journaled_total = impl_->journaled_;
    stats.journal_batches_total = impl_->db_.batches();
    stats.journal_requests_total = impl_->db_.requests();
    stats.journal_errors_total = impl_->failures_;
    stats.collapsed_writes_total = impl_->collapsed_writes_;
    stats.collapsed_dirty_total = impl_->collapsed_dirty_;
    stats.oldest_dirty = impl_->dirty_.oldest(Impl::Clock::now());
    stats.repaired_total = impl_->repaired_;
    if (!impl_->txns_.empty()) {
        stats.oldest_in_flight = std::chrono::duration_cast<std::chrono::milliseconds>(
            Impl::Clock::now() - impl_->txns_.begin()->second.begun);
    }
    stats.journal_failed = impl_->journal_failed_;
    return stats;
}

}  // namespace banyan::router
