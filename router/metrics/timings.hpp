// How long things take, as histograms: one block per event loop, written by that loop only, summed
// by whoever scrapes. What is timed is one read in `timed_share`: the hot path reads no clock
// otherwise.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace banyan::router {

inline constexpr std::uint32_t timed_share = 16;

enum class Timing : std::uint8_t {
    source_response,  ///< from sending to a server that owes no answer to the first byte that comes back
    target_response,
    overhead,  ///< from bytes read to what follows from them written: Banyan's own work
    count_     ///< not a timing
};

class Timings {
   public:
    /// Upper bounds in microseconds; behind the last there is no bound.
    static constexpr std::array<std::uint32_t, 17> bounds{
        10,    20,    50,    100,    200,    500,    1000,    2000,   5000,
        10000, 20000, 50000, 100000, 200000, 500000, 1000000, 5000000};

    struct Histogram {
        std::array<std::uint64_t, bounds.size() + 1> counts{};  ///< each bucket by itself
        double seconds = 0;                                     ///< of all together
    };

    void add(Timing timing, std::chrono::nanoseconds took);
    /// Adds what is here to `sum`. Any thread.
    void add_to(Timing timing, Histogram& sum) const;

   private:
    struct Counts {
        std::array<std::atomic<std::uint64_t>, bounds.size() + 1> buckets{};
        std::atomic<std::uint64_t> nanoseconds{0};
    };
    std::array<Counts, static_cast<std::size_t>(Timing::count_)> timings_;
};

}  // namespace banyan::router
