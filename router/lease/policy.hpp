// Who may be in charge of a migration, decided from the lease rows that both databases hold. Pure:
// no I/O, no clock; ages come from the databases. router/lease/README.md has the argument.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "router/model/types.hpp"

namespace banyan::router {

/// The one row of banyan.lease in a database.
struct LeaseRow {
    std::string migration;  ///< random; the same on both sides
    Side side = Side::source;
    std::string holder;  ///< random, of one state directory
    std::string host;
    std::string lock;  ///< boot id, device and inode of the holder's lock file
    std::int64_t process_id = 0;
    std::string started_at;
    std::int64_t epoch = 0;  ///< rises with each acquisition
    Phase phase = Phase::initial;
    std::int64_t phase_epoch = 0;  ///< the number of the phase change in the state database
    std::string renewed_at;        ///< by the database's clock
    std::int64_t age_ms = 0;       ///< since then, by the same clock, when the row was read
    std::int64_t ttl_ms = 0;
    bool released = false;  ///< its holder ended in order
    std::string backends;   ///< an array literal: process ids of the holder's sessions, then

    bool live() const { return !released && age_ms < ttl_ms; }
};

/// What a look at one database showed.
struct LeaseView {
    bool reachable = false;
    std::string error;
    std::optional<LeaseRow> row;
};

/// Indexed by Side.
using LeaseViews = std::array<LeaseView, 2>;

/// What this state directory knows of itself.
struct LeaseOwner {
    std::string migration;  ///< empty: none yet
    std::string holder;
    std::string host;
    std::string lock;
    std::int64_t process_id = 0;
    std::int64_t epoch = 0;  ///< persisted before it is written anywhere else
    Phase phase = Phase::initial;
    std::int64_t phase_epoch = 0;
};

/// One row against this owner.
enum class Standing : std::uint8_t {
    ours,          ///< written by this state directory, whose lock proves that the writer is gone
    nothing,       ///< no row, or one on which nothing rests
    ours_live,     ///< by this state directory or a copy of it, elsewhere or before a reboot: wait
    state_behind,  ///< by this state directory, later than what it remembers: an old copy
    foreign,       ///< another holder's, expired
    foreign_live,
    wrong_side,  ///< the row says that this database is the other side of its migration
};
Standing standing(const LeaseOwner& own, Side side, const LeaseRow& row);
/// A sentence for the operator: who, where, since when, and what to do. Empty for `ours`, `nothing`.
std::string describe(Standing standing, const LeaseOwner& own, Side side, const LeaseRow& row);

struct LeaseDecision {
    enum class Action : std::uint8_t {
        go,      ///< start: acquire, or in INITIAL do nothing
        wait,    ///< look again until the row expires; renewed meanwhile: somebody has it
        refuse,  ///< do not start
    };
    Action action = Action::go;
    std::string why;  ///< of wait and refuse

    // What seizing takes over; with Action::go of decide_seize() alone.
    std::string migration;
    std::int64_t epoch = 0;
    Phase phase = Phase::initial;
    std::int64_t phase_epoch = 0;
};

/// An ordinary start.
LeaseDecision decide_start(const LeaseOwner& own, const LeaseViews& views);
/// The operator says that the other holder is gone. `even_from`: the holder that is to lose its lease
/// although it is live; empty: none.
LeaseDecision decide_seize(const LeaseOwner& own, const LeaseViews& views,
                           const std::string& even_from);

/// Whether a row was renewed between two looks: its holder lives, whatever the clocks say.
bool renewed_between(const LeaseViews& before, const LeaseViews& now);
/// The epoch of the next acquisition: above all that was seen.
std::int64_t next_epoch(const LeaseOwner& own, const LeaseViews& views);

/// Until when commits may be sent: a renewal on the present primary vouches for most of the ttl from
/// the moment before it was sent, if it carried the phase that the last flip (or its undoing) made.
/// Times are in nanoseconds of a clock that goes on while the process is stopped.
class LeaseValidity {
   public:
    explicit LeaseValidity(std::chrono::milliseconds ttl) : ttl_(ttl) {}
    void phase(Phase phase, std::int64_t phase_epoch, bool fence);
    void confirmed(Side side, std::int64_t phase_epoch, std::int64_t sent_at_ns);
    void forget();
    /// 0: no commit may be sent.
    std::int64_t valid_until_ns() const;

   private:
    struct Confirmation {
        std::int64_t phase_epoch = -1;
        std::int64_t at_ns = 0;
    };
    std::chrono::nanoseconds ttl_;
    Side primary_ = Side::source;
    std::int64_t required_ = 0;
    std::array<Confirmation, 2> sides_;
};

}  // namespace banyan::router
