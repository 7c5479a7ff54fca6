// What every part of the control plane shares: the phase in force, the directive the sessions
// follow, the catalogue in use, and the durable stores. Thread-safe.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "router/catalog/catalog.hpp"
#include "router/capture/deep_capture.hpp"
#include "router/config/config.hpp"
#include "router/migration/audit.hpp"
#include "router/breaker/breaker.hpp"
#include "router/migration/fleet.hpp"
#include "router/migration/hook.hpp"
#include "router/lease/lease.hpp"
#include "router/migration/store.hpp"
#include "router/state/ledger.hpp"
#include "router/state/state_db.hpp"

namespace banyan::router {

class Core {
   public:
    Core(const Config& config, StateDb& db, Ledger& ledger, Breaker& breaker, Lease* lease);

    const Config& config;
    StateDb& db;
    Ledger& ledger;
    Breaker& breaker;
    MigrationStore store;
    AuditLog audit;
    HookRunner hooks;
    const std::int64_t started_unix_ms;

    /// Called once, before anything is published.
    void attach(Fleet& fleet);
    Fleet* fleet() const { return fleet_.load(); }
    /// Null: none is kept (tests).
    Lease* lease() const { return lease_; }

    Phase phase() const;
    std::int64_t phase_since_unix_ms() const;
    Directive directive() const;
    /// The next directive: this phase, held or not. The phase must be persisted already.
    /// `end_blocked`: sessions that own what cannot be brought along end as they take up the hold.
    void publish(Phase phase, bool hold, bool end_blocked = false);
    /// Another Banyan has taken the migration over: sessions end, and stay away.
    void publish_lost();
    bool lost() const { return lease_ != nullptr && lease_->lost(); }
    /// Persists the phase and tells the lease. False: the state database cannot be written.
    bool persist_phase(Phase from, Phase to, const std::string& reason,
                       const std::string& transition, Lease::Change change);
    /// The same phase; every session says at its next boundary what it owns.
    void ask_sessions();
    /// Kept over restarts; takes effect at once.
    /// Whether sessions use deep capture where it is installed; kept over restarts.
    bool deep_capture() const { return store.setting("deep_capture") == "on"; }
    void set_deep_capture(bool on) { store.set_setting("deep_capture", on ? "on" : "off"); }
    CaptureOptions capture_options() const { return {.exclude = config.migration.exclude}; }
    void set_shadow_share(double share);

    /// The catalogue of the current primary; null outside the mirroring phases and until loaded.
    std::shared_ptr<const Catalog> catalog() const;
    std::string catalog_error() const;
    /// Reads both catalogues as `primary` sees them. Slow; does not install.
    Result<std::shared_ptr<const Catalog>> read_catalog(Side primary);
    /// Gives the catalogue to the sessions and its tables to the ledger; null: mirroring ended.
    void install_catalog(std::shared_ptr<const Catalog> catalog);
    /// The same if the phase still has the catalogue's primary and no flip is going on; the test
    /// and the installation are one step.
    bool install_catalog_if_current(std::shared_ptr<const Catalog> catalog);
    /// Tables have come, gone or changed their shape since the one that is installed.
    bool differs(const Catalog& catalog) const;
    void catalog_failed(const std::string& error);
    /// While true, install_catalog_if_current() refuses.
    void set_flipping(bool flipping);

    const Endpoint& endpoint(Side side) const {
        return side == Side::source ? config.source : config.target;
    }
    /// How transitions have ended since the start: (to, state) and how often.
    using Ends = std::map<std::pair<Phase, std::string>, std::uint64_t>;
    void transition_ended(Phase to, std::string_view state);
    Ends transitions_ended() const;

    /// A counter's growth since the current phase was published.
    std::uint64_t counted_in_phase(Counter counter) const;

   private:
    void install_locked(std::shared_ptr<const Catalog> catalog);

    std::atomic<Fleet*> fleet_{nullptr};
    mutable std::mutex mutex_;
    Directive directive_;
    std::int64_t phase_since_unix_ms_ = 0;
    std::uint64_t matched_before_ = 0;  ///< Counter::shadow_matched when the phase began
    // Guards the catalogue apart from mutex_: the fleet and the ledger are called under it.
    mutable std::mutex catalog_mutex_;
    std::shared_ptr<const Catalog> catalog_;
    std::string catalog_error_;
    bool flipping_ = false;
    std::atomic<std::uint64_t> catalog_version_{0};
    mutable std::mutex ends_mutex_;
    Ends ends_;
    Lease* const lease_;
};

}  // namespace banyan::router
