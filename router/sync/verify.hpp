// Verification: compares both sides live, in key order, chunk by chunk, without a long snapshot.
// A mismatch counts only if it persists while no transaction in flight could explain it
// (router/sync/README.md).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "router/catalog/catalog.hpp"
#include "router/config/config.hpp"
#include "router/state/ledger.hpp"

namespace banyan::router {

struct Difference {
    std::string key;   ///< printable, "id=7, part=2"
    std::string kind;  ///< "missing" (on the mirror), "extra" (on the mirror), "different"
    std::vector<std::string> columns;  ///< that differ, for "different"
};

struct TableVerification {
    TableId table = 0;
    std::string name;
    std::string state;  ///< "pending", "running", "equal", "different", "inconclusive", "failed", "stopped"
    std::uint64_t rows_compared = 0;
    std::uint64_t rows_estimated = 0;
    std::uint64_t missing = 0;
    std::uint64_t extra = 0;
    std::uint64_t different = 0;
    std::uint64_t raced = 0;  ///< mismatches that were gone when looked at again
    std::vector<Difference> sample;  ///< bounded
    std::string error;
    std::int64_t started_unix_ms = 0;
    std::int64_t finished_unix_ms = 0;
};

struct VerifyContext {
    const Config& config;
    Ledger& ledger;
    std::function<Phase()> phase;
    std::function<std::shared_ptr<const Catalog>()> catalog;
};

/// Compares one table, or the ranges `rows` of it, and returns what it found; runs on the caller's
/// thread. With `repair`, differing keys become dirty; then it waits now and again for repair to
/// catch up. `progress` is called now and then; `cancel` is polled.
TableVerification verify_table(const VerifyContext& context, const Table& table, bool repair,
                               const std::function<void(const TableVerification&)>& progress,
                               const std::atomic<bool>& cancel, const KeyRanges& rows = {});

}  // namespace banyan::router
