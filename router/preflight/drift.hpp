// Where two schemas differ, object by object. Pure.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace banyan::router {

struct Drift {
    enum class What : std::uint8_t { only_on_source, only_on_target, differs };
    What what = What::differs;
    std::string kind;    ///< "table", "column", "index", "constraint", "function", ...
    std::string name;    ///< "schema.name", of a column "schema.table.column"
    std::string source;  ///< definition; empty where it is missing
    std::string target;
};

/// `source`, `target`: "objects" of a snapshot (snapshot.hpp), in any order. What belongs to a table
/// that is itself missing is not listed beside it. `left_out`: "schema.table" names, with all that
/// belongs to them. Ordered by kind and name.
std::vector<Drift> schema_drift(const boost::json::array& source, const boost::json::array& target,
                                const std::set<std::string>& left_out);

}  // namespace banyan::router
