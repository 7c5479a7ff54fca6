// Wall-clock time as the control plane shows and stores it.
#pragma once

#include <chrono>
#include <cstdint>

namespace banyan::router {

inline std::int64_t unix_ms() {
    using namespace std::chrono;
    return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

}  // namespace banyan::router
