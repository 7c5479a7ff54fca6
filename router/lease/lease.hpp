// Keeps the lease: one thread for each database renews it there, and says at once when another
// Banyan has it. States, invariants and failure cases: README.md in this folder. Thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "router/config/config.hpp"
#include "router/lease/policy.hpp"
#include "router/pg/connection.hpp"

namespace banyan::router {

class LeaseTable;

struct LeaseStatus {
    struct OnSide {
        bool held = false;  ///< the last renewal succeeded and still counts
        std::optional<std::int64_t> age_ms;  ///< since the last one, by this machine's clock
        std::string error;
    };
    std::string state;  ///< "none" (INITIAL), "held", "expired" (not renewed in time, yet), "lost"
    LeaseOwner owner;
    std::chrono::milliseconds ttl{0};
    std::array<OnSide, 2> sides;
    std::uint64_t lost_total = 0;
    std::string lost_to;  ///< a sentence
};

class Lease {
   public:
    struct Callbacks {
        std::function<void(const std::string& why)> lost;  ///< once, from a thread of the lease
        std::function<void()> renewed;                     ///< commits may be sent again
        std::function<std::string(Side)> backends;         ///< the sessions' process ids, "{1,2}"
    };

    /// `config` outlives it. `held`: the phase is another than INITIAL.
    Lease(const Config& config, LeaseOwner owner, bool held);
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;

    /// Both databases as they are now. Each is given a moment, no more.
    static LeaseViews look(const Config& config);

    enum class How : std::uint8_t {
        start,  ///< what stands there must be this owner's, or nothing
        seize,  ///< another's as well, unless it is live
        force,  ///< another's as well
    };
    /// Acquires at once on a side, the primary first. An Error is a sentence for the operator if the
    /// lease is lost(); otherwise the side is away, and its thread goes on trying.
    Result<void> acquire(Side side, How how);
    /// Starts the threads.
    void start(Callbacks callbacks);
    /// Ends them and lets the lease go.
    void stop();

    /// INITIAL is being left: a lease of this migration on both sides, or on none.
    Result<void> begin(const std::string& migration, std::int64_t epoch, std::int64_t phase_epoch);
    /// Back to INITIAL: nothing is left in the databases, as far as they can be reached.
    Result<void> end();

    enum class Change : std::uint8_t {
        plain,   ///< the same primary
        flip,    ///< no commit before the new primary has recorded it, which is after the other has
        undone,  ///< a flip that did not come about: no commit before the primary has recorded that
    };
    /// The phase is persisted.
    void note_phase(Phase phase, std::int64_t phase_epoch, Change change);
    /// Records a flip on a side, over the caller's connection: first on the primary that gives way.
    /// Bounded. After an Error the row may or may not say so.
    Result<void> record(Connection& connection, Side side);

    /// Whether a mirrored commit may be sent now. Any thread; a clock is read, no lock taken.
    bool may_commit() const;
    bool lost() const { return mode_ == Mode::lost; }
    LeaseOwner owner() const;
    LeaseStatus status() const;

   private:
    enum class Mode : std::uint8_t { idle, held, lost };
    /// Touched under its own mutex, by its thread or by whoever acts for it.
    struct Keeper {
        std::mutex mutex;
        std::optional<Connection> connection;
        bool acquired = false;
        std::thread thread;
    };
    struct PhaseChange {
        Phase phase = Phase::initial;
        std::int64_t number = 0;
    };
    struct Renewal {
        std::int64_t at_ns = 0;
        std::string error = "not renewed yet";
    };

    void keep(Side side);
    bool renew(Side side);
    void watch(Side side);
    Result<void> write_locked(Side side, How how);
    Result<bool> judge(LeaseTable& table, Side side, How how);
    Result<Connection*> connected(Keeper& keeper, Side side);
    LeaseRow row_of(Side side) const;
    void confirm(Side side, std::int64_t phase_epoch, std::int64_t sent_at_ns);
    void lose(const std::string& why);
    void wake();
    void update_validity_locked();
    Keeper& keeper(Side side) { return keepers_.at(static_cast<std::size_t>(side)); }

    const Config& config_;
    const std::chrono::milliseconds ttl_;
    const std::string started_at_;
    Callbacks callbacks_;
    std::atomic<Mode> mode_{Mode::idle};
    std::atomic<std::int64_t> valid_until_ns_{0};
    std::array<Keeper, 2> keepers_;

    mutable std::mutex mutex_;  ///< of what follows; taken after a keeper's
    std::condition_variable wake_;
    std::uint64_t woken_ = 0;
    bool stopping_ = false;
    LeaseOwner owner_;
    LeaseValidity validity_;
    std::array<Renewal, 2> renewals_;
    std::array<PhaseChange, 2> recorded_;  ///< what a side's row is to say
    bool primary_acquired_ = false;
    std::string lost_to_;
};

}  // namespace banyan::router
