// The log: one line for each message, for people or as JSON.
#pragma once

#include "router/config/config.hpp"

namespace banyan::proxy {

/// Level and format of the log. Thread-safe.
void set_up_log(const router::Config::Log& log);

}  // namespace banyan::proxy
