#include "router/metrics/timings.hpp"

#include <algorithm>

namespace banyan::router {
namespace {

void increase(std::atomic<std::uint64_t>& value, std::uint64_t by) {
    value.store(value.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
}

}  // namespace

void Timings::add(Timing timing, std::chrono::nanoseconds took) {
    auto& counts = timings_[static_cast<std::size_t>(timing)];
    const auto nanoseconds = static_cast<std::uint64_t>(std::max<std::int64_t>(took.count(), 0));
    const auto bucket = std::lower_bound(bounds.begin(), bounds.end(), nanoseconds,
                                         [](std::uint32_t bound, std::uint64_t value) {
                                             return std::uint64_t{bound} * 1000 < value;
                                         });
    increase(counts.buckets[static_cast<std::size_t>(bucket - bounds.begin())], 1);
    increase(counts.nanoseconds, nanoseconds);
}

void Timings::add_to(Timing timing, Histogram& sum) const {
    const auto& counts = timings_[static_cast<std::size_t>(timing)];
    for (std::size_t i = 0; i < sum.counts.size(); ++i) {
        sum.counts[i] += counts.buckets[i].load(std::memory_order_relaxed);
    }
    sum.seconds += static_cast<double>(counts.nanoseconds.load(std::memory_order_relaxed)) / 1e9;
}

}  // namespace banyan::router
