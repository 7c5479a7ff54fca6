// What Prometheus and people are told about each Counter: a metric's name (without "banyan_"), at
// most one label, and a sentence. Counters that share a name share its help and label key.
#pragma once

#include <array>
#include <string_view>

#include "router/metrics/counters.hpp"

namespace banyan::router {

struct CounterDescription {
    Counter counter;
    std::string_view name;
    std::string_view label;  ///< empty: none
    std::string_view label_value;
    std::string_view help;
};

inline constexpr std::size_t counter_count = static_cast<std::size_t>(Counter::count_);

/// In the order of the enumeration.
const std::array<CounterDescription, counter_count>& counter_descriptions();

}  // namespace banyan::router
