// banyan.lease in one database: the SQL, each call with a deadline of its own, so that a server that
// hangs does not hang its caller. After a timeout the connection must not be used again.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "router/lease/policy.hpp"
#include "router/pg/connection.hpp"

namespace banyan::router {

/// One statement; an Error without SQLSTATE when `timeout` passes.
Result<Rows> exec_within(Connection& connection, const std::string& sql,
                         const std::vector<Param>& params, std::chrono::milliseconds timeout);

class LeaseTable {
   public:
    LeaseTable(Connection& connection, std::chrono::milliseconds timeout)
        : connection_(connection), timeout_(timeout) {}

    /// nullopt: there is none.
    Result<std::optional<LeaseRow>> read();
    /// Writes `row` if it is already its holder's at this epoch, or if the row there has a lower
    /// epoch (and, with `if_expired`, is not live). Creates what is missing. The phase change that is
    /// recorded afterwards, which may be a later one of the same holder's; nullopt: not written.
    Result<std::optional<std::int64_t>> write(const LeaseRow& row, bool if_expired);
    /// The holder's phase, if the row is still its own. False: it is not.
    Result<bool> record(const LeaseRow& row);
    /// The holder ends in order.
    Result<void> release(const LeaseRow& row);
    /// Drops the table if the row is the holder's, and the schema if nothing else is in it.
    Result<void> remove(const LeaseRow& row);
    /// Ends the sessions that the row names, as far as they are still the same, and the former
    /// holder's workers. How many; an Error: it may not.
    Result<std::int64_t> end_backends(const LeaseRow& row);

   private:
    Result<Rows> exec(const std::string& sql, const std::vector<Param>& params = {});
    Result<bool> exists();

    Connection& connection_;
    std::chrono::milliseconds timeout_;
};

}  // namespace banyan::router
