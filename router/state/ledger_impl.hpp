// Inside the ledger: its state and the steps that several operations share. Included by ledger.cpp
// and ledger_impl.cpp only.
#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "router/state/dirty_queue.hpp"
#include "router/state/ledger.hpp"
#include "router/state/ledger_store.hpp"
#include "router/state/state_db.hpp"

namespace banyan::router {

// One mutex guards everything here but the store; unless said otherwise it is held by the caller. A
// durable write is submitted while it is held, so that the state database sees the changes in the
// order in which memory did; callbacks come from the writer thread without any lock of the state
// database, so they may take it.
class Ledger::Impl {
   public:
    using Clock = std::chrono::steady_clock;
    using SuspectRows = std::vector<SuspectTable>;

    struct Txn {
        CommitIntent intent;
        Clock::time_point begun;
        bool settling = false;
        bool limbo = false;
        Clock::time_point lost;  // if in limbo
        std::vector<LimboBackend> backends;
    };
    struct Window {
        TableId table = 0;
        std::unordered_set<RowKey, RowKeyHash> touched;
        std::string suspicion;  ///< the table became suspect meanwhile: the reason
    };

    Impl(StateDb& db, LedgerLimits limits) : db_(db), limits_(limits) {}

    /// At start, without the mutex. Throws std::runtime_error.
    void recover();

    /// Submits a durable write. If it fails, `at_stake` turn suspect in memory; then, without the
    /// mutex, `then(ok)` is called from the writer thread.
    void write(std::function<void(sqlite3*)> work, std::function<void(bool)> then = {},
               std::vector<TableId> at_stake = {});
    /// After a failed write the database lacks something that memory knows. Once it can be written
    /// again, all of it is written anew: rare, and simpler to get right than a list of what is
    /// owed.
    void resync();

    /// Makes a key dirty in memory and returns the row to write.
    DirtyKey mark_dirty(const RowKey& key, const std::string& reason) {
        return dirty_.mark(key, reason, ++generation_);
    }
    /// Makes a table, or all of them, suspect in memory and appends the rows to write.
    void mark_suspect(const SuspectMark& mark, SuspectRows& changed);
    /// A removal seen while a window is open may leave a ghost on the mirror: the chunk may have
    /// read the row before it went. The key is dirty at once, not when the window closes, so that a
    /// crash between the chunk's commit and that moment loses nothing.
    void touch(const RowKey& key, std::vector<DirtyKey>& changed);
    bool window_open(TableId table) const;
    /// Keeps the number of dirty keys within its limit, after any of them were marked: those of the
    /// table with the most are forgotten, in the request that makes their ranges suspect.
    void limit_dirty();
    /// A window is open, or waits for a repair to end: it goes first, or a busy repair would starve
    /// it.
    bool repair_blocked(TableId table) const;
    /// A transaction's end. `reason` is for the keys that it leaves dirty.
    void end(TxnId id, CommitOutcome outcome, const char* reason);

    StateDb& db_;
    const LedgerLimits limits_;
    LedgerStore store_;  // writer thread only, without the mutex
    mutable std::mutex mutex_;
    mutable std::condition_variable ended_;  // a transaction or a repair ended
    mutable std::condition_variable work_;   // a key became dirty, a window closed

    std::map<TxnId, Txn> txns_;  // ordered: the first is the oldest
    TxnId last_txn_ = 0;
    std::unordered_map<RowKey, std::uint32_t, RowKeyHash> in_flight_;
    std::unordered_map<TableId, std::multimap<TxnId, KeyRanges>> tables_in_flight_;
    DirtyQueue dirty_;
    std::uint64_t generation_ = 0;

    std::map<WindowId, Window> windows_;
    std::atomic<bool> settling_{false};
    WindowId last_window_ = 0;
    std::multiset<TableId> windows_waiting_;
    std::unordered_set<TableId> repairing_;

    std::vector<TableId> tables_;
    std::map<TableId, std::uint32_t> key_types_;
    std::map<TableId, SuspectTable> suspects_;
    std::unordered_map<TableId, std::uint32_t> carried_;  // marks of transactions in flight

    bool journal_failed_ = false;
    bool resyncing_ = false;
    std::uint64_t failures_ = 0;
    Clock::time_point last_resync_ = {};
    std::chrono::milliseconds resync_interval_{0};  // 0: the shortest
    std::uint64_t journaled_ = 0;
    std::uint64_t repaired_ = 0;
    std::uint64_t collapsed_writes_ = 0;
    std::uint64_t collapsed_dirty_ = 0;

   private:
    LedgerStore::Contents snapshot() const;
};

}  // namespace banyan::router
