// Verification's two connections, asked the same question at the same time.
#pragma once

#include <string>

#include "router/catalog/catalog.hpp"
#include "router/config/config.hpp"
#include "router/pg/connection.hpp"

namespace banyan::router {

struct VerifySession {
    Connection primary;
    Connection mirror;

    static Result<VerifySession> open(const Config& config, Side primary_side);
};

struct BothRows {
    Rows primary;
    Rows mirror;
};

/// Runs a query on each side, concurrently.
Result<BothRows> ask_both(VerifySession& session, const std::string& of_primary,
                          const std::string& of_mirror);

}  // namespace banyan::router
