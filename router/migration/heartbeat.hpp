// The row that proves a database takes writes: banyan.heartbeat, written on the new mirror before a
// flip and by the breaker's probe.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "router/breaker/mirror_fault.hpp"
#include "router/pg/connection.hpp"

namespace banyan::router {

Result<void> create_heartbeat(Connection& connection);
Result<void> write_heartbeat(Connection& connection, const std::string& transition);

/// What the probe found: nothing, or why the mirror is not well.
struct WriteProof {
    std::optional<MirrorFault> fault;
    std::string detail;
};

/// Connects and writes as a session's mirror transaction does: BEGIN READ WRITE, a row, COMMIT. Each
/// question is given `limit`. `before`: why the mirror was given up; a mirror that was too slow must
/// be prompt, one whose disk was full must find room for more than a row.
WriteProof prove_writes(const Endpoint& endpoint, std::optional<MirrorFault> before,
                        std::chrono::milliseconds limit, std::chrono::milliseconds prompt);

}  // namespace banyan::router
