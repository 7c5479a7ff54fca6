#include "router/migration/lineage_watch.hpp"

#include <spdlog/spdlog.h>

#include "router/migration/clock.hpp"
#include "router/pg/answer.hpp"
#include "router/pg/lifelines.hpp"

namespace banyan::router {
namespace {

using namespace std::chrono_literals;

// A commit under synchronous_commit = off is on disk after at most three times wal_writer_delay,
// which is at most 10 s; what was acknowledged longer before the server was last seen alive is
// safe.
constexpr auto loss_margin = 60s;
// The flushed position is for telling an older copy of the disk after Banyan was away: coarse is
// enough.
constexpr auto store_interval = 10s;

std::string setting_of(Side side) {
    return "identity_" + std::string(to_string(side));
}

}  // namespace

LineageWatch::LineageWatch(Core& core, std::function<std::int64_t()> backfill_done_unix_ms)
    : core_(core), backfill_done_unix_ms_(std::move(backfill_done_unix_ms)) {
    for (const Side side : {Side::source, Side::target}) {
        sides_.at(static_cast<std::size_t>(side)).known =
            decode_identity(core.store.setting(setting_of(side)));
    }
}

Result<ServerChange> LineageWatch::look(Side side, Connection& connection,
                                        std::chrono::milliseconds timeout) {
    Watched& watched = sides_.at(static_cast<std::size_t>(side));
    const std::lock_guard asking(watched.asking);
    auto rows = exec_within(connection, identity_sql, timeout);
    if (!rows) {
        if (rows.error().sqlstate.empty() || rows.error().sqlstate == no_answer) {
            return rows.error();
        }
        // It is there, and will not say who it is: as before.
        spdlog::debug("the {}'s identity cannot be read: {}", to_string(side),
                      rows.error().message);
        return ServerChange::none;
    }
    const ServerIdentity now = read_identity(*rows);
    ServerChange what = ServerChange::none;
    std::optional<Clock::time_point> seen;
    {
        const std::lock_guard lock(mutex_);
        watched.view.identity = now;
        if (now.in_recovery) {
            return what;
        }
        what = watched.known ? change(*watched.known, now) : ServerChange::none;
        seen = watched.seen;
    }
    if (what != ServerChange::none) {
        changed(side, what, seen);
    }
    const std::lock_guard lock(mutex_);
    watched.seen = Clock::now();
    const bool first = !watched.known;
    watched.known = now;
    if (what != ServerChange::none) {
        watched.view.last_change = what;
        watched.view.changed_unix_ms = unix_ms();
        ++watched.view.changes.at(static_cast<std::size_t>(what));
    }
    if (first || what != ServerChange::none || Clock::now() - watched.stored > store_interval) {
        store(side, watched);
    }
    return what;
}

// Behind the suspicions in the state database's queue: a crash in between repeats the change.
void LineageWatch::store(Side side, Watched& watched) {
    if (core_.store.set_setting(setting_of(side), encode(*watched.known))) {
        watched.stored = Clock::now();
    }
}

std::vector<SuspectMark> LineageWatch::doubts(Side side, ServerChange what,
                                              std::optional<Clock::time_point> seen) const {
    const Phase phase = core_.phase();
    if (!mirrors(phase)) {
        return {};
    }
    const std::string reason = std::string(side == primary_of(phase) ? "primary_" : "mirror_") +
                               std::string(to_string(what));
    if (what != ServerChange::restarted || !seen) {
        return {{0, reason}};
    }
    const auto since = *seen - loss_margin;
    const auto since_unix_ms =
        unix_ms() -
        std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - since).count();
    // What the backfill has brought is in no journal, nor what was written before mirroring began
    // or by the process before this one.
    if (backfill_done_unix_ms_() > since_unix_ms || backfill_done_unix_ms_() == 0 ||
        core_.started_unix_ms > since_unix_ms) {
        return {{0, reason}};
    }
    Fleet* fleet = core_.fleet();
    if (fleet == nullptr) {
        return {{0, reason}};
    }
    std::vector<SuspectMark> marks;
    for (const TableId table : fleet->written_since(since)) {
        marks.push_back({table, reason});
    }
    return marks;
}

void LineageWatch::changed(Side side, ServerChange what, std::optional<Clock::time_point> seen) {
    const auto marks = doubts(side, what, seen);
    if (!marks.empty()) {
        core_.ledger.mark_suspect(marks);
    }
    const std::string doubted = marks.empty() ? "no table is"
                                : marks.front().table == 0
                                    ? "every mirrored table is"
                                    : std::to_string(marks.size()) + " tables are";
    if (what == ServerChange::restarted) {
        spdlog::warn("the {} was restarted: {} suspect", to_string(side), doubted);
        return;
    }
    spdlog::error("the server behind the {}'s address is not what it was ({}): {} suspect",
                  to_string(side), to_string(what), doubted);
    // The former server may live on, unreachable for new connections only.
    Lifelines::all().cut(core_.endpoint(side).host, core_.endpoint(side).port);
    if (Fleet* fleet = core_.fleet()) {
        fleet->server_replaced(side);
    }
}

LineageWatch::View LineageWatch::view(Side side) const {
    const std::lock_guard lock(mutex_);
    return sides_.at(static_cast<std::size_t>(side)).view;
}

}  // namespace banyan::router
