#include "router/sync/backfill.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "router/sync/backfill_impl.hpp"
#include "router/sync/start_barrier.hpp"

namespace banyan::router {
namespace {

std::int64_t unix_ms() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

}  // namespace

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
    auto passed = anything_left ? wait_for_older_transactions(session->source, wait)
                                : Result<bool>(true);
    if (passed && *passed) {
        context_.ledger.end_settling();
    }
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
    const auto timeout = context_.config.latest()->mirror.lock_timeout;
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
