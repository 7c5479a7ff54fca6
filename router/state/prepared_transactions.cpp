#include "router/state/prepared_transactions.hpp"

namespace banyan::router {

void PreparedTransactions::remember(const std::string& gid, Changes changes) {
    forget(gid);
    const std::lock_guard lock(mutex_);
    entries_[gid] = {std::move(changes), next_};
    by_age_[next_++] = gid;
    if (entries_.size() > max_names) {
        entries_.erase(by_age_.begin()->second);
        by_age_.erase(by_age_.begin());
    }
}

std::optional<PreparedTransactions::Changes> PreparedTransactions::find(
    const std::string& gid) const {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(gid);
    return found == entries_.end() ? std::nullopt : std::optional(found->second.changes);
}

void PreparedTransactions::forget(const std::string& gid) {
    const std::lock_guard lock(mutex_);
    if (const auto found = entries_.find(gid); found != entries_.end()) {
        by_age_.erase(found->second.number);
        entries_.erase(found);
    }
}

void PreparedTransactions::clear() {
    const std::lock_guard lock(mutex_);
    entries_.clear();
    by_age_.clear();
}

}  // namespace banyan::router
