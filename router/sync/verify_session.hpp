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

/// Runs one query on both sides concurrently.
Result<BothRows> ask_both(VerifySession& session, const std::string& sql);

}  // namespace banyan::router
