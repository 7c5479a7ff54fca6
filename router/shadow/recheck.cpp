#include "router/shadow/recheck.hpp"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <mutex>
#include <thread>

#include "router/shadow/both_sides.hpp"
#include "router/shadow/redact.hpp"
#include "router/shadow/replay.hpp"

namespace banyan::router {
namespace {

using namespace std::chrono_literals;

constexpr auto read_timeout = 5s;
constexpr auto in_flight_timeout = 5s;
constexpr std::size_t sample_rows = 3;

std::string hash_of(const std::string& sql) {
    std::array<char, 17> text{};
    std::snprintf(text.data(), text.size(), "%016llx",
                  static_cast<unsigned long long>(XXH3_64bits(sql.data(), sql.size())));
    return text.data();
}

std::int64_t now_unix_ms() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

}  // namespace

class Recheck::Impl {
   public:
    explicit Impl(RecheckContext context) : context_(std::move(context)) {}

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
            queue_.clear();
        }
        wake_.notify_all();
        if (thread_.joinable()) {
            thread_.join();
        }
        sides_.close();
    }

    void submit(PendingDiscrepancy pending) {
        {
            const std::lock_guard lock(mutex_);
            if (stopping_ || queue_.size() >= max_queued) {
                ++stats_.dropped;
                return;
            }
            queue_.push_back(std::move(pending));
        }
        wake_.notify_one();
    }

    RecheckStats stats() const {
        const std::lock_guard lock(mutex_);
        RecheckStats copy = stats_;
        copy.pending = queue_.size() + (busy_ ? 1 : 0);
        return copy;
    }

   private:
    void work() {
        std::unique_lock lock(mutex_);
        for (;;) {
            busy_ = false;
            wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
            if (stopping_) {
                return;
            }
            const PendingDiscrepancy pending = std::move(queue_.front());
            queue_.pop_front();
            busy_ = true;
            lock.unlock();
            std::string why =
                "the primary's answer did not stand still, or its tables are being repaired";
            const RecheckVerdict verdict = examine(pending, why);
            lock.lock();
            switch (verdict) {
                case RecheckVerdict::raced:
                    ++stats_.raced;
                    break;
                case RecheckVerdict::confirmed:
                    ++stats_.confirmed;
                    break;
                case RecheckVerdict::unstable:
                case RecheckVerdict::unfit:
                    ++stats_.inconclusive;
                    stats_.last_error = why;
                    break;
            }
        }
    }

    RecheckVerdict examine(const PendingDiscrepancy& pending, std::string& why) {
        auto pause = 20ms;
        for (std::uint32_t attempt = 0;
             attempt < std::max(1U, context_.config.latest()->shadow.recheck_attempts); ++attempt) {
            const Phase phase = context_.phase();
            if (!mirrors(phase) || primary_of(phase) != primary_of(pending.phase)) {
                why = "the phase has changed";
                return RecheckVerdict::unfit;
            }
            if (attempt > 0 && !sleep(pause)) {
                return RecheckVerdict::unfit;
            }
            pause = std::min(pause * 3, 2000ms);
            auto verdict = look(pending, phase);
            if (!verdict) {
                why = verdict.error().message;
                // The next attempt connects anew.
                sides_.close();
            } else if (*verdict != RecheckVerdict::unstable) {
                if (*verdict == RecheckVerdict::unfit) {
                    why = "the primary answers an error";
                }
                return *verdict;
            }
        }
        return RecheckVerdict::unstable;
    }

    Result<RecheckVerdict> look(const PendingDiscrepancy& pending, Phase phase) {
        BANYAN_TRY(sides_.connect(context_.config, phase));
        auto before = replay(sides_.primary(), pending, read_timeout);
        if (!before) {
            return before.error();
        }
        if (!context_.ledger.wait_in_flight(in_flight_timeout) || known_to_differ(pending)) {
            return RecheckVerdict::unstable;
        }
        auto mirror = replay(sides_.mirror(), pending, read_timeout);
        if (!mirror) {
            return mirror.error();
        }
        auto after = replay(sides_.primary(), pending, read_timeout);
        if (!after) {
            return after.error();
        }
        const RecheckVerdict verdict = judge(*before, *mirror, *after, pending.ordered);
        if (verdict == RecheckVerdict::confirmed &&
            (context_.phase() != phase || known_to_differ(pending))) {
            return RecheckVerdict::unstable;
        }
        if (verdict == RecheckVerdict::confirmed) {
            store(pending, *after, *mirror);
        }
        return verdict;
    }

    /// A table that it reads is suspect or has dirty keys: the ledger knows of that, and holds the
    /// gate shut until it is repaired.
    bool known_to_differ(const PendingDiscrepancy& pending) const {
        const Ledger& ledger = context_.ledger;
        return std::any_of(
            pending.table_ids.begin(), pending.table_ids.end(), [&ledger](TableId table) {
                if (table == 0) {
                    const LedgerStats stats = ledger.stats();
                    return stats.suspect_tables > 0 || stats.dirty > 0;
                }
                return ledger.suspect(table).has_value() || ledger.dirty_count(table) > 0;
            });
    }

    void store(const PendingDiscrepancy& pending, const Replay& primary, const Replay& mirror) {
        const bool redact = context_.config.latest()->shadow.redact;
        const auto [here, there] = differing_rows(primary, mirror, sample_rows);
        boost::json::array columns;
        for (const std::string& column : primary.columns) {
            columns.push_back(boost::json::string(printable(column)));
        }
        ConfirmedDiscrepancy found;
        found.fingerprint = context_.fingerprint(pending.sql);
        found.sql = context_.normalize(pending.sql);
        if (found.fingerprint.empty()) {
            found.fingerprint = hash_of(pending.sql);
        }
        if (found.sql.empty()) {
            found.sql = redact ? "(unreadable)" : printable(pending.sql);
        }
        found.kind = difference_kind(primary, mirror, pending.ordered);
        found.tables = pending.tables;
        found.user = pending.user;
        found.phase = pending.phase;
        found.at_unix_ms = now_unix_ms();
        // A message may quote values ("invalid input syntax for type integer: ..."), so only its
        // SQLSTATE is shown where data must not be.
        const std::string mirror_error = mirror.sqlstate.empty() ? ""
                                         : redact
                                             ? mirror.sqlstate
                                             : mirror.sqlstate + " " + printable(mirror.message);
        found.sample = {{"at_unix_ms", found.at_unix_ms},
                        {"phase", to_string(pending.phase)},
                        {"primary_rows", primary.digest.rows()},
                        {"mirror_rows", mirror.digest.rows()},
                        {"columns", std::move(columns)},
                        {"only_on_primary", rows_json(here, primary.types, redact)},
                        {"only_on_mirror", rows_json(there, primary.types, redact)},
                        {"mirror_error", mirror_error}};
        context_.store.record(found);
    }

    /// False if told to stop.
    bool sleep(std::chrono::milliseconds time) {
        std::unique_lock lock(mutex_);
        return !wake_.wait_for(lock, time, [this] { return stopping_; });
    }

    RecheckContext context_;
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<PendingDiscrepancy> queue_;
    RecheckStats stats_;
    bool busy_ = false;
    bool stopping_ = false;
    std::thread thread_;
    // Used by the thread only.
    BothSides sides_{"banyan-recheck"};
};

Recheck::Recheck(RecheckContext context) : impl_(std::make_unique<Impl>(std::move(context))) {}
Recheck::~Recheck() {
    impl_->stop();
}
void Recheck::start() {
    impl_->start();
}
void Recheck::stop() {
    impl_->stop();
}
void Recheck::submit(PendingDiscrepancy pending) {
    impl_->submit(std::move(pending));
}
RecheckStats Recheck::stats() const {
    return impl_->stats();
}

}  // namespace banyan::router
