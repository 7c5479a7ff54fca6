#include <spdlog/spdlog.h>

#include <algorithm>

#include "router/sync/backfill_impl.hpp"
#include "router/sync/start_barrier.hpp"

namespace banyan::router {
namespace {

constexpr std::uint64_t max_dirty_ahead = 20000;  // keys that repair may lag behind
constexpr std::uint32_t data_isolation_rows = 64; // smaller chunks are left to repair as they are
constexpr std::uint32_t contention_attempts = 5;  // on a chunk of one row
constexpr std::uint32_t other_attempts = 3;

}  // namespace

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
    if (reason == "bad_mapping") {
        return "bad_mapping: see the gate \"mappings\" for what is wrong with its [[mapping]]";
    }
    return reason + ": its writes cannot be captured row by row; copy the table yourself and verify "
                    "it, or exclude it";
}

void Backfill::Impl::copy_table(Job& job) {
    const auto pace = context_.config.latest()->backfill;
    ChunkSize size(pace.chunk_time, pace.max_chunk_rows);
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
    TableCopier copier(context_.ledger, session->source, session->target, table,
                       context_.config.latest()->mirror.lock_timeout);
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
    if (const auto limit = context_.config.latest()->backfill.max_rows_per_second; limit != 0) {
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
               std::to_string(context_.config.latest()->backfill.max_rows_per_second);
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

}  // namespace banyan::router
