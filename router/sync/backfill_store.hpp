// Backfill's progress, kept on the target in banyan.backfill so that it commits with the rows it
// speaks of.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "router/pg/connection.hpp"
#include "router/sync/table_sql.hpp"

namespace banyan::router {

struct StoredProgress {
    bool done = false;
    KeyText last_key;  ///< of the last chunk; empty: nothing copied yet
    std::uint64_t rows = 0;
    std::uint64_t chunks = 0;
};

/// Creates schema and table where they are missing. Not to be run by two threads at once.
Result<void> create_progress_store(Connection& target);
/// nullopt: no row, or one that was written for another key.
Result<std::optional<StoredProgress>> load_progress(Connection& target, const Table& table);
/// Inside the caller's transaction, or on its own.
Result<void> save_progress(Connection& target, const Table& table, const StoredProgress& progress);
/// Deletes every row, and the schema if nothing else is in it.
Result<void> drop_progress_store(Connection& target);

}  // namespace banyan::router
