// How fast repair may go: a limit, and whether it hurts the application. After each batch it says
// how large the next may be and how long to rest before it. Pure but for the clock values passed in.
//
// Two things say that it hurts: rows of the primary that were locked by others (its own locks may be
// what others wait for), and clients that wait longer for the mirror while repair works than while
// it rests. Either halves the share of the time that repair works; a batch that
// hurt nobody doubles it.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

#include "router/sync/pace.hpp"

namespace banyan::router {

/// Clients' waits for the mirror since Banyan started.
struct ApplicationWaits {
    std::uint64_t microseconds = 0;
    std::uint64_t count = 0;
};

class RepairPace {
   public:
    using Clock = std::chrono::steady_clock;

    static constexpr std::uint32_t most_keys = 64;
    static constexpr std::uint32_t slowest = 1;  ///< halvings

    RepairPace(std::uint32_t max_keys_per_second, bool adaptive)
        : limit_(max_keys_per_second), adaptive_(adaptive) {}

    /// Keys of the next batch: smaller batches let go of rows sooner, and rest sooner.
    std::uint32_t batch() const {
        const std::uint32_t keys = most_keys >> std::min(level_, 4U);
        return limit_ == 0 ? keys : std::clamp(limit_ / 4, 1U, keys);
    }
    void begin(Clock::time_point now, ApplicationWaits waits) {
        began_ = now;
        if (const auto mean = mean_of(rested_, waits)) {
            quiet_ = quiet_ == 0 ? *mean : (3 * quiet_ + *mean) / 4;
        }
        worked_ = waits;
    }
    /// `keys` were tried, `busy` of them were locked, `done` are repaired. How long to rest.
    Clock::duration end(Clock::time_point now, ApplicationWaits waits, std::uint64_t keys,
                        std::uint64_t busy, std::uint64_t done) {
        const auto mean = mean_of(worked_, waits);
        rested_ = waits;
        if (done != 0) {
            rate_.add(now, done);
        }
        judge(keys, busy, mean);
        Clock::duration rest = (now - began_) * ((1U << level_) - 1);
        if (level_ == 0 && adaptive_ && ++since_rest_ >= batches_between_rests) {
            since_rest_ = 0;  // what the clients' waits are without repair must be known, too
            rest = now - began_;
        }
        rest = std::min<Clock::duration>(rest, std::chrono::seconds(2));
        if (limit_ != 0 && keys != 0) {
            const auto least = std::chrono::duration_cast<Clock::duration>(
                std::chrono::duration<double>(static_cast<double>(keys) / limit_));
            if (least - (now - began_) > rest) {
                rest = least - (now - began_);
                reason_ = level_ == 0 ? "max_keys_per_second" : reason_;
            }
        }
        return rest;
    }
    /// Why it does not go as fast as it could; empty if it does.
    std::string_view reason() const { return reason_; }
    double keys_per_second(Clock::time_point now) const { return rate_.rate(now); }
    /// Of the time, the share that repair works: 1 or 1/2.
    double share() const { return 1.0 / (1U << level_); }

   private:
    static constexpr std::uint64_t fewest_waits = 8;       // that tell anything
    static constexpr std::uint32_t slowest_for_busy = 1;
    static constexpr std::uint64_t noise_microseconds = 2000;
    static constexpr std::uint32_t batches_between_rests = 16;

    static std::optional<std::uint64_t> mean_of(ApplicationWaits from, ApplicationWaits to) {
        const std::uint64_t count = to.count - from.count;
        if (count < fewest_waits) {
            return std::nullopt;
        }
        return (to.microseconds - from.microseconds) / count;
    }
    void judge(std::uint64_t keys, std::uint64_t busy, std::optional<std::uint64_t> mean) {
        const bool rows_busy = keys != 0 && busy * 4 >= keys;
        const bool hurts = mean && quiet_ != 0 && *mean > 2 * quiet_ + noise_microseconds;
        if (adaptive_ && hurts) {
            reason_ = "application_waits";
            level_ = std::min(level_ + 1, slowest);
            return;
        }
        if (adaptive_ && rows_busy && level_ <= slowest_for_busy) {
            reason_ = "rows_busy";  // hot rows are tried again, but must not starve the others
            level_ = std::min(level_ + 1, slowest_for_busy);
            return;
        }
        level_ -= level_ > 0 ? 1U : 0U;
        reason_ = level_ > 0 ? reason_ : std::string_view();
    }

    const std::uint32_t limit_;
    const bool adaptive_;
    std::uint32_t level_ = 0;
    std::uint32_t since_rest_ = 0;
    std::uint64_t quiet_ = 0;  ///< clients' mean wait in microseconds while repair rests; 0: unknown
    ApplicationWaits rested_, worked_;
    Clock::time_point began_{};
    RateMeter rate_;
    std::string_view reason_;
};

}  // namespace banyan::router
