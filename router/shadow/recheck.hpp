// The second look at a shadow read that differed: run again on primary, mirror, primary, behind
// the commits in flight. Only what persists is confirmed and stored, and only if none of its tables
// is suspect or has dirty keys; the rest is counted as raced or inconclusive. One thread with two connections of its own; a bounded queue before it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "router/config/config.hpp"
#include "router/shadow/discrepancy.hpp"
#include "router/shadow/discrepancy_store.hpp"
#include "router/state/ledger.hpp"

namespace banyan::router {

struct RecheckContext {
    const Config& config;
    Ledger& ledger;
    DiscrepancyStore& store;
    std::function<Phase()> phase;
    /// Of router/sql/statement.hpp; passed in because this folder does not see that one.
    std::function<std::string(std::string_view)> fingerprint;
    std::function<std::string(std::string_view)> normalize;
};

struct RecheckStats {
    std::uint64_t confirmed = 0;
    std::uint64_t raced = 0;
    std::uint64_t inconclusive = 0;
    std::uint64_t dropped = 0;  ///< the queue was full
    std::uint64_t pending = 0;  ///< queued or being looked at
    std::string last_error;     ///< of the last inconclusive one
};

class Recheck {
   public:
    static constexpr std::size_t max_queued = 1000;

    explicit Recheck(RecheckContext context);
    ~Recheck();
    void start();
    void stop();
    /// Never blocks.
    void submit(PendingDiscrepancy pending);
    RecheckStats stats() const;

   private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace banyan::router
