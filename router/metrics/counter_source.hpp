// Where a scrape finds what the data plane counts and times. Implemented in proxy/: one block per
// event loop.
#pragma once

#include <vector>

#include "router/metrics/counters.hpp"
#include "router/metrics/sample.hpp"
#include "router/metrics/timings.hpp"

namespace banyan::router {

struct CounterSource {
    virtual ~CounterSource() = default;
    /// Every block that exists now. The pointers stay valid as long as the source. Any thread.
    virtual std::vector<const Counters*> counters() = 0;
    virtual std::vector<const Timings*> timings() = 0;
    /// What else there is to say. Any thread.
    virtual std::vector<Sample> samples() = 0;
};

}  // namespace banyan::router
