// Gates: named, measured conditions that guard a phase change. Pure: a snapshot of facts goes in
// (facts.hpp measures it), verdicts come out. What was not measured is never a pass.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "router/model/types.hpp"

namespace banyan::router {

enum class Verdict : std::uint8_t { pass, fail, inconclusive };
std::string_view to_string(Verdict verdict);

struct Gate {
    std::string name;
    Verdict verdict = Verdict::inconclusive;
    boost::json::value value;      ///< what was measured
    boost::json::value threshold;  ///< what would pass
    std::optional<std::uint64_t> samples;
    std::optional<std::uint64_t> minimum_samples;
    std::string explanation;
    /// False: passing it by override would lose data or cannot work.
    bool overridable = true;
};

/// One database as the service role sees it.
struct SideFacts {
    bool reachable = false;
    std::string error;              ///< why not, or which fact could not be read
    std::string system_identifier;  ///< of the cluster; empty: not readable
    std::string database;
    std::optional<bool> in_recovery;  ///< a standby
    bool read_only = false;           ///< default_transaction_read_only for Banyan's role
    std::optional<std::vector<std::string>> roles_without_replication_role;  ///< may not SET it
    std::optional<std::vector<std::string>> sequences;                       ///< schema.name
    std::optional<std::int64_t> large_objects;  ///< how many
    std::int64_t max_connections = 0;  ///< without the reserved ones; 0: not known
    std::int64_t used_connections = 0;
};

/// A backend on the primary that is not Banyan's.
struct ForeignBackend {
    std::int32_t process_id = 0;
    std::string user;
    std::string application;
    bool writing = false;   ///< has a transaction id
    bool prepared = false;  ///< a prepared transaction; process_id is 0, application its gid
};

struct VerifiedTable {
    std::string name;
    std::string
        state;  ///< TableVerification::state; empty: never verified, or not since the backfill
    std::int64_t finished_unix_ms = 0;
};

/// What reverse(forward(row)) = row was found to be for one mapped table, on the source's data.
struct ReverseFacts {
    std::string name;
    std::string missing;  ///< there is no way back: why, and what to write; empty: there is
    std::string error;    ///< the check failed
    std::int64_t rows_changed = 0;
    std::string example_key;  ///< of one of them
};

struct Facts {
    SideFacts source;
    SideFacts target;

    bool catalog_known = false;
    std::string catalog_error;
    std::size_t tables_captured = 0;
    std::vector<std::pair<std::string, std::string>> not_captured;  ///< table, reason

    std::vector<std::string> mapping_problems;
    std::map<std::string, std::string> sequence_twins;  ///< this phase's primary -> its mirror
    std::vector<ReverseFacts> reverse;                  ///< of mapped tables, for SWITCHOVER

    bool backfill_done = false;
    std::string backfill_state;
    std::uint64_t backfill_rows_copied = 0;
    std::uint64_t backfill_rows_estimated = 0;

    bool breaker_closed = true;
    std::uint64_t dirty = 0;
    std::vector<std::string> suspects;
    bool journal_failed = false;
    std::vector<VerifiedTable> verified;  ///< one per captured table

    std::uint64_t shadow_matched = 0;
    std::uint64_t shadow_minimum = 0;
    std::optional<std::uint64_t> confirmed_unacknowledged = 0;  ///< empty: cannot be read
    std::uint64_t shadow_undecided = 0;  ///< pending re-check right now

    std::optional<std::vector<ForeignBackend>> foreign;  ///< nullopt: could not be looked up
    std::size_t sessions = 0;                            ///< of clients
};

/// Every gate of the step. Empty where nothing guards it (going back to DUAL_WRITE or INITIAL).
std::vector<Gate> evaluate_gates(Phase from, Phase to, const Facts& facts);

/// May the transition go on? Without override only if all pass.
bool gates_open(const std::vector<Gate>& gates, bool override_gates);
/// The names of those that did not pass, comma-separated.
std::string closed_gates(const std::vector<Gate>& gates);

boost::json::object to_json(const Gate& gate);
boost::json::array to_json(const std::vector<Gate>& gates);

}  // namespace banyan::router
