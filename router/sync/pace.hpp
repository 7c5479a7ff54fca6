// How fast backfill may go and how fast it went. Pure but for the clock values passed in.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <utility>

namespace banyan::router {

/// Rows per chunk, steered so that a chunk takes about `chunk_time`: a chunk's transaction on the
/// target makes mirrored writes to its rows wait, so time is what must be bounded.
class ChunkSize {
   public:
    ChunkSize(std::chrono::milliseconds chunk_time, std::uint32_t max_rows)
        : chunk_time_(chunk_time), max_rows_(std::max(max_rows, 1U)),
          rows_(std::min(1000U, max_rows_)) {}

    std::uint32_t rows() const { return rows_; }
    void took(std::chrono::steady_clock::duration time) {
        failures_ = 0;
        const double ratio = std::chrono::duration<double>(chunk_time_) /
                             std::max(std::chrono::duration<double>(time),
                                      std::chrono::duration<double>(std::chrono::microseconds(10)));
        const double next = static_cast<double>(rows_) * std::clamp(ratio, 0.25, 2.0);
        rows_ = static_cast<std::uint32_t>(
            std::clamp(next, 1.0, static_cast<double>(max_rows_)));
    }
    /// After a failure that fewer rows may avoid.
    void shrink() {
        ++failures_;
        rows_ = std::max(rows_ / 4, 1U);
    }
    std::uint32_t failures() const { return failures_; }  ///< since the last success

   private:
    std::chrono::milliseconds chunk_time_;
    std::uint32_t max_rows_;
    std::uint32_t rows_;
    std::uint32_t failures_ = 0;
};

/// Rows per second over the last few seconds.
class RateMeter {
   public:
    using Clock = std::chrono::steady_clock;

    void add(Clock::time_point now, std::uint64_t rows) {
        samples_.emplace_back(now, rows);
        sum_ += rows;
        drop_old(now);
    }
    double rate(Clock::time_point now) const {
        if (samples_.empty() || now - samples_.back().first > window) {
            return 0;
        }
        const double seconds = std::chrono::duration<double>(now - samples_.front().first).count();
        return static_cast<double>(sum_) / std::max(seconds, 0.05);
    }

   private:
    static constexpr std::chrono::seconds window{5};

    void drop_old(Clock::time_point now) {
        while (samples_.size() > 1 && now - samples_.front().first > window) {
            sum_ -= samples_.front().second;
            samples_.pop_front();
        }
    }

    std::deque<std::pair<Clock::time_point, std::uint64_t>> samples_;
    std::uint64_t sum_ = 0;
};

}  // namespace banyan::router
