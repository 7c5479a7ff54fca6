// The log: one line for each message, for people or as JSON.
#pragma once

#include <vector>

#include "router/config/config.hpp"
#include "router/metrics/sample.hpp"

namespace banyan::proxy {

/// Level and format of the log. Thread-safe.
void set_up_log(const router::Config::Log& log);
/// Messages written since the first set_up_log(), by level. Thread-safe.
std::vector<router::Sample> log_samples();

}  // namespace banyan::proxy
