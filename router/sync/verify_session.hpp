// Verification's connections: two that are asked the same question at the same time, and one to the
// primary that finds out meanwhile where the next range ends.
#pragma once

#include <string>

#include "router/catalog/catalog.hpp"
#include "router/config/config.hpp"
#include "router/pg/connection.hpp"

namespace banyan::router {

struct VerifySession {
    Connection primary;
    Connection mirror;
    Connection scout;

    static Result<VerifySession> open(const Config& config, Side primary_side);
};

struct BothRows {
    Rows primary;
    Rows mirror;
};

/// Sends a query and does not wait; then answer() must be called, or the connection stays busy.
Result<void> ask(Connection& connection, const std::string& sql);
Result<Rows> answer(Connection& connection);

/// Runs a query on each side, concurrently.
Result<BothRows> ask_both(VerifySession& session, const std::string& of_primary,
                          const std::string& of_mirror);

}  // namespace banyan::router
