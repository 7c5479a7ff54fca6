// What the transactions of a two-phase commit will change on the primary, from PREPARE TRANSACTION
// to COMMIT PREPARED, which may come from another session. In memory: after a restart a name is
// unknown, and whoever commits it must take every table for changed. Thread-safe.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "router/state/ledger.hpp"

namespace banyan::router {

class PreparedTransactions {
   public:
    struct Changes {
        std::vector<SuspectMark> marks;
        bool catalog = false;  ///< DDL is among them
    };

    /// Replaces what was known of that name. The oldest names fall beyond `max_names`.
    void remember(const std::string& gid, Changes changes);
    /// nullopt: nothing is known of it.
    std::optional<Changes> find(const std::string& gid) const;
    void forget(const std::string& gid);
    /// When the primary changes, or mirroring begins or ends: names may mean other transactions.
    void clear();

    static constexpr std::size_t max_names = 10'000;

   private:
    struct Entry {
        Changes changes;
        std::uint64_t number = 0;
    };

    mutable std::mutex mutex_;
    std::map<std::string, Entry> entries_;
    std::map<std::uint64_t, std::string> by_age_;
    std::uint64_t next_ = 0;
};

}  // namespace banyan::router
