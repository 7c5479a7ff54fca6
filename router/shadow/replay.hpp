// Runs a shadow read again, on Banyan's own connection, as the client's role and under the
// client's settings, in a read-only transaction that is rolled back.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "router/pg/connection.hpp"
#include "router/shadow/digest.hpp"
#include "router/shadow/discrepancy.hpp"

namespace banyan::router {

/// One row's cells in text format.
using Cells = std::vector<std::optional<std::string>>;

struct Replay {
    std::string sqlstate;  ///< of the statement's own error; empty if it answered rows
    std::string message;
    Digest digest;
    std::vector<std::string> columns;
    std::vector<std::uint32_t> types;
    std::vector<Cells> rows;  ///< all of them, or none if they are too big to keep
    bool complete = true;     ///< rows holds all
    std::chrono::microseconds took{0};  ///< from sending it to the end of its answer
};

/// An Error means that the question could not be put (connection, role, setting, time); it says
/// nothing about the data.
Result<Replay> replay(Connection& connection, const PendingDiscrepancy& read,
                      std::chrono::milliseconds timeout);

enum class RecheckVerdict : std::uint8_t {
    raced,      ///< the mirror agrees with what the primary said before or after it
    confirmed,  ///< the primary stands still and the mirror says something else
    unstable,   ///< the primary is changing: ask again
    unfit,      ///< the primary answers an error: nothing to compare with
};
/// With ORDER BY also in the same order; of errors, the SQLSTATE. Pure.
bool same_answer(const Replay& a, const Replay& b, bool ordered);
/// Pure. `before` and `after` are the primary's answers around the mirror's.
RecheckVerdict judge(const Replay& before, const Replay& mirror, const Replay& after, bool ordered);
/// "rows", "order", "row_count" or "error". Pure.
std::string difference_kind(const Replay& primary, const Replay& mirror, bool ordered);

}  // namespace banyan::router
