#include "router/sync/backfill.hpp"

#include <spdlog/spdlog.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "router/sync/pace.hpp"
#include "router/sync/start_barrier.hpp"
#include "router/sync/table_copier.hpp"

namespace banyan::router {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t max_dirty_ahead = 20000;  // keys that repair may lag behind
constexpr std::uint32_t data_isolation_rows = 64; // smaller chunks are left to repair as they are
constexpr std::uint32_t contention_attempts = 5;  // on a chunk of one row
constexpr std::uint32_t other_attempts = 3;
constexpr std::chrono::milliseconds first_backoff{100};
constexpr std::chrono::milliseconds last_backoff{5000};

std::int64_t unix_ms() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

std::string why_not_copied(const Table& table) {
    const std::string& reason = table.not_captured_because;
    if (reason == "no_key") {
        return "no_key: the table has no primary key and no unique index over NOT NULL columns. Add "
               "one on both sides, or copy the table yourself while nothing writes to it";
    }
    if (reason == "not_on_mirror") {
        return "not_on_mirror: create the table on the target, or exclude it";
    }
    if (reason == "columns_differ" || reason == "key_differs") {
        return reason + ": make the table's definition the same on both sides, or exclude it";
    }
    return reason + ": its writes cannot be captured row by row; copy the table yourself and verify "
                    "it, or exclude it";
}

}  // namespace

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

void Backfill::Impl::start() {
    {
        const std::lock_guard guard(mutex_);
        if (running_ || state_ == "done") {
            return;
        }
    }
    if (coordinator_.joinable()) {
        coordinator_.join();
    }
    {
        const std::lock_guard guard(mutex_);
        stopping_ = false;
        running_ = true;
        state_ = "running";
        started_unix_ms_ = unix_ms();
        finished_unix_ms_ = 0;
        plan(*context_.catalog());
    }
    coordinator_ = std::thread([this] { coordinate(); });
}

void Backfill::Impl::stop() {
    {
        const std::lock_guard guard(mutex_);
        stopping_ = true;
        changed_.notify_all();
    }
    if (coordinator_.joinable()) {
        coordinator_.join();
    }
}

Result<void> Backfill::Impl::reset() {
    stop();
    auto target = Connection::open(context_.config.target, backfill_application);
    if (!target) {
        return std::move(target).error();
    }
    BANYAN_TRY(drop_progress_store(*target));
    const std::lock_guard guard(mutex_);
    state_ = "idle";
    jobs_.clear();
    next_job_ = 0;
    rate_ = {};
    started_unix_ms_ = finished_unix_ms_ = 0;
    return {};
}

void Backfill::Impl::plan(const Catalog& catalog) {
    jobs_.clear();
    next_job_ = 0;
    for (const auto& table : catalog.tables()) {
        auto job = std::make_unique<Job>();
        job->table = table;
        job->shown.table = table->id;
        job->shown.name = table->display_name();
        job->shown.state = "pending";
        if (!table->captured()) {
            job->shown.state = "failed";
            job->shown.error = why_not_copied(*table);
        }
        jobs_.push_back(std::move(job));
    }
}

void Backfill::Impl::coordinate() {
    if (prepare()) {
        std::vector<std::thread> workers;
        for (std::uint32_t i = 0; i < std::max(context_.config.backfill.workers, 1U); ++i) {
            workers.emplace_back([this] { work(); });
        }
        for (std::thread& worker : workers) {
            worker.join();
        }
    }
    const std::lock_guard guard(mutex_);
    bool all = true;
    bool failed = false;
    for (const auto& job : jobs_) {
        if (job->table->captured()) {
            all = all && job->shown.state == "done";
            failed = failed || job->shown.state == "failed";
        }
    }
    state_ = all ? "done" : failed ? "failed" : "idle";
    waiting_for_.clear();
    throttle_reason_.clear();
    running_ = false;
    finished_unix_ms_ = unix_ms();
}

// Until the target is ready and the barrier has passed; false if stopped.
bool Backfill::Impl::prepare() {
    auto backoff = first_backoff;
    for (;;) {
        auto ready = prepare_once();
        if (ready) {
            return *ready;
        }
        {
            const std::lock_guard guard(mutex_);
            waiting_for_ = ready.error().message;
        }
        spdlog::warn("backfill cannot start yet: {}", ready.error().message);
        if (!sleep(backoff)) {
            return false;
        }
        backoff = std::min(backoff * 2, last_backoff);
    }
}

Result<bool> Backfill::Impl::prepare_once() {
    auto session = connect();
    if (!session) {
        return std::move(session).error();
    }
    auto wait = [&](const std::string& what) {
        {
            const std::lock_guard guard(mutex_);
            waiting_for_ = what;
        }
        return sleep(std::chrono::milliseconds(20));
    };
    auto gone = end_backends(session->target, 0, wait);
    if (!gone || !*gone) {
        return gone;
    }
    BANYAN_TRY(create_progress_store(session->target));
    bool anything_left = false;
    for (const auto& job : jobs_) {  // no worker runs yet, so only progress() reads beside us
        if (!job->table->captured()) {
            continue;
        }
        auto stored = load_progress(session->target, *job->table);
        if (!stored) {
            return std::move(stored).error();
        }
        auto estimate = session->source.exec(
            "SELECT pg_catalog.sum(pg_catalog.float8larger(c.reltuples, 0))::pg_catalog.int8"
            " FROM pg_catalog.pg_class c WHERE c.relkind = 'r' AND (c.oid = $1 OR c.oid IN"
            " (SELECT relid FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid::pg_catalog.regclass)))",
            {Param::number(job->table->oid)});
        const std::lock_guard guard(mutex_);
        if (estimate && estimate->size() == 1) {
            job->shown.rows_estimated = static_cast<std::uint64_t>(estimate->number(0, 0));
        }
        if (*stored) {
            job->shown.rows_copied = (*stored)->rows;
            job->shown.chunks = (*stored)->chunks;
            job->shown.state = (*stored)->done ? "done" : "pending";
        }
        anything_left = anything_left || job->shown.state != "done";
    }
    if (!anything_left) {
        return true;
    }
    auto passed = wait_for_older_transactions(session->source, wait);
    if (passed) {
        const std::lock_guard guard(mutex_);
        waiting_for_.clear();
    }
    return passed;
}

Result<Backfill::Impl::Session> Backfill::Impl::connect() const {
    auto source = Connection::open(context_.config.source, backfill_application);
    if (!source) {
        return std::move(source).error();
    }
    auto target = Connection::open(context_.config.target, backfill_application);
    if (!target) {
        return std::move(target).error();
    }
    const auto timeout = context_.config.mirror.lock_timeout;
    BANYAN_TRY(prepare_source_session(*source, timeout));
    BANYAN_TRY(prepare_target_session(*target, timeout));
    return Session{std::move(*source), std::move(*target)};
}

void Backfill::Impl::work() {
    while (Job* job = take()) {
        copy_table(*job);
    }
}

Backfill::Impl::Job* Backfill::Impl::take() {
    const std::lock_guard guard(mutex_);
    while (!stopping_ && next_job_ < jobs_.size()) {
        Job& job = *jobs_[next_job_++];
        if (job.shown.state == "pending") {
            return &job;
        }
    }
    return nullptr;
}

void Backfill::Impl::copy_table(Job& job) {
    ChunkSize size(context_.config.backfill.chunk_time, context_.config.backfill.max_chunk_rows);
    auto backoff = first_backoff;
    while (copy_session(job, size, backoff) == Outcome::again) {
        if (!sleep(backoff)) {
            break;
        }
        backoff = std::min(backoff * 2, last_backoff);
    }
    const std::lock_guard guard(mutex_);
    if (job.shown.state != "done" && job.shown.state != "failed") {
        job.shown.state = "pending";
        job.shown.waiting_for.clear();
    }
}

Backfill::Impl::Outcome Backfill::Impl::fail(Job& job, const std::string& why) {
    const std::lock_guard guard(mutex_);
    job.shown.state = "failed";
    job.shown.waiting_for.clear();
    job.shown.error = why;
    spdlog::error("backfill of {} failed: {}", job.shown.name, why);
    return Outcome::failed;
}

// One pair of connections, for as long as both last.
Backfill::Impl::Outcome Backfill::Impl::copy_session(Job& job, ChunkSize& size,
                                                     std::chrono::milliseconds& backoff) {
    if (!wait_for_permission(job)) {
        return Outcome::stopped;
    }
    // The catalogue may have been read anew since the last session.
    auto table = context_.catalog()->table_by_id(job.table->id);
    if (table == nullptr || !table->captured()) {
        return fail(job, table == nullptr ? "the table is gone" : why_not_copied(*table));
    }
    auto session = connect();
    if (!session) {
        show(job, "waiting", session.error().message);
        return session.error().sqlstate == "42501" ? fail(job, session.error().message)
                                                   : Outcome::again;
    }
    TableCopier copier(context_.ledger, session->source, session->target, table);
    if (auto begun = copier.begin(); !begun) {
        if (classify_failure(begun.error(), session->target) == Failure::other) {
            return fail(job, begun.error().message);
        }
        show(job, "waiting", begun.error().message);
        return Outcome::again;
    }
    note_chunk(job, copier.progress(), 0);
    if (copier.progress().done) {
        show(job, "done");
        return Outcome::done;
    }
    show(job, "copying");
    const Outcome outcome = copy_chunks(job, size, copier, backoff);
    if (copier.outcome_unknown() &&
        !settle_lost_commit(job, session->target.process_id())) {
        // Stopped before it could be known: the window closes all the same, so say what it risks.
        context_.ledger.mark_suspect({{table->id, "backfill_outcome_unknown"}});
    }
    return outcome;
}

// The window of a chunk whose COMMIT was not answered must stay open until its backend is gone:
// repair might otherwise delete a ghost row just before that COMMIT brings it.
bool Backfill::Impl::settle_lost_commit(Job& job, std::int32_t process_id) {
    for (;;) {
        auto target = Connection::open(context_.config.target, backfill_application);
        if (target) {
            auto gone = end_backends(*target, process_id, [&](const std::string& what) {
                show(job, "waiting", what);
                return sleep(std::chrono::milliseconds(20));
            });
            if (gone) {
                return *gone;
            }
        } else {
            show(job, "waiting", target.error().message);
        }
        if (!sleep(std::chrono::milliseconds(200))) {
            return false;
        }
    }
}

Backfill::Impl::Outcome Backfill::Impl::copy_chunks(Job& job, ChunkSize& size, TableCopier& copier,
                                                    std::chrono::milliseconds& backoff) {
    const auto table = context_.catalog()->table_by_id(job.table->id);
    std::uint32_t other_failures = 0;
    std::string leave_because;  // not empty: the next chunk is left to repair
    while (wait_for_permission(job)) {
        if (context_.catalog()->table_by_id(job.table->id) != table) {
            return Outcome::again;  // the columns may have changed
        }
        const auto started = Clock::now();
        auto rows = leave_because.empty()
                        ? copier.copy_chunk(size.rows())
                        : copier.leave_chunk_to_repair(size.rows(), leave_because);
        if (rows) {
            if (leave_because.empty()) {
                size.took(Clock::now() - started);
            }
            leave_because.clear();
            other_failures = 0;
            backoff = first_backoff;
            note_chunk(job, copier.progress(), *rows);
            if (copier.progress().done) {
                show(job, "done");
                return Outcome::done;
            }
            if (context_.ledger.dirty_count(job.table->id) > 0) {
                // Repair waits for every window on the table: leave it a gap.
                if (!sleep(std::chrono::milliseconds(2))) {
                    return Outcome::stopped;
                }
            }
            continue;
        }
        const Error& error = rows.error();
        switch (classify_failure(error, copier.failed_connection())) {
            case Failure::lost:
                show(job, "waiting", error.message);
                return Outcome::again;
            case Failure::contention:
                if (size.rows() == 1 && size.failures() >= contention_attempts) {
                    leave_because = "row_locked";
                } else {
                    size.shrink();
                }
                break;
            case Failure::data:
                if (size.rows() <= data_isolation_rows) {
                    leave_because =
                        error.sqlstate == "23505" ? "unique_conflict" : "refused_by_mirror";
                } else {
                    size.shrink();
                }
                break;
            case Failure::other:
                if (++other_failures >= other_attempts) {
                    return fail(job, error.message);
                }
                if (!sleep(first_backoff)) {
                    return Outcome::stopped;
                }
                break;
        }
    }
    return Outcome::stopped;
}

void Backfill::Impl::note_chunk(Job& job, const StoredProgress& progress, std::uint64_t rows) {
    const auto now = Clock::now();
    const std::lock_guard guard(mutex_);
    job.shown.rows_copied = progress.rows;
    job.shown.chunks = progress.chunks;
    if (rows == 0) {
        return;
    }
    job.rate.add(now, rows);
    rate_.add(now, rows);
    if (const auto limit = context_.config.backfill.max_rows_per_second; limit != 0) {
        next_allowed_ = std::max(next_allowed_, now) +
                        std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
                            static_cast<double>(rows) / static_cast<double>(limit)));
    }
}

// Empty if the next chunk may start. The mutex is held.
std::string Backfill::Impl::reason_to_wait(const Job& job) {
    if (paused_) {
        return "paused";
    }
    if (!context_.breaker.allows()) {
        return "the mirror is failing";
    }
    if (context_.ledger.dirty_count(job.table->id) > max_dirty_ahead) {
        return "repair is behind";
    }
    if (Clock::now() < next_allowed_) {
        return "max_rows_per_second = " +
               std::to_string(context_.config.backfill.max_rows_per_second);
    }
    return "";
}

// Returns when the next chunk may start; false if stopped.
bool Backfill::Impl::wait_for_permission(Job& job) {
    std::unique_lock lock(mutex_);
    const std::string before = job.shown.state;
    bool waited = false;
    while (!stopping_) {
        const std::string reason = reason_to_wait(job);
        throttle_reason_ = reason;
        if (reason.empty()) {
            if (waited) {
                job.shown.state = before;
                job.shown.waiting_for.clear();
            }
            return true;
        }
        if (Clock::now() >= next_allowed_) {  // a rate limit is not worth a change of state
            job.shown.state = "waiting";
            job.shown.waiting_for = reason;
            waited = true;
        }
        changed_.wait_for(lock, std::chrono::milliseconds(5));
    }
    return false;
}

BackfillProgress Backfill::Impl::progress() const {
    const auto now = Clock::now();
    const std::lock_guard guard(mutex_);
    BackfillProgress progress;
    progress.state = running_ && paused_ ? "paused" : state_;
    progress.throttle_reason = throttle_reason_;
    progress.started_unix_ms = started_unix_ms_;
    progress.finished_unix_ms = finished_unix_ms_;
    progress.rows_per_second = running_ ? rate_.rate(now) : 0;
    double left = 0;
    bool known = true;
    for (const auto& job : jobs_) {
        TableProgress shown = job->shown;
        if (running_ && !waiting_for_.empty() && shown.state == "pending") {
            shown.state = "waiting";
            shown.waiting_for = waiting_for_;
        }
        shown.rows_per_second = shown.state == "copying" ? job->rate.rate(now) : 0;
        if (job->table->captured() && shown.state != "done") {
            // A table that already holds more than the planner thinks has no known end.
            known = known && shown.rows_estimated > shown.rows_copied;
            left += static_cast<double>(shown.rows_estimated) -
                    static_cast<double>(shown.rows_copied);
        }
        progress.tables.push_back(std::move(shown));
    }
    if (state_ == "done") {
        progress.eta = std::chrono::seconds(0);
    } else if (known && progress.rows_per_second > 0) {
        progress.eta = std::chrono::seconds(
            static_cast<std::int64_t>(left / progress.rows_per_second) + 1);
    }
    return progress;
}

Backfill::Backfill(BackfillContext context) : impl_(std::make_unique<Impl>(std::move(context))) {}
Backfill::~Backfill() = default;
void Backfill::start() { impl_->start(); }
void Backfill::pause() { impl_->pause(); }
void Backfill::resume() { impl_->resume(); }
void Backfill::stop() { impl_->stop(); }
Result<void> Backfill::reset() { return impl_->reset(); }
bool Backfill::done() const { return impl_->done(); }
BackfillProgress Backfill::progress() const { return impl_->progress(); }

}  // namespace banyan::router
