// Sequences are advanced on the side about to become primary, past the other side's, before any
// flip.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "router/pg/connection.hpp"

namespace banyan::router {

struct SequenceAdvance {
    std::string name;  ///< schema.name
    std::int64_t from = 0;
    std::int64_t to = 0;
};

/// Sequences whose name on `to` is another: name on `from` -> name on `to`.
using SequenceTwins = std::map<std::string, std::string>;

/// For every sequence that exists on both sides: sets `to`'s value to at least `from`'s last value
/// plus `margin` increments in the sequence's direction, clamped to its bounds; never moves one
/// backwards. Sequences missing on `to` are an error naming them.
Result<std::vector<SequenceAdvance>> advance_sequences(Connection& from, Connection& to,
                                                       std::int64_t margin,
                                                       const SequenceTwins& twins = {});

}  // namespace banyan::router
