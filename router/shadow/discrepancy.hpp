// Shadow-read discrepancies: what a session hands over, and the store that groups them by
// fingerprint after the re-check.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "router/model/types.hpp"
#include "router/pg/connection.hpp"

namespace banyan::router {

/// A read whose two answers differed; pending until run again (see shadow/recheck.hpp).
struct PendingDiscrepancy {
    std::string sql;                  ///< one SELECT
    std::vector<Param> parameters;    ///< as the client bound them
    std::vector<std::uint32_t> parameter_types;  ///< OIDs the client gave; 0: inferred
    std::string user;                 ///< role in force
    std::vector<std::pair<std::string, std::string>> settings;  ///< of the session, to run alike
    std::vector<std::string> tables;  ///< "schema.table" as named, for display
    std::vector<TableId> table_ids;   ///< 0: not a mirrored table, such as a view
    std::string kind;                 ///< "rows", "order", "row_count", "error"
    bool ordered = false;             ///< the query has ORDER BY
    Phase phase = Phase::dual_read;
    std::string mirror_error;         ///< if the mirror answered an error: its SQLSTATE and message
    std::uint64_t primary_rows = 0;
    std::uint64_t mirror_rows = 0;
};

}  // namespace banyan::router
