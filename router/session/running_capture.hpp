// A captured statement while its answer streams, the rows of it that a client fetches piece by piece,
// and a COPY under way. Plain values of the session machine.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/messages.hpp"
#include "router/sql/capture.hpp"
#include "router/sql/table_writes.hpp"

namespace banyan::router {

/// Rows of a captured statement that the client fetches piece by piece: the statement ran to
/// its end at the first Execute, as in PostgreSQL.
struct HeldRows {
    std::deque<std::string> rows;
    std::string tag;  ///< of its CommandComplete
    std::uint64_t bytes = 0;
};

/// One captured statement while its answer streams.
struct RunningCapture {
    std::shared_ptr<const CapturePlan> plan;
    std::uint64_t catalog_version = 0;
    std::uint64_t rows = 0;
    std::optional<std::uint64_t> expected_rows;  ///< own rows locked before the statement
    protocol::SplitRow split;
    std::vector<std::optional<std::string_view>> image;
    std::shared_ptr<HeldRows> held;  ///< the client set a row limit
    std::uint32_t max_rows = 0;
};

/// A COPY FROM STDIN, from before it is sent until its answer is complete.
struct CopyIn {
    std::shared_ptr<const CopyPlan> plan;  ///< null: its data is the primary's alone
    std::string settings;                  ///< SQL that makes the mirror read values alike
    bool scripted = false;  ///< the client knows of no Flush that would bring the answer
    bool over = false;
};

}  // namespace banyan::router
