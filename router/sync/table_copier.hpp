// Copies one table chunk by chunk: Protocol P of router/sync/README.md, on two connections of its
// own. One thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

#include "router/catalog/catalog.hpp"
#include "router/pg/connection.hpp"
#include "router/state/ledger.hpp"
#include "router/sync/backfill_store.hpp"

namespace banyan::router {

/// Settings for backfill's connections: no waits without an end, and on the target no triggers and
/// no foreign keys (rows arrive in key order, not parents first).
Result<void> prepare_source_session(Connection& source, std::chrono::milliseconds lock_timeout);
Result<void> prepare_target_session(Connection& target, std::chrono::milliseconds lock_timeout);

class TableCopier {
   public:
    /// References outlive the copier. `lock_timeout` is that of the target's session.
    TableCopier(Ledger& ledger, Connection& source, Connection& target,
                std::shared_ptr<const Table> table, std::chrono::milliseconds lock_timeout);
    /// Closes the window if one is open. After a lost target connection call only when the lost
    /// backend is known to be gone, or the table is suspect: its COMMIT may still take effect.
    ~TableCopier();
    TableCopier(const TableCopier&) = delete;
    TableCopier& operator=(const TableCopier&) = delete;

    /// Creates the temporary tables and takes up the stored progress.
    Result<void> begin();
    /// Copies the next `limit` rows. On failure nothing has changed on the target, unless the
    /// connection was lost.
    Result<std::uint64_t> copy_chunk(std::uint32_t limit);
    /// Passes over the next `limit` rows: makes their keys dirty instead, durably.
    Result<std::uint64_t> leave_chunk_to_repair(std::uint32_t limit, const std::string& reason);

    const StoredProgress& progress() const { return progress_; }
    /// Chunks that went straight into the table.
    std::uint64_t straight_chunks() const { return straight_chunks_; }
    /// Which side the last failure came from.
    Connection& failed_connection() { return source_failed_ ? source_ : target_; }
    /// A COMMIT was sent on the target and not answered.
    bool outcome_unknown() const { return outcome_unknown_; }

   private:
    struct ChunkRead {
        std::uint64_t rows = 0;
        KeyText last_key;
        bool straight = false;  ///< the rows are in the table, not in the temporary one
    };
    Result<ChunkRead> transfer(std::uint32_t limit);
    Result<ChunkRead> copy_into(const std::string& table, const std::string& begin,
                                std::uint32_t limit);
    Result<ChunkRead> copy_straight(std::uint32_t limit);
    Result<ChunkRead> stream_rows(const std::string& sql, const std::string& into,
                                  const std::string& begin);
    Result<void> remove_touched();
    StoredProgress after(const ChunkRead& chunk, std::uint32_t limit) const;
    void close_window();
    std::string chunk_query(const std::string& columns, std::uint32_t limit) const;

    Ledger& ledger_;
    Connection& source_;
    Connection& target_;
    std::shared_ptr<const Table> table_;
    const Table& image_;                // the target's table
    std::vector<std::size_t> columns_;  // of it, in the stream
    std::string columns_sql_;
    std::string begin_straight_;
    std::string straight_into_;         // the table and its columns; empty: never straight
    std::uint32_t not_straight_for_ = 0;  // chunks
    std::uint64_t straight_chunks_ = 0;
    std::string insert_sql_;
    std::string remove_sql_;
    StoredProgress progress_;
    std::optional<Ledger::WindowId> window_;
    bool source_failed_ = false;
    bool outcome_unknown_ = false;
};

}  // namespace banyan::router
