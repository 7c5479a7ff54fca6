// R15: before repair may look at a row after a crash, whatever the dead process's backends were
// doing must have ended. A session's backend carries the client's own application_name, so nothing
// tells an orphan from a stranger: recovery waits for all of them and ends none.
#pragma once

#include <chrono>
#include <string>

#include "router/pg/connection.hpp"

namespace banyan::router {

/// Waits until every client backend of this database that was there at `since` is gone, is idle
/// and waiting for its client (so it has read all that its client ever sent), or has begun another
/// transaction since. `since` is a time of this server's clock; empty: now, and it is set. Whoever
/// tries again keeps it: transactions begun meanwhile are nothing to wait for. An orphan in a transaction ends when it notices that its client is gone, a
/// stranger's long transaction when it likes: on timeout the Error names who is in the way. Call it
/// on both sides, after Ledger's constructor and before Repair::start(), if the last run did not
/// end cleanly. The connection's role must see other roles' activity (pg_monitor).
Result<void> wait_for_older_transactions(Connection& connection, std::chrono::milliseconds timeout,
                                         std::string& since);

}  // namespace banyan::router
