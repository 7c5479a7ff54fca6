// Measures what the gates judge: questions to the two databases. Blocking; slow if one is down.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "router/catalog/catalog.hpp"
#include "router/migration/blocking.hpp"
#include "router/migration/gates.hpp"
#include "router/pg/connection.hpp"

namespace banyan::router {

/// What one side says of itself. `roles`: who must be able to act as replication there.
SideFacts measure_side(const Endpoint& endpoint, const std::vector<std::string>& roles);

/// Tries reverse(forward(row)) = row on every row of the mapped tables that are not reversible by
/// their rules alone; a scan of each. For a catalogue whose primary is the source.
std::vector<ReverseFacts> measure_reverse(const Endpoint& source, const Catalog& catalog,
                                          bool scan);

/// Client backends and prepared transactions of this database that are not Banyan's: not among
/// `ours`, and no application name that begins with "banyan-".
Result<std::vector<ForeignBackend>> foreign_backends(Connection& connection,
                                                     const std::vector<std::int32_t>& ours);

/// Advisory locks in this database whose holder is not among `ours`.
Result<std::vector<ForeignLock>> foreign_locks(Connection& connection,
                                               const std::vector<std::int32_t>& ours);

/// Statements in this database that wait for an advisory lock of a session that is idle.
Result<std::vector<LockWait>> lock_waits(Connection& connection);

}  // namespace banyan::router
