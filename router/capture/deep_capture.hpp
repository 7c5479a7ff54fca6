// Deep capture: AFTER triggers in a schema of Banyan's own, on both databases, silent unless a
// session of Banyan's asks. They record in the writer's own transaction which rows an opaque
// statement (a function, a cascade, MERGE, DO) has written. See README.md in this folder.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "router/pg/connection.hpp"

namespace banyan::router {

/// One table of a database, as far as deep capture is concerned.
struct CaptureTable {
    std::string name;  ///< "schema.table"
    bool installed = false;
    std::string reason;  ///< why it is not installed: "type_without_binary_form", an error message
};

struct CaptureState {
    bool present = false;              ///< the schema's functions are there
    std::vector<CaptureTable> tables;  ///< ordered by name; partitions are their root's
    std::int64_t rows_left = 0;        ///< recorded, committed, and not taken by anybody
};

struct CaptureOptions {
    std::vector<std::string> exclude;  ///< "schema.table" names left out
    /// Longest wait for one table's lock: writers queue behind that wait.
    std::chrono::milliseconds lock_timeout{200};
    int attempts = 10;  ///< to get each table's lock
};

/// The names of the triggers on each table. They sort before what people call theirs, so that a
/// row's first record is made before its other triggers run.
inline constexpr const char* capture_trigger = "!banyan_capture";
inline constexpr const char* capture_truncate_trigger = "!banyan_truncate";

Result<CaptureState> read_capture(Connection& connection, const CaptureOptions& options);
/// Creates what is missing; each table in a transaction of its own. Tables that could not be done
/// carry their reason. Needs the right to create a schema and triggers on every table.
Result<CaptureState> install_capture(Connection& connection, const CaptureOptions& options);
/// Drops every trigger, function and table of it; the schema too if nothing else is in it.
Result<void> remove_capture(Connection& connection, const CaptureOptions& options);
/// After a restart, before any session: forgets what nobody will take. Returns the tables (OIDs)
/// that rows were left of.
Result<std::vector<std::uint32_t>> forget_left_rows(Connection& connection);

}  // namespace banyan::router
