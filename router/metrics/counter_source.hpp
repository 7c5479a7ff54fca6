// Where a scrape finds the data plane's counters. Implemented in proxy/: one block per event loop.
#pragma once

#include <vector>

#include "router/metrics/counters.hpp"

namespace banyan::router {

struct CounterSource {
    virtual ~CounterSource() = default;
    /// Every block that exists now. The pointers stay valid as long as the source. Any thread.
    virtual std::vector<const Counters*> counters() = 0;
};

}  // namespace banyan::router
