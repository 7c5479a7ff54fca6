// Backfill's inner state, shared by backfill.cpp (start, coordinator, progress) and
// backfill_worker.cpp (one table after the other). Private to them.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "router/sync/backfill.hpp"
#include "router/sync/pace.hpp"
#include "router/sync/table_copier.hpp"

namespace banyan::router {

inline constexpr std::chrono::milliseconds first_backoff{100};
inline constexpr std::chrono::milliseconds last_backoff{5000};

/// What an operator can do about a table that is not captured.
std::string why_not_copied(const Table& table);

// One coordinator thread prepares the target, holds the start barrier and starts the workers; each
// worker takes a table at a time from the queue. `mutex_` guards everything that progress() shows.
class Backfill::Impl {
   public:
    explicit Impl(BackfillContext context) : context_(std::move(context)) {}
    ~Impl() { stop(); }

    void start();
    void pause() { set_paused(true); }
    void resume() { set_paused(false); }
    void stop();
    Result<void> reset();
    bool done() const {
        const std::lock_guard guard(mutex_);
        return state_ == "done";
    }
    BackfillProgress progress() const;

   private:
    using Clock = std::chrono::steady_clock;

    struct Job {
        std::shared_ptr<const Table> table;
        TableProgress shown;
        RateMeter rate;
    };
    enum class Outcome { done, again, stopped, failed };
    struct Session {
        Connection source;
        Connection target;
    };

    void set_paused(bool paused) {
        const std::lock_guard guard(mutex_);
        paused_ = paused;
        changed_.notify_all();
    }
    void coordinate();
    bool prepare();
    Result<bool> prepare_once();
    void plan(const Catalog& catalog);
    void work();
    Job* take();
    void copy_table(Job& job);
    Outcome copy_session(Job& job, ChunkSize& size, std::chrono::milliseconds& backoff);
    Outcome copy_chunks(Job& job, ChunkSize& size, TableCopier& copier,
                        std::chrono::milliseconds& backoff);
    Outcome fail(Job& job, const std::string& why);
    bool settle_lost_commit(Job& job, std::int32_t process_id);
    bool wait_for_permission(Job& job);
    std::string reason_to_wait(const Job& job);
    void note_chunk(Job& job, const StoredProgress& progress, std::uint64_t rows);
    Result<Session> connect() const;

    void show(Job& job, const std::string& state, const std::string& waiting_for = "") {
        const std::lock_guard guard(mutex_);
        job.shown.state = state;
        job.shown.waiting_for = waiting_for;
    }
    /// False if stopped meanwhile.
    bool sleep(std::chrono::milliseconds time) {
        std::unique_lock lock(mutex_);
        return !changed_.wait_for(lock, time, [&] { return stopping_.load(); });
    }

    BackfillContext context_;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::atomic<bool> stopping_{false};
    std::thread coordinator_;

    std::string state_ = "idle";
    bool paused_ = false;
    bool running_ = false;
    std::string throttle_reason_;
    std::string waiting_for_;  // before the workers start
    std::vector<std::unique_ptr<Job>> jobs_;
    std::size_t next_job_ = 0;
    RateMeter rate_;
    Clock::time_point next_allowed_{};
    std::int64_t started_unix_ms_ = 0;
    std::int64_t finished_unix_ms_ = 0;
};

}  // namespace banyan::router
