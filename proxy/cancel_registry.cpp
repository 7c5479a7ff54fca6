#include <algorithm>

#include "proxy/context.hpp"
#include "proxy/session.hpp"

namespace banyan::proxy {

void CancelRegistry::add(std::uint32_t process_id, std::uint32_t key, Target target) {
    const std::lock_guard lock(mutex_);
    targets_.emplace(process_id, Entry{key, std::move(target)});
}

void CancelRegistry::remove(std::uint32_t process_id, std::uint32_t key) {
    const std::lock_guard lock(mutex_);
    const auto [first, last] = targets_.equal_range(process_id);
    const auto found = std::find_if(first, last,
                                    [&](const auto& each) { return each.second.key == key; });
    if (found != last) {
        targets_.erase(found);
    }
}

CancelRegistry::Target CancelRegistry::find(std::uint32_t process_id, std::uint32_t key) const {
    const std::lock_guard lock(mutex_);
    Target target;
    const auto [first, last] = targets_.equal_range(process_id);
    for (auto each = first; each != last; ++each) {
        // One comparison of one word: how long it takes says nothing of the key.
        if ((each->second.key ^ key) == 0) {
            target = each->second.target;
        }
    }
    return target;
}

}  // namespace banyan::proxy
