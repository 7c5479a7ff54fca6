#include "router/shadow/rerun.hpp"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "router/shadow/both_sides.hpp"
#include "router/shadow/replay.hpp"

namespace banyan::router {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

/// A statement that stays slower is counted again after so long.
constexpr auto again_after = 60s;

std::int64_t now_unix_ms() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

struct Run {
    Replay answer;
    microseconds took{0};
    bool too_long = false;
};

/// One that was cut off by the time limit has taken that long, at least.
Result<Run> run(Connection& connection, const PendingDiscrepancy& read) {
    auto answer = replay(connection, read, Rerun::longest_read);
    if (!answer && answer.error().sqlstate == "57014") {
        Run cut;
        cut.took = Rerun::longest_read;
        cut.too_long = true;
        return cut;
    }
    if (!answer) {
        return answer.error();
    }
    if (!answer->sqlstate.empty()) {
        return Error{answer->message, answer->sqlstate};
    }
    Run done;
    done.took = answer->took;
    done.answer = std::move(*answer);
    return done;
}

}  // namespace

class Rerun::Impl {
   public:
    explicit Impl(RerunContext context) : context_(std::move(context)) {}

    void start() {
        const std::lock_guard lock(mutex_);
        if (!thread_.joinable()) {
            stopping_ = false;
            thread_ = std::thread([this] { work(); });
        }
    }

    void stop() {
        {
            const std::lock_guard lock(mutex_);
            stopping_ = true;
            next_.reset();
        }
        wake_.notify_all();
        if (thread_.joinable()) {
            thread_.join();
        }
        sides_.close();
    }

    void offer(PendingDiscrepancy read) {
        {
            const std::lock_guard lock(mutex_);
            if (stopping_ || busy_ || next_) {
                return;
            }
            next_ = std::move(read);
        }
        wake_.notify_one();
    }

    RerunStats stats() const {
        const std::lock_guard lock(mutex_);
        RerunStats copy = stats_;
        copy.statements = times_.statements();
        copy.slower = times_.slower();
        return copy;
    }

    std::vector<StatementTime> times(std::size_t limit) const {
        const std::lock_guard lock(mutex_);
        return times_.rows(limit);
    }

   private:
    void work() {
        std::unique_lock lock(mutex_);
        for (;;) {
            wake_.wait(lock, [this] { return stopping_ || next_; });
            if (stopping_) {
                return;
            }
            const PendingDiscrepancy read = std::move(*next_);
            next_.reset();
            busy_ = true;
            lock.unlock();
            const auto begun = Clock::now();
            const auto done = look(read);
            const std::chrono::duration<double> took = Clock::now() - begun;
            const auto rest = took * (1 / context_.config.latest()->shadow.rerun_duty - 1);
            lock.lock();
            if (!done) {
                ++stats_.failed;
                stats_.last_error = done.error().message;
                sides_.close();
            }
            wake_.wait_for(lock, rest, [this] { return stopping_; });
            busy_ = false;
        }
    }

    Result<void> look(const PendingDiscrepancy& read) {
        const Phase phase = context_.phase();
        if (!mirrors(phase) || primary_of(phase) != primary_of(read.phase)) {
            return {};  // it was asked in another time
        }
        BANYAN_TRY(sides_.connect(context_.config, phase));
        std::array<Run, 4> runs;
        const std::array<Connection*, 4> order{&sides_.primary(), &sides_.mirror(), &sides_.mirror(),
                                               &sides_.primary()};
        for (std::size_t i = 0; i < order.size(); ++i) {
            auto run = banyan::router::run(*order.at(i), read);
            if (!run) {
                return run.error();
            }
            runs.at(i) = std::move(*run);
        }
        const auto& [first, there, there_again, second] = runs;
        const bool comparable = !first.too_long && !second.too_long;
        const auto primary = std::min(first.took, second.took);
        const auto mirror = std::min(there.took, there_again.took);
        if (context_.phase() != phase || (!comparable && there.too_long)) {
            return {};
        }
        const bool source_first = primary_of(phase) == Side::source;
        std::string fingerprint = context_.fingerprint(read.sql);
        std::string sql = context_.normalize(read.sql);
        const bool known = !fingerprint.empty() && !sql.empty();
        std::unique_lock lock(mutex_);
        if (comparable) {
            const bool agreed = same_answer(first.answer, second.answer, read.ordered);
            ++(agreed ? stats_.agreed : stats_.disagreed);
        }
        if (!known) {
            return {};
        }
        const auto config = context_.config.latest();
        const auto added = times_.add(fingerprint, sql, source_first ? primary : mirror,
                                      source_first ? mirror : primary,
                                      {config->shadow.slower_factor, config->shadow.slower_by});
        lock.unlock();
        if (added.judged) {
            report(read, phase, added, second.answer.digest.rows());
        }
        return {};
    }

    void report(const PendingDiscrepancy& read, Phase phase, const StatementTimes::Added& added,
                std::uint64_t rows) {
        const std::string group = added.now.fingerprint + "-slower";
        auto& last = reported_[group];
        if (!added.now.slower) {
            reported_.erase(group);
            if (added.turned) {
                context_.store.forget(group);  // of an earlier life of Banyan's, perhaps
            }
            return;
        }
        const auto now = Clock::now();
        if (!added.turned && now - last < again_after) {
            return;
        }
        last = now;
        ConfirmedDiscrepancy found;
        found.fingerprint = group;
        found.sql = added.now.sql;
        found.kind = "slower";
        found.tables = read.tables;
        found.user = read.user;
        found.phase = phase;
        found.at_unix_ms = now_unix_ms();
        found.sample = {{"at_unix_ms", found.at_unix_ms},
                        {"phase", to_string(phase)},
                        {"primary_rows", rows},
                        {"mirror_rows", rows},
                        {"columns", boost::json::array()},
                        {"only_on_primary", boost::json::array()},
                        {"only_on_mirror", boost::json::array()},
                        {"mirror_error", ""},
                        {"times", statement_time_json(added.now)}};
        context_.store.record(found);
    }

    RerunContext context_;
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::optional<PendingDiscrepancy> next_;
    RerunStats stats_;
    StatementTimes times_;
    bool busy_ = false;
    bool stopping_ = false;
    std::thread thread_;
    // Used by the thread only.
    BothSides sides_{"banyan-rerun"};
    std::map<std::string, Clock::time_point> reported_;
};

boost::json::object statement_time_json(const StatementTime& time) {
    return {{"runs", time.runs},
            {"source_us", time.source.count()},
            {"target_us", time.target.count()}};
}

Rerun::Rerun(RerunContext context) : impl_(std::make_unique<Impl>(std::move(context))) {}
Rerun::~Rerun() {
    impl_->stop();
}
void Rerun::start() {
    impl_->start();
}
void Rerun::stop() {
    impl_->stop();
}
void Rerun::offer(PendingDiscrepancy read) {
    impl_->offer(std::move(read));
}
RerunStats Rerun::stats() const {
    return impl_->stats();
}
std::vector<StatementTime> Rerun::times(std::size_t limit) const {
    return impl_->times(limit);
}

}  // namespace banyan::router
