// Keeps watch over which server stands behind each of the two addresses, across restarts of Banyan
// too, and draws the consequences when it is not the one of the last look (lineage.hpp): the
// mirrored tables that may differ now become suspect, and where it is another server altogether,
// whoever still talks to the former one must stop. router/migration/README.md has the cases.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <mutex>
#include <optional>

#include "router/migration/core.hpp"
#include "router/migration/lineage.hpp"

namespace banyan::router {

class LineageWatch {
   public:
    struct View {
        std::optional<ServerIdentity> identity;  ///< as last seen; nullopt: never, or not readable
        ServerChange last_change = ServerChange::none;
        std::int64_t changed_unix_ms = 0;
        std::array<std::uint64_t, 5> changes{};  ///< by ServerChange, since Banyan started
    };

    /// `backfill_done_unix_ms`: 0 if it has not ended.
    LineageWatch(Core& core, std::function<std::int64_t()> backfill_done_unix_ms);

    /// Asks the server behind `connection`. On return the suspicions that a change entails are on
    /// their way to the disk, before everything that is written later. An Error: no answer.
    /// Thread-safe.
    Result<ServerChange> look(Side side, Connection& connection, std::chrono::milliseconds timeout);
    View view(Side side) const;

   private:
    using Clock = std::chrono::steady_clock;
    struct Watched {
        std::mutex asking;  ///< held over the question, so that positions are compared in order
        View view;
        std::optional<ServerIdentity> known;    ///< the last one that was not in recovery
        std::optional<Clock::time_point> seen;  ///< when, by this process
        Clock::time_point stored;
    };

    void changed(Side side, ServerChange what, std::optional<Clock::time_point> seen);
    std::vector<SuspectMark> doubts(Side side, ServerChange what,
                                    std::optional<Clock::time_point> seen) const;
    void store(Side side, Watched& watched);

    Core& core_;
    const std::function<std::int64_t()> backfill_done_unix_ms_;
    mutable std::mutex mutex_;  ///< guards the Watched but for `asking`
    std::array<Watched, 2> sides_;
};

}  // namespace banyan::router
