// The dirty keys in memory: by key for marking and clearing, and per table in the order in which
// repair should try them. No locks: the ledger's mutex guards it.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "router/state/ledger.hpp"

namespace banyan::router {

class DirtyQueue {
   public:
    using Clock = std::chrono::steady_clock;
    using Blocked = std::function<bool(TableId)>;

    /// Makes the key dirty, or dirty again, with a generation above all earlier ones. It may be
    /// tried at once, after the keys that became dirty before it.
    DirtyKey mark(const RowKey& key, std::string reason, std::uint64_t generation);
    /// Forgets the key if it still has this generation.
    bool clear(const RowKey& key, std::uint64_t generation);
    /// One more attempt failed: the key is not ready before `next_try`.
    void postpone(const RowKey& key, Clock::time_point next_try);
    void clear_all();
    /// Forgets every key of the table, after `each` has seen it; returns their number.
    std::size_t clear_table(TableId table, const std::function<void(const RowKey&)>& each);

    /// Up to `max` keys that are ready at `now`, oldest first, of tables not blocked. They stay.
    std::vector<DirtyKey> ready(std::size_t max, Clock::time_point now,
                                const Blocked& blocked) const;
    /// When the first key of a table not blocked is ready; nullopt if there is none.
    std::optional<Clock::time_point> next_ready(const Blocked& blocked) const;

    std::size_t size() const { return entries_.size(); }
    std::size_t size(TableId table) const;
    std::vector<std::pair<TableId, std::uint64_t>> tables() const;
    /// The table with the most keys; 0 if there are none.
    TableId largest() const;
    /// How long the oldest key has been dirty, to the second.
    std::chrono::milliseconds oldest(Clock::time_point now) const;
    std::vector<DirtyKey> sample(std::size_t max) const;

   private:
    struct Entry {
        std::uint64_t generation = 0;
        std::string reason;
        std::uint32_t attempts = 0;
        std::uint32_t since = 0;  ///< when it first became dirty, in seconds of the clock
        Clock::time_point next_try = Clock::time_point::min();
    };
    // Generation breaks ties, so keys that were never postponed come in the order they were marked.
    using Position = std::pair<Clock::time_point, std::uint64_t>;
    using Order = std::map<Position, const RowKey*>;  // pointers to entries_' keys, which stay put

    static DirtyKey to_dirty_key(const RowKey& key, const Entry& entry) {
        return {key, entry.generation, entry.reason, entry.attempts};
    }
    static std::uint32_t seconds(Clock::time_point time) {
        return static_cast<std::uint32_t>(
            std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count());
    }
    void unlink(const RowKey& key, const Entry& entry);
    void forget_since(const Entry& entry);

    std::unordered_map<RowKey, Entry, RowKeyHash> entries_;
    std::unordered_map<TableId, Order> order_;
    std::map<std::uint32_t, std::uint64_t> since_;  // Entry::since: how many keys
};

}  // namespace banyan::router
