// The repair worker: brings the mirror's row of each dirty key to the primary's committed state,
// following R12 and R13 (router/sync/README.md). One thread.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "router/catalog/catalog.hpp"
#include "router/config/config.hpp"
#include "router/breaker/breaker.hpp"
#include "router/state/ledger.hpp"
#include "router/sync/repair_pace.hpp"

namespace banyan::router {

struct RepairContext {
    const Config& config;
    Ledger& ledger;
    Breaker& breaker;
    /// The phase and the catalogue of its primary, read before each batch.
    std::function<Phase()> phase;
    std::function<std::shared_ptr<const Catalog>()> catalog;
    /// Clients' waits for the mirror; may be null: then repair does not know whom it hurts.
    std::function<ApplicationWaits()> waits = nullptr;
};

struct RepairProgress {
    double keys_per_second = 0;   ///< over the last seconds
    double share = 1;             ///< of the time that it works
    std::string throttle_reason;  ///< empty: it goes as fast as it can
};

class Repair {
   public:
    explicit Repair(RepairContext context);
    ~Repair();
    void start();
    void stop();
    /// No batch starts while paused; returns when the current one has ended.
    void pause();
    void resume();
    std::uint64_t repaired() const;
    std::uint64_t requeued() const;
    RepairProgress progress() const;
    /// The last failure in words, or empty.
    std::string last_error() const;

   private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace banyan::router
