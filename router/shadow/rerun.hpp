// A small share of the shadow reads that matched is run again, by Banyan itself, on connections of
// its own: on the primary, twice on the mirror, on the primary. Two things come of it. How often the primary
// disagrees with itself is the noise that any comparison of two answers has. And each side's time, the
// better of two, is fair where a session's is not: there the mirror's read waits for the primary's. A
// statement that takes the target much longer is a discrepancy of the kind "slower", until it no longer
// does. One thread; what it costs the servers is bounded by the share of the time that it works ([shadow] rerun_duty).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "router/config/config.hpp"
#include "router/shadow/discrepancy.hpp"
#include "router/shadow/discrepancy_store.hpp"
#include "router/shadow/statement_times.hpp"

namespace banyan::router {

struct RerunContext {
    const Config& config;
    DiscrepancyStore& store;
    std::function<Phase()> phase;
    /// Of router/sql/statement.hpp; passed in because this folder does not see that one.
    std::function<std::string(std::string_view)> fingerprint;
    std::function<std::string(std::string_view)> normalize;
};

struct RerunStats {
    std::uint64_t agreed = 0;     ///< the primary gave the same answer twice
    std::uint64_t disagreed = 0;  ///< it did not
    std::uint64_t failed = 0;     ///< could not be run, or answered an error
    std::uint64_t statements = 0; ///< whose times are known
    std::uint64_t slower = 0;     ///< of them, those that take the target much longer
    std::string last_error;       ///< of the last that failed
};

/// {"runs", "source_us", "target_us"}: medians in microseconds.
boost::json::object statement_time_json(const StatementTime& time);

class Rerun {
   public:
    /// A read that takes longer on one side counts with this time there.
    static constexpr std::chrono::milliseconds longest_read{5000};

    explicit Rerun(RerunContext context);
    ~Rerun();
    void start();
    void stop();
    /// Never blocks. Forgotten if another one is being run, or if it is time to rest.
    void offer(PendingDiscrepancy read);
    RerunStats stats() const;
    /// StatementTimes::rows.
    std::vector<StatementTime> times(std::size_t limit) const;

   private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace banyan::router
