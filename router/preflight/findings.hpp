// The doctor: what in the two databases would get into a migration's way, why it matters, from
// which phase on, and how to mend it. Pure: two snapshots (snapshot.hpp) go in.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "router/model/types.hpp"

namespace banyan::router {

enum class Severity : std::uint8_t {
    ok,     ///< looked for, nothing found
    info,   ///< worth knowing; nothing to do
    warn,   ///< works, with a cost or a risk that `why` names
    block,  ///< a gate of the step into `phase` stays shut, or data would be lost
};
std::string_view to_string(Severity severity);

struct Finding {
    std::string name;  ///< of the check, stable
    Severity severity = Severity::ok;
    std::string subject;         ///< "schema.table", a setting, "source", ...; empty: the whole
    std::string what;            ///< what was found
    std::string why;             ///< why it matters
    std::optional<Phase> phase;  ///< the step into it is where it bites
    std::string fix;             ///< a statement or a sentence
};

struct PreflightInput {
    boost::json::object source;  ///< snapshots; empty: could not be reached, see the error
    boost::json::object target;
    std::string source_error;
    std::string target_error;
    /// Tables that cannot be mirrored by row, with the catalogue's reason; nullopt: not known.
    std::optional<std::vector<std::pair<std::string, std::string>>> not_captured;
    std::set<std::string> excluded;  ///< "schema.table"
    std::set<std::string> mapped;    ///< likewise, on either side; their rules say what they are
    std::vector<std::string> mapping_problems;
    std::uint64_t max_clients = 0;       ///< sessions that may want a connection to the target
    std::uint64_t own_connections = 12;  ///< of Banyan's workers, per side
};

/// Blocks first, then warnings, information, and what is well; by check within. Of one check at most
/// `most` findings are listed, then one that counts the rest.
std::vector<Finding> preflight(const PreflightInput& input, std::size_t most = 200);

boost::json::object to_json(const Finding& finding);
/// {"findings": [...], "blocks": n, "warnings": n}
boost::json::object to_json(const std::vector<Finding>& findings);

}  // namespace banyan::router
