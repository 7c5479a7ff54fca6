// Backfill: copies the rows that existed before dual writing began, in key order, by Protocol P
// (router/sync/README.md). Progress is stored on the target in the same transaction as the rows.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "router/catalog/catalog.hpp"
#include "router/config/config.hpp"
#include "router/breaker/breaker.hpp"
#include "router/state/ledger.hpp"

namespace banyan::router {

struct TableProgress {
    TableId table = 0;
    std::string name;
    std::string state;  ///< "pending", "waiting" (for what: `waiting_for`), "copying", "done", "failed"
    std::string waiting_for;
    std::uint64_t rows_copied = 0;
    std::uint64_t rows_estimated = 0;  ///< planner's estimate at the start
    double rows_per_second = 0;        ///< recent
    std::uint64_t chunks = 0;
    std::string error;
};

struct BackfillProgress {
    std::string state;  ///< "idle", "running", "paused", "done", "failed"
    std::string throttle_reason;
    std::vector<TableProgress> tables;
    double rows_per_second = 0;
    std::optional<std::chrono::seconds> eta;  ///< nullopt: not known
    std::int64_t started_unix_ms = 0;
    std::int64_t finished_unix_ms = 0;
};

struct BackfillContext {
    const Config& config;
    Ledger& ledger;
    Breaker& breaker;
    std::function<std::shared_ptr<const Catalog>()> catalog;  ///< of the source
};

class Backfill {
   public:
    explicit Backfill(BackfillContext context);
    ~Backfill();
    /// Starts, or resumes from the progress stored on the target. Every session must already be
    /// mirroring. Does nothing if running or done.
    void start();
    void pause();
    void resume();
    /// Ends the threads; progress stays.
    void stop();
    /// Forgets all progress (on the target too): mirroring ended. stop() first.
    Result<void> reset();
    /// Every captured table is copied. Before start() it is not known, hence false.
    bool done() const;
    BackfillProgress progress() const;

   private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace banyan::router
