// The ledger: which keys are in flight, dirty, touched by an open backfill window, and which
// tables are suspect. In memory under one mutex, made durable by the state database's writer
// thread. All members are thread-safe. The concurrency argument is in router/state/README.md.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "router/model/key_ranges.hpp"
#include "router/model/result.hpp"
#include "router/model/types.hpp"

namespace banyan::router {

using TxnId = std::uint64_t;

/// One row written by a transaction that is about to commit on the primary.
struct KeyWrite {
    RowKey key;
    bool removes = false;  ///< a delete, or the old key of a key change: enters open windows
    bool dirty = false;    ///< stays dirty after the commit whatever the mirror does
};

/// A table whose rows may differ in ways not known by key.
struct SuspectMark {
    TableId table = 0;  ///< 0: every mirrored table
    std::string reason;
    KeyRanges rows = {};  ///< which of its rows
};

/// Rows of one table that both sides have written alike, without each of them being known: COPY,
/// TRUNCATE, or too many to keep their keys. Until the transaction's end every key among them counts
/// as in flight.
struct TableWrite {
    TableId table = 0;     ///< 0: any table; no key is in flight by it
    bool removes = false;  ///< rows went, so that an open backfill window may bring them back
    std::string reason;    ///< of the suspicion, should the mirror's half not commit
    /// Row by row, under row locks: others may read and write the table meanwhile.
    bool by_row = false;
    KeyRanges rows = {};
};

struct CommitIntent {
    std::vector<KeyWrite> writes;
    std::vector<SuspectMark> suspects;
    std::vector<TableWrite> tables = {};
};

enum class CommitOutcome : std::uint8_t {
    mirrored,      ///< committed on both sides
    not_mirrored,  ///< committed on the primary only: every key turns dirty, every table suspect
    rolled_back,   ///< not committed on the primary: forgotten
};

/// A backend that may still commit something although Banyan lost its connection.
struct LimboBackend {
    Side side = Side::source;
    std::int32_t process_id = 0;  ///< 0: unknown
};

struct DirtyKey {
    RowKey key;
    std::uint64_t generation = 0;
    std::string reason;
    std::uint32_t attempts = 0;
};

struct SuspectTable {
    TableId table = 0;
    std::uint64_t generation = 0;
    std::string reason;
    std::int64_t since_unix_ms = 0;
    KeyRanges rows = {};  ///< those that may differ
};

struct LedgerLimits {
    /// In all; beyond it the keys of the table with the most become a suspicion of their ranges.
    std::uint64_t max_dirty_keys = 1'000'000;
};

struct LedgerStats {
    std::uint64_t in_flight = 0;  ///< transactions
    std::uint64_t limbo = 0;      ///< transactions whose backend may still be alive
    std::uint64_t dirty = 0;      ///< keys
    std::uint64_t suspect_tables = 0;
    std::uint64_t journaled_total = 0;
    std::uint64_t journal_batches_total = 0;
    std::uint64_t journal_requests_total = 0;  ///< by batches: the mean size of one
    std::uint64_t journal_bytes = 0;           ///< of the database and its log on disk
    std::uint64_t journal_errors_total = 0;
    std::uint64_t repaired_total = 0;
    std::uint64_t collapsed_writes_total = 0;  ///< tables of which a transaction wrote too many rows
    std::uint64_t collapsed_dirty_total = 0;   ///< dirty keys that became a suspicion: max_dirty_keys
    std::chrono::milliseconds oldest_in_flight{0};
    std::chrono::milliseconds oldest_dirty{0};  ///< since it became dirty in this run
    bool journal_failed = false;  ///< durable writes are failing right now
};

class StateDb;

class Ledger {
   public:
    /// Loads what the state database holds; every uncleared journal entry becomes dirty (reason
    /// "recovered"). Throws std::runtime_error if it cannot. `db` must outlive the ledger.
    explicit Ledger(StateDb& db, LedgerLimits limits = {});
    ~Ledger();
    Ledger(const Ledger&) = delete;
    Ledger& operator=(const Ledger&) = delete;

    // --- sessions ---

    /// Registers the transaction's keys and tables as in flight, adds removals to open windows (a
    /// table whose rows went while one is open turns suspect), and writes the journal entry. `done(durable)` is called exactly once, from the writer thread, when the
    /// entry is in the journal; `durable` is false if the journal failed (then the tables are
    /// suspect in memory and the caller goes on without the mirror). Call before COMMIT is sent to
    /// the primary.
    TxnId begin_commit(CommitIntent intent, std::function<void(bool durable)> done);
    /// The transaction's end. Asynchronous; durable soon after. Call it with `mirrored` only when
    /// the mirror has answered its COMMIT: repair relies on it (router/sync/REPAIR.md). Unknown
    /// transactions are ignored.
    void finish(TxnId txn, CommitOutcome outcome);
    /// Connections were lost with the outcome unknown: the keys stay in flight until
    /// resolve_limbo() is told that the backends are gone, then turn dirty (tables: suspect).
    void lose(TxnId txn, std::vector<LimboBackend> backends);
    /// The mirrored tables, whenever a catalogue has been loaded: a mark for table 0, made before
    /// or after, becomes one mark for each of them. `key_types`: see KeyRanges::none(); a table
    /// without one has no ranges.
    void set_tables(std::vector<TableId> tables, std::map<TableId, std::uint32_t> key_types = {});
    /// Tables made suspect outside a commit.
    void mark_suspect(const std::vector<SuspectMark>& marks);
    /// Keys made dirty outside a commit.
    void mark_dirty(const std::vector<RowKey>& keys, const std::string& reason);

    // --- limbo (resolved by the repair worker) ---

    std::vector<std::pair<TxnId, std::vector<LimboBackend>>> limbo() const;
    void resolve_limbo(TxnId txn);
    /// How long ago lose() was called for it; zero if it is not in limbo.
    std::chrono::milliseconds limbo_age(TxnId txn) const;

    // --- in flight ---

    /// The key, or its whole table, is written by a transaction in flight.
    bool in_flight(const RowKey& key) const;
    /// Blocks until every transaction in flight at the call has ended, or the timeout passes
    /// (false).
    bool wait_in_flight(std::chrono::milliseconds timeout) const;

    // --- settling: from before the first mirrored transaction until every transaction that is not
    // mirrored has ended. One of those may write a row after a mirrored one did, so what is mirrored
    // meanwhile stays dirty, and repair waits for the end (R18). Not kept over a restart: the
    // sessions are gone then, and recovery waits for what they had sent. ---

    void begin_settling();
    void end_settling();

    // --- windows (backfill) and repair; never both at once on one table ---

    using WindowId = std::uint64_t;
    /// Opens a window on the table; keys being removed right now enter its touched set. Waits for a
    /// repair of the same table in progress to end.
    WindowId open_window(TableId table);
    /// The keys touched so far. They are durably dirty already.
    std::vector<RowKey> touched(WindowId window) const;
    void close_window(WindowId window);

    /// Up to `max` dirty keys whose retry time has come, of tables without an open window. Marks
    /// those tables as under repair until end_repair(). In the order they became dirty.
    std::vector<DirtyKey> begin_repair(std::size_t max);
    /// Clears the key if its generation is still the one read (R13).
    void clear_dirty(const RowKey& key, std::uint64_t generation);
    /// Tries again after `delay`.
    void requeue(const RowKey& key, std::chrono::milliseconds delay);
    void end_repair();

    std::uint64_t dirty_count() const;
    std::uint64_t dirty_count(TableId table) const;
    /// Each table that has dirty keys, with their number.
    std::vector<std::pair<TableId, std::uint64_t>> dirty_tables() const;
    /// So many keys are dirty that whoever looks for more should wait for repair.
    bool dirty_backlog() const;
    std::vector<DirtyKey> dirty_sample(std::size_t max) const;
    /// Blocks until something becomes dirty or the timeout passes.
    void wait_for_work(std::chrono::milliseconds timeout) const;

    // --- suspect tables ---

    std::vector<SuspectTable> suspects() const;
    /// The table's own suspicion, or the one of table 0 while that stands for all.
    std::optional<SuspectTable> suspect(TableId table) const;
    /// Clears the suspicion if its generation is unchanged, no transaction in flight carries a mark
    /// for the table, no window has been open since it was made, and settling is over.
    bool clear_suspect(TableId table, std::uint64_t generation);

    /// Forgets keys, suspicions and journal of every table: when mirroring ends (back to INITIAL,
    /// or COMPLETE). Transactions still in flight are forgotten as well; their finish() is ignored.
    void forget_all();

    LedgerStats stats() const;

   private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace banyan::router
