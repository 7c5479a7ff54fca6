// The sessions of the data plane as the control plane sees them. Implemented in proxy/; the
// control plane tells sessions what to do with a Directive and learns how many have done it.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "router/catalog/catalog.hpp"
#include "router/metrics/counters.hpp"
#include "router/model/types.hpp"

namespace banyan::router {

/// What every session must do at its next transaction boundary. `epoch` rises with each directive.
struct Directive {
    std::uint64_t epoch = 0;
    Phase phase = Phase::initial;
    bool hold = false;       ///< start nothing new: wait at the boundary, refuse nothing
    bool shadow = false;     ///< run shadow reads (phase permitting)
    double shadow_share = 1.0;  ///< share of qualifying reads, 0..1
    /// Primary and mirror are about to trade places: each session asks its primary what it owns.
    bool ask = false;
    /// A session that owns what cannot be brought along ends with 57P01.
    bool end_blocked = false;
    /// Another Banyan is in charge: every session ends with 57P01, whatever it is doing.
    bool lost = false;
};

/// How far a directive has been taken up.
struct Adoption {
    std::size_t sessions = 0;  ///< that exist now
    std::size_t adopted = 0;   ///< that follow the directive's epoch (or a later one)
    /// Adopted a hold, but has no usable connection to the mirror.
    std::size_t without_mirror = 0;
    /// Adopted, but own what cannot be brought along to the other side.
    std::size_t blocked = 0;
    std::chrono::milliseconds oldest_transaction{0};  ///< of those not adopted
};

struct SessionInfo {
    std::uint64_t id = 0;
    std::string user;
    std::string database;
    std::string application;
    std::string client;        ///< address:port
    std::string state;         ///< "login", "idle", "active", "in_transaction", "held"
    Phase phase = Phase::initial;
    bool mirror_ready = false;
    std::string mirror_login;  ///< "users", "scram_keys", "service_role", "trust", "client"; empty: none
    std::int64_t connected_unix_ms = 0;
    std::int64_t transaction_age_ms = 0;
    std::int32_t source_process_id = 0;
    std::int32_t target_process_id = 0;
    /// What a flip could not bring along, by name; as known when the session was last asked.
    std::vector<std::string> blocking;
    std::vector<AdvisoryLock> locks;
};

class Fleet {
   public:
    virtual ~Fleet() = default;
    /// Hands the directive to every session, present and future. Returns at once.
    virtual void publish(const Directive& directive) = 0;
    /// How far the newest directive has been adopted.
    virtual Adoption adoption() = 0;
    virtual std::vector<SessionInfo> sessions() = 0;
    /// The primary's catalogue for capture; sessions use it from their next statement on.
    virtual void set_catalog(std::shared_ptr<const Catalog> catalog) = 0;
    /// Longest time any client message waited because of a hold since the last call to
    /// reset_longest_hold().
    virtual std::chrono::microseconds longest_hold() = 0;
    virtual void reset_longest_hold() = 0;
    /// Process ids of all backends Banyan's sessions hold on this side.
    virtual std::vector<std::int32_t> backends(Side side) = 0;
    /// Another server stands behind this side's address (a failover). Sessions that have the side as
    /// their primary end, the others give up their connection to it and make a new one. Names are
    /// looked up anew before.
    virtual void server_replaced(Side side) = 0;
    /// Tables of the transactions whose commit began since then; 0 stands for all.
    virtual std::vector<TableId> written_since(std::chrono::steady_clock::time_point since) = 0;
    /// Sum of one counter over all event loops.
    virtual std::uint64_t counter_total(Counter counter) = 0;
    /// How long the slowest event loop took to come to a task it was given: at the last call, or
    /// since then, if it has not come to it yet. Gives them the next.
    virtual std::chrono::microseconds loop_lag() { return std::chrono::microseconds(0); }
    /// What a session may be waiting for has changed: SessionPort::may_commit().
    virtual void wake() {}
};

}  // namespace banyan::router
