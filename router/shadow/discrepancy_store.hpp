// Confirmed discrepancies in the state database, grouped by the query's fingerprint, with a few
// examples each; and as JSON lines in a file for whoever collects logs.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "router/model/types.hpp"
#include "router/state/state_db.hpp"

namespace banyan::router {

struct ConfirmedDiscrepancy {
    std::string fingerprint;
    std::string kind;  ///< "rows", "order", "row_count", "error", "slower"
    std::vector<std::string> tables;
    std::string sql;  ///< normalized
    std::string user;
    Phase phase = Phase::dual_read;
    std::int64_t at_unix_ms = 0;
    boost::json::object sample;  ///< router/migration/README.md, "samples"
};

class DiscrepancyStore {
   public:
    /// Keeps at most `max_groups`, dropping those seen longest ago; `log` may be empty.
    DiscrepancyStore(StateDb& db, std::uint32_t max_groups, std::filesystem::path log);

    bool record(const ConfirmedDiscrepancy& found);
    /// Last seen first.
    boost::json::array groups(std::size_t limit) const;
    /// One group with its samples, newest first.
    std::optional<boost::json::object> group(const std::string& fingerprint) const;
    /// False if there is no such group. A later discrepancy of another kind revokes it, and so does
    /// the time `until_unix_ms`, if one is given.
    bool acknowledge(const std::string& fingerprint, const std::string& by, const std::string& note,
                     std::optional<std::int64_t> until_unix_ms = std::nullopt);
    /// The group is gone; one that there is none of is no error.
    void forget(const std::string& fingerprint);
    std::uint64_t unacknowledged() const;

   private:
    void append_to_log(const ConfirmedDiscrepancy& found) const;

    StateDb& db_;
    const std::uint32_t max_groups_;
    const std::filesystem::path log_;
};

}  // namespace banyan::router
