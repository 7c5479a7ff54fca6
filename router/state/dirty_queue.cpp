#include "router/state/dirty_queue.hpp"

#include <algorithm>

#include "router/model/mutant.hpp"

namespace banyan::router {

DirtyKey DirtyQueue::mark(const RowKey& key, std::string reason, std::uint64_t generation) {
    const auto [found, added] = entries_.try_emplace(key);
    Entry& entry = found->second;
    if (!added) {
        unlink(key, entry);
    } else {
        entry.since = seconds(Clock::now());
        ++since_[entry.since];
    }
    entry.generation = generation;
    entry.reason = std::move(reason);
    entry.next_try = Clock::time_point::min();
    order_[key.table].emplace(Position{entry.next_try, generation}, &found->first);
    return to_dirty_key(found->first, entry);
}

bool DirtyQueue::clear(const RowKey& key, std::uint64_t generation) {
    const auto found = entries_.find(key);
    if (found == entries_.end() || (found->second.generation != generation &&
                                    !mutant("dirty_cleared_without_generation"))) {
        return false;
    }
    unlink(found->first, found->second);
    forget_since(found->second);
    entries_.erase(found);
    return true;
}

void DirtyQueue::postpone(const RowKey& key, Clock::time_point next_try) {
    const auto found = entries_.find(key);
    if (found == entries_.end()) {
        return;
    }
    Entry& entry = found->second;
    unlink(found->first, entry);
    ++entry.attempts;
    entry.next_try = next_try;
    order_[key.table].emplace(Position{next_try, entry.generation}, &found->first);
}

void DirtyQueue::clear_all() {
    order_.clear();
    entries_.clear();
    since_.clear();
}

std::size_t DirtyQueue::clear_table(TableId table, const std::function<void(const RowKey&)>& each) {
    const auto order = order_.find(table);
    if (order == order_.end()) {
        return 0;
    }
    const std::size_t keys = order->second.size();
    for (const auto& [position, key] : order->second) {
        each(*key);
        const auto entry = entries_.find(*key);
        forget_since(entry->second);
        entries_.erase(entry);
    }
    order_.erase(order);
    return keys;
}

std::vector<DirtyKey> DirtyQueue::ready(std::size_t max, Clock::time_point now,
                                        const Blocked& blocked) const {
    std::vector<std::pair<Order::const_iterator, Order::const_iterator>> heads;
    for (const auto& [table, order] : order_) {
        if (!blocked(table)) {
            heads.emplace_back(order.begin(), order.end());
        }
    }
    std::vector<DirtyKey> keys;
    while (keys.size() < max) {
        auto first = heads.end();
        for (auto head = heads.begin(); head != heads.end(); ++head) {
            if (head->first != head->second &&
                (first == heads.end() || head->first->first < first->first->first)) {
                first = head;
            }
        }
        if (first == heads.end() || first->first->first.first > now) {
            break;
        }
        const RowKey& key = *first->first->second;
        keys.push_back(to_dirty_key(key, entries_.at(key)));
        ++first->first;
    }
    return keys;
}

std::optional<DirtyQueue::Clock::time_point> DirtyQueue::next_ready(const Blocked& blocked) const {
    std::optional<Clock::time_point> next;
    for (const auto& [table, order] : order_) {
        if (!blocked(table) && (!next || order.begin()->first.first < *next)) {
            next = order.begin()->first.first;
        }
    }
    return next;
}

std::size_t DirtyQueue::size(TableId table) const {
    const auto found = order_.find(table);
    return found == order_.end() ? 0 : found->second.size();
}

std::vector<std::pair<TableId, std::uint64_t>> DirtyQueue::tables() const {
    std::vector<std::pair<TableId, std::uint64_t>> tables;
    for (const auto& [table, order] : order_) {
        tables.emplace_back(table, order.size());
    }
    std::sort(tables.begin(), tables.end());
    return tables;
}

TableId DirtyQueue::largest() const {
    const auto largest =
        std::max_element(order_.begin(), order_.end(), [](const auto& a, const auto& b) {
            return a.second.size() < b.second.size();
        });
    return largest == order_.end() ? 0 : largest->first;
}

std::chrono::milliseconds DirtyQueue::oldest(Clock::time_point now) const {
    return since_.empty() ? std::chrono::milliseconds(0)
                          : std::chrono::seconds(seconds(now) - since_.begin()->first);
}

std::vector<DirtyKey> DirtyQueue::sample(std::size_t max) const {
    std::vector<DirtyKey> keys;
    for (auto entry = entries_.begin(); entry != entries_.end() && keys.size() < max; ++entry) {
        keys.push_back(to_dirty_key(entry->first, entry->second));
    }
    return keys;
}

void DirtyQueue::forget_since(const Entry& entry) {
    if (const auto found = since_.find(entry.since); --found->second == 0) {
        since_.erase(found);
    }
}

void DirtyQueue::unlink(const RowKey& key, const Entry& entry) {
    const auto order = order_.find(key.table);
    order->second.erase({entry.next_try, entry.generation});
    if (order->second.empty()) {
        order_.erase(order);
    }
}

}  // namespace banyan::router
