// GET /metrics: the data plane's counters and the control plane's samples as Prometheus text.
#pragma once

#include <string>
#include <vector>

#include "router/metrics/counter_source.hpp"
#include "router/migration/control.hpp"

namespace banyan::admin {

inline constexpr std::string_view metrics_content_type = "text/plain; version=0.0.4; charset=utf-8";

/// A family with more series than this is cut off; banyan_metrics_dropped_series says by how many.
inline constexpr std::size_t max_series_per_family = 1000;

/// Every name gets the prefix banyan_. Counters end in _total and nothing else does: a sample that
/// breaks the rule is renamed. Samples with impossible names are dropped and counted.
std::string render_metrics(router::CounterSource& source,
                           const std::vector<router::Sample>& samples);

}  // namespace banyan::admin
