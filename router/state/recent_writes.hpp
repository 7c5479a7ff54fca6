// When each table was last written, roughly: the beginning of its last commit, by this process. For
// the day a server loses what it had acknowledged shortly before. Thread-safe.
#pragma once

#include <chrono>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "router/state/ledger.hpp"

namespace banyan::router {

class RecentWrites {
   public:
    using Clock = std::chrono::steady_clock;

    void note(const CommitIntent& intent, Clock::time_point now = Clock::now()) {
        const std::lock_guard lock(mutex_);
        TableId last = 0;
        for (const KeyWrite& write : intent.writes) {
            if (write.key.table != last) {  // mostly one table
                last_[last = write.key.table] = now;
            }
        }
        for (const TableWrite& write : intent.tables) {
            last_[write.table] = now;
        }
        for (const SuspectMark& mark : intent.suspects) {
            last_[mark.table] = now;
        }
    }
    /// Table 0, as in a mark, stands for all.
    std::vector<TableId> since(Clock::time_point since) const {
        const std::lock_guard lock(mutex_);
        std::vector<TableId> tables;
        for (const auto& [table, at] : last_) {
            if (at >= since) {
                tables.push_back(table);
            }
        }
        return tables;
    }

   private:
    mutable std::mutex mutex_;
    std::unordered_map<TableId, Clock::time_point> last_;
};

}  // namespace banyan::router
