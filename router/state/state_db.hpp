// The state database: one SQLite file in WAL mode in the state directory, owned by one process
// (file lock) and written by one thread that batches many requests into one commit.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "router/model/result.hpp"
#include "router/model/types.hpp"

struct sqlite3;

namespace banyan::router {

class StateDb {
   public:
    enum class Durability : std::uint8_t { process, power };

    /// Opens or creates `directory`/banyan.db, takes the lock file `directory`/banyan.lock, and
    /// creates missing tables. Fails with a sentence for the operator if another process holds the
    /// lock, the directory cannot be written, or the file is damaged.
    static Result<std::unique_ptr<StateDb>> open(const std::filesystem::path& directory,
                                                 Durability durability);
    ~StateDb();

    /// Runs `work` on the writer thread inside the current batch's SQLite transaction; `done(ok)`
    /// is called from the writer thread after the batch's commit (ok) or failure. Requests run in
    /// the order submitted. `work` throws std::runtime_error to fail the batch.
    void submit(std::function<void(sqlite3*)> work, std::function<void(bool)> done);
    /// submit() and wait for the outcome.
    bool submit_and_wait(std::function<void(sqlite3*)> work);
    /// Runs `read` on the reader connection, under a mutex. For the control plane, not the data
    /// path. Sees committed batches only.
    void read(const std::function<void(sqlite3*)>& read);

    /// The persistent id of a table name (created on first use).
    TableId table_id(const std::string& schema, const std::string& name);

    std::uint64_t batches() const;
    std::uint64_t errors() const;

   private:
    class Impl;
    explicit StateDb(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace banyan::router
