// Counters of the data plane: one block per event loop, written by that loop only (a plain load
// and store, no locked instruction), summed by whoever scrapes.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace banyan::router {

/// name in Prometheus without the banyan_ prefix, its label (or none), and help text: see
/// counter_descriptions in counters.cpp.
enum class Counter : std::uint8_t {
    client_connections,
    client_connections_refused,
    logins_failed,
    queries,              ///< Query, Execute
    transactions,         ///< ended, committed or not
    bytes_from_clients,
    bytes_to_clients,
    statements_read,
    statements_captured,
    statements_opaque,
    statements_other,
    rows_captured,
    mirror_rows_applied,
    mirror_zero_row_deletes,
    mirror_commits,
    mirror_failures,      ///< mirror transactions that erred or timed out
    mirror_skipped,       ///< transactions committed without the mirror (breaker open, no link)
    writes_rejected,      ///< [mirror] on_mirror_failure = "reject"
    mirror_waits_answered,   ///< the client waited, and the answer came promptly
    mirror_waits_slow,       ///< it came, but took more than a quarter of commit_timeout_ms
    mirror_waits_failed,     ///< the mirror failed or was lost meanwhile
    mirror_waits_timed_out,  ///< no answer came in time: at most one per session and incident
    mirror_wait_microseconds,  ///< of those that were answered
    shadow_sent,
    shadow_matched,
    shadow_mismatched,    ///< pending ones, before the re-check
    shadow_skipped,
    shadow_errors,
    cancels,
    protocol_violations,
    count_                ///< not a counter
};

class Counters {
   public:
    void add(Counter counter, std::uint64_t n = 1) {
        auto& value = values_[static_cast<std::size_t>(counter)];
        value.store(value.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    }
    std::uint64_t get(Counter counter) const {
        return values_[static_cast<std::size_t>(counter)].load(std::memory_order_relaxed);
    }
    /// Rare events with a reason ("no_key", "volatile_function"): bounded set of words from code.
    void add_reason(const char* what, const std::string& reason);
    std::map<std::pair<std::string, std::string>, std::uint64_t> reasons() const;

   private:
    std::array<std::atomic<std::uint64_t>, static_cast<std::size_t>(Counter::count_)> values_{};
    mutable std::mutex mutex_;
    std::map<std::pair<std::string, std::string>, std::uint64_t> reasons_;
};

}  // namespace banyan::router
