// Shows differing rows without their data: each value becomes its type, its length and a short
// hash that is the same for equal values within one process (its seed is random).
#pragma once

#include <boost/json.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "router/shadow/replay.hpp"

namespace banyan::router {

/// "<text 5 a1b2c3>".
std::string redacted(std::string_view value, std::uint32_t type);
/// Bytes that are not UTF-8 become '?', so that any JSON reader takes the text; cut at `at_most`.
std::string printable(std::string_view bytes, std::size_t at_most = 1000);

/// Rows that one side has more often than the other, at most `at_most` of each: (only on the
/// primary, only on the mirror).
std::pair<std::vector<Cells>, std::vector<Cells>> differing_rows(const Replay& primary,
                                                                 const Replay& mirror,
                                                                 std::size_t at_most);
/// [[cell, ...], ...]; a NULL is null.
boost::json::array rows_json(const std::vector<Cells>& rows,
                             const std::vector<std::uint32_t>& types, bool redact);

}  // namespace banyan::router
