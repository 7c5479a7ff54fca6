#include "proxy/descriptors.hpp"

#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <limits>

namespace banyan::proxy {
namespace {

// Connections of the workers (repair, verification, catalogue, gates, probes), of the admin API and
// a few files; each backfill worker has two more.
constexpr std::size_t for_workers_and_admin = 96;
constexpr std::size_t per_client = 3;

std::atomic<int> first_reserved{std::numeric_limits<int>::max()};

}  // namespace

Descriptor::~Descriptor() {
    if (handle_ >= 0) {
        ::close(handle_);
    }
}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
}

std::size_t descriptors_to_reserve(std::size_t limit, std::size_t backfill_workers) {
    // Where there are few in all, clients get most of what is left.
    return std::min(for_workers_and_admin + 2 * backfill_workers, limit / 4);
}

std::string too_few_descriptors(std::size_t limit, const router::Config& config) {
    const auto needed =
        config.limits.max_clients * per_client +
        descriptors_to_reserve(std::numeric_limits<int>::max(), config.backfill.workers);
    if (needed <= limit) {
        return "";
    }
    return "this process may open " + std::to_string(limit) +
           " files, but [limits] max_clients = " + std::to_string(config.limits.max_clients) +
           " can need " + std::to_string(needed) +
           ": clients beyond what fits are refused with 53300. Raise the limit (ulimit -Hn, "
           "LimitNOFILE), or lower max_clients";
}

void raise_descriptor_limit(const router::Config& config) {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        spdlog::warn("the limit of open files cannot be read: {}", std::strerror(errno));
        return;
    }
    if (limit.rlim_cur < limit.rlim_max) {
        auto raised = limit;
        raised.rlim_cur = limit.rlim_max;
        if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) {
            limit = raised;
        } else {
            spdlog::warn("the limit of open files stays at {}: {}", limit.rlim_cur,
                         std::strerror(errno));
        }
    }
    const auto most =
        static_cast<std::size_t>(std::min<rlim_t>(limit.rlim_cur, std::numeric_limits<int>::max()));
    first_reserved = static_cast<int>(most - descriptors_to_reserve(most, config.backfill.workers));
    if (const auto problem = too_few_descriptors(most, config); !problem.empty()) {
        spdlog::warn("{}", problem);
    }
}

bool is_reserved_descriptor(int handle) {
    return handle >= first_reserved.load(std::memory_order_relaxed);
}

}  // namespace banyan::proxy
