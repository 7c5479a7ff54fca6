#include "router/metrics/counters.hpp"

namespace banyan::router {

void Counters::add_reason(const char* what, const std::string& reason) {
    const std::lock_guard lock(mutex_);
    ++reasons_[{what, reason}];
}

std::map<std::pair<std::string, std::string>, std::uint64_t> Counters::reasons() const {
    const std::lock_guard lock(mutex_);
    return reasons_;
}

}  // namespace banyan::router
