// The audit log: append-only, each entry chained to the one before by SHA-256, so that a changed,
// removed or reordered entry shows.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "router/state/state_db.hpp"

namespace banyan::router {

struct Actor;

struct AuditEntry {
    std::int64_t at_unix_ms = 0;
    std::string actor;
    std::string address;
    std::string action;   ///< "transition.create", "backfill.pause", ...
    std::string subject;  ///< what it was done to, e.g. "t-000012"
    std::string reason;
    boost::json::value before;
    boost::json::value after;
    std::string result;  ///< "ok", or why it was refused
};

boost::json::object to_json(const AuditEntry& entry);
/// Sorted keys at every depth, no blanks: equal values give equal bytes.
std::string canonical(const boost::json::value& value);
/// SHA-256 of `previous` followed by the canonical body; lower-case hexadecimal.
std::string chain_hash(std::string_view previous, std::string_view canonical_body);
/// The `previous` of the first entry.
inline constexpr std::string_view audit_genesis =
    "0000000000000000000000000000000000000000000000000000000000000000";

class AuditLog {
   public:
    /// Creates the table if it is missing.
    explicit AuditLog(StateDb& db);
    /// Durable when it returns true.
    bool append(const AuditEntry& entry);
    /// Newest first; each entry's JSON with id, previous and hash.
    boost::json::array newest(std::size_t limit, std::optional<std::int64_t> before) const;
    /// The id of the first entry that does not fit the chain, or nullopt.
    std::optional<std::int64_t> first_broken() const;
    std::int64_t entries() const;

   private:
    StateDb& db_;
};

}  // namespace banyan::router
