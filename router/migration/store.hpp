// What the control plane keeps in the state database: phase history, transitions, its settings and
// the last verification of each table.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "router/model/types.hpp"
#include "router/state/state_db.hpp"

namespace banyan::router {

struct PhaseEntry {
    Phase phase = Phase::initial;
    std::int64_t at_unix_ms = 0;
    std::int64_t number = 0;  ///< rises with each change
};

class MigrationStore {
   public:
    /// Creates missing tables.
    explicit MigrationStore(StateDb& db);

    /// The last persisted phase; INITIAL, at time 0, if none ever was.
    PhaseEntry phase() const;
    /// Durable when it returns true. `number`: above all that were; nullopt: the next.
    bool persist_phase(Phase from, Phase to, const std::string& reason,
                       const std::string& transition,
                       std::optional<std::int64_t> number = std::nullopt);

    /// The number for the next transition; never used twice.
    std::int64_t next_transition() const;
    /// With `wait`, durable on return; otherwise soon (never blocks a held session on a disk).
    bool save_transition(std::int64_t number, const boost::json::object& body, bool wait);
    /// Newest first.
    boost::json::array transitions(std::size_t limit) const;
    std::optional<boost::json::object> transition(std::int64_t number) const;
    /// Those whose state is not a final one.
    std::map<std::int64_t, boost::json::object> unfinished() const;

    std::string setting(const std::string& key) const;
    bool set_setting(const std::string& key, const std::string& value);

    std::map<TableId, boost::json::object> verification_results() const;
    void save_verification(TableId table, const boost::json::object& result);
    void forget_verifications();

   private:
    StateDb& db_;
};

}  // namespace banyan::router
