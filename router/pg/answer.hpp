// Questions that must be answered in time. Connection::exec waits as long as the server takes; here
// a server that is stopped rather than gone, which accepts connections and never answers, is an
// error.
#pragma once

#include <chrono>
#include <string>

#include "router/pg/connection.hpp"

namespace banyan::router {

/// The SQLSTATE of an Error that says a server did not answer in time (connection_failure): it may
/// be stopped, or out of reach. Any other error is an answer, or a refusal by the network.
inline constexpr const char* no_answer = "08006";

/// As Connection::exec(sql), and no_answer after the deadline; the connection is of no use then.
Result<Rows> exec_until(PGconn* connection, const std::string& sql,
                        std::chrono::steady_clock::time_point deadline);
inline Result<Rows> exec_within(Connection& connection, const std::string& sql,
                                std::chrono::milliseconds timeout) {
    return exec_until(connection.raw(), sql, std::chrono::steady_clock::now() + timeout);
}

/// Waits for the socket to be readable, or writable; false when the deadline passes.
bool wait_for_socket(PGconn* connection, bool writable,
                     std::chrono::steady_clock::time_point deadline);

}  // namespace banyan::router
