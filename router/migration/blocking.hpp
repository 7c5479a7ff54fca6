// Sessions in the way of a flip: those that own what cannot be brought along to the other side. Who
// they are, and what becomes of them. Pure; the walk (ask.cpp) asks and acts.
#pragma once

#include <boost/json.hpp>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "router/migration/fleet.hpp"

namespace banyan::router {

/// What the operator wants done with sessions that still block when their time is over.
enum class OnBlocked : std::uint8_t {
    abort,  ///< the transition ends, the sessions go on
    end,    ///< those sessions end with 57P01, the transition goes on
};
std::string_view to_string(OnBlocked choice);
std::optional<OnBlocked> on_blocked_from_string(std::string_view text);

struct BlockedSession {
    std::uint64_t id = 0;
    std::string user;
    std::string application;
    std::string client;               ///< address:port
    std::vector<std::string> things;  ///< each named for a person
    bool ended = false;
    bool waits = false;  ///< in a statement that cannot end: nothing at a boundary would end it

    bool operator==(const BlockedSession&) const = default;
};
boost::json::array to_json(const std::vector<BlockedSession>& sessions);

/// An advisory lock on the mirror whose holder is none of Banyan's sessions.
struct ForeignLock {
    AdvisoryLock lock;
    std::string holder;  ///< "process 7 (user, application)"
};

/// A statement that waits for an advisory lock which an idle session holds: it will not get to its
/// end while that session is held.
struct LockWait {
    std::int32_t process_id = 0;
    AdvisoryLock lock;
};

/// PostgreSQL's conflict table for the two modes that advisory locks have.
bool conflict(const AdvisoryLock& a, const AdvisoryLock& b);
/// `waits` are on `primary`.
std::vector<BlockedSession> blocked_sessions(const std::vector<SessionInfo>& sessions,
                                             const std::vector<ForeignLock>& foreign,
                                             const std::vector<LockWait>& waits, Side primary);
/// "session 3 (app, psql, 10.0.0.1:5000): temporary table "x"; ...", the first few of them.
std::string describe(const std::vector<BlockedSession>& sessions);

/// When sessions that block have had their time. With `end` a third of what is left when the
/// asking begins stays for the flip itself; with `abort` they have all of it.
std::chrono::steady_clock::time_point patience_end(OnBlocked choice,
                                                   std::chrono::steady_clock::time_point now,
                                                   std::chrono::steady_clock::time_point deadline);

enum class BlockedVerdict : std::uint8_t { go_on, wait, end, abort };
/// `asked`: the sessions have answered, or those in a transaction have been waited for enough;
/// what they own is then looked at once more under the hold.
BlockedVerdict judge_blocked(bool blocked, bool asked, bool patient, OnBlocked choice);

}  // namespace banyan::router
