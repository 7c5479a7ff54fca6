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
    /// Finishes what is queued and writes the mark of a clean end.
    ~StateDb();

    /// Runs `work` on the writer thread inside the current batch's SQLite transaction; `done(ok)`
    /// is called from the writer thread after the batch's commit (ok) or failure. Requests run in
    /// the order submitted. `work` throws std::runtime_error to fail; a batch with a failed request
    /// is rolled back and its requests are run again one by one, so `work` may run twice and fails
    /// nobody else. After shutdown began, `done(false)` is called at once by the caller's thread.
    void submit(std::function<void(sqlite3*)> work, std::function<void(bool)> done);
    /// submit() and wait for the outcome. Not from the writer thread (a `done`).
    bool submit_and_wait(std::function<void(sqlite3*)> work);
    /// Runs `read` on the reader connection, under a mutex. For the control plane, not the data
    /// path. Sees committed batches only.
    void read(const std::function<void(sqlite3*)>& read);

    /// The persistent id of a table name (created on first use, never used again for another name);
    /// 0 if it could not be stored.
    TableId table_id(const std::string& schema, const std::string& name);

    /// The previous run's last journal entries may be lost: its machine crashed while durability
    /// was "process" (seen by a changed boot id and no clean end), or it died while its journal
    /// writes were failing. Every table is suspect then. Stays true, across restarts too, until
    /// machine_crash_handled() is called, which is after the suspicions have become durable.
    bool machine_crashed() const;
    void machine_crash_handled();
    /// Remembers, where a full disk does not matter, that journal writes are being lost.
    void note_journal_lost(bool lost);

    /// Boot id and lock file: a process that left the same ones behind is gone, since this one could
    /// take the lock.
    std::string lock_identity() const;

    std::uint64_t batches() const;
    /// Requests whose batch was committed.
    std::uint64_t requests() const;
    /// Of the file and its log on disk.
    std::uint64_t file_bytes() const;
    std::uint64_t errors() const;

   private:
    class Impl;
    explicit StateDb(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace banyan::router
