// The workers that live as long as mirroring does: repair, backfill, and the keeper thread, which
// loads the catalogue (again), takes mirroring up after a restart, and notes the backfill's end.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "router/migration/core.hpp"
#include "router/sync/backfill.hpp"
#include "router/sync/repair.hpp"

namespace banyan::router {

struct RepairStatus {
    bool running = false;
    std::uint64_t repaired = 0;
    std::uint64_t requeued = 0;
    std::string last_error;
    RepairProgress progress = {};
};

class Workers {
   public:
    explicit Workers(Core& core);
    ~Workers();
    /// Starts the keeper. In a mirroring phase it takes mirroring up where the last process left
    /// it.
    void start();
    void stop();

    /// Before mirroring begins: progress of an earlier attempt would leave rows out.
    Result<void> forget_backfill();
    /// Mirroring has begun, every session takes part.
    void begin_mirroring();
    /// Mirroring has ended, no session takes part. Everything it knew is forgotten. An Error says
    /// what is left behind on the mirror.
    Result<void> end_mirroring();

    /// Reads both catalogues and hands them to the sessions. False: a database is away.
    bool load_catalog_once();
    void request_reload();
    void pause_repair();
    void resume_repair();
    RepairStatus repair_status() const;

    bool backfill_done() const;
    /// When the backfill ended; 0 if it has not.
    std::int64_t backfill_done_unix_ms() const;
    BackfillProgress backfill_progress() const;
    /// "start", "pause" or "resume"; false if nothing is being mirrored.
    bool backfill_action(const std::string& action);

   private:
    void keep();
    void load_catalog_again();
    bool complete_capture(const Catalog& catalog);
    void forget_captured_rows();
    bool look_again();
    void note_changed_mappings();
    void take_up_mirroring();
    Result<void> wait_for_orphans();
    void start_workers(bool with_backfill);
    void note_backfill();
    std::unique_ptr<Backfill> make_backfill();
    ApplicationWaits application_waits() const;

    Core& core_;
    mutable std::mutex mutex_;  ///< of the thread's flags
    std::condition_variable wake_;
    bool stopping_ = false;
    bool reload_ = false;
    std::chrono::steady_clock::time_point next_look_{};
    bool taken_up_ = false;
    std::vector<std::string> without_capture_;  ///< tables for which installing it was tried
    std::atomic<std::int64_t> backfill_done_unix_ms_{0};
    std::thread keeper_;

    mutable std::mutex workers_mutex_;
    std::string recovery_error_;
    std::array<std::string, 2> recovering_since_;  ///< by each server's clock; keeper's thread only
    std::shared_ptr<Repair> repair_;
    std::shared_ptr<Backfill> backfill_;
};

}  // namespace banyan::router
