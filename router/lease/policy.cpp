#include "router/lease/policy.hpp"

#include <algorithm>

namespace banyan::router {
namespace {

constexpr const char* way_out =
    "if that Banyan and its state directory are lost, start this one with --seize-lease";

std::string who(const LeaseRow& row) {
    return "holder " + row.holder + ", process " + std::to_string(row.process_id) + " on host " +
           row.host + ", started " + row.started_at + ", lease renewed " +
           std::to_string(row.age_ms) + " ms ago at " + row.renewed_at + ", phase " +
           std::string(to_string(row.phase));
}

const LeaseView& view(const LeaseViews& views, Side side) {
    return views.at(static_cast<std::size_t>(side));
}

std::string unanswered(const LeaseViews& views) {
    for (const Side side : {Side::source, Side::target}) {
        if (!view(views, side).reachable) {
            return "the " + std::string(to_string(side)) + " does not answer (" +
                   view(views, side).error + ")";
        }
    }
    return "";
}

LeaseDecision refuse(std::string why) {
    return {LeaseDecision::Action::refuse, std::move(why), "", 0, Phase::initial, 0};
}

/// The side whose row tells the phase; nullptr: the rows that can be seen do not.
const LeaseRow* truth(const LeaseViews& views) {
    const LeaseRow* newest = nullptr;
    for (const auto& it : views) {
        if (it.row && (newest == nullptr || it.row->phase_epoch > newest->phase_epoch)) {
            newest = &*it.row;
        }
    }
    const bool both_seen = views[0].reachable && views[1].reachable;
    // A flip is recorded on the primary that gives way before anybody may write to the new one. So a
    // side that says it is the primary is right, and one that says the other is may be out of date.
    return newest != nullptr && (both_seen || primary_of(newest->phase) == newest->side) ? newest
                                                                                         : nullptr;
}

}  // namespace

Standing standing(const LeaseOwner& own, Side side, const LeaseRow& row) {
    if (row.side != side) {
        return Standing::wrong_side;
    }
    if (row.holder != own.holder) {
        if (row.live()) {
            return Standing::foreign_live;
        }
        return row.phase == Phase::initial ? Standing::nothing : Standing::foreign;
    }
    if (row.epoch > own.epoch || row.phase_epoch > own.phase_epoch) {
        return Standing::state_behind;
    }
    return row.lock == own.lock || !row.live() ? Standing::ours : Standing::ours_live;
}

std::string describe(Standing standing, const LeaseOwner& own, Side side, const LeaseRow& row) {
    const std::string where = "the " + std::string(to_string(side)) + " database ";
    switch (standing) {
        case Standing::ours:
        case Standing::nothing:
            return "";
        case Standing::ours_live:
            return where +
                   "says that a Banyan with a copy of this state directory is in charge of the "
                   "migration (" +
                   who(row) + "); stop that one first";
        case Standing::state_behind:
            return where + "records a later state of this migration (phase change " +
                   std::to_string(row.phase_epoch) + ", lease epoch " + std::to_string(row.epoch) +
                   ", phase " + std::string(to_string(row.phase)) +
                   ") than this state directory knows (phase change " +
                   std::to_string(own.phase_epoch) + ", lease epoch " + std::to_string(own.epoch) +
                   ", phase " + std::string(to_string(own.phase)) +
                   "): it is an old copy; start with the newest one, or " + way_out;
        case Standing::foreign:
            return where + "records a migration that this state directory knows nothing of (" +
                   who(row) + "); start Banyan with the state directory of that holder, or, " +
                   way_out +
                   (row.phase == Phase::complete
                        ? "; if that migration is over, DROP TABLE banyan.lease in both databases"
                        : "");
        case Standing::foreign_live:
            return where + "says that another Banyan is in charge of this migration (" + who(row) +
                   "); stop that one first; " + way_out;
        case Standing::wrong_side:
            return where + "says that it is the " + std::string(to_string(row.side)) +
                   " of a migration (" + who(row) +
                   "): [source] and [target] are swapped; or, if that migration is over, DROP TABLE "
                   "banyan.lease there";
    }
    return "";
}

LeaseDecision decide_start(const LeaseOwner& own, const LeaseViews& views) {
    LeaseDecision decision;
    Standing worst = Standing::ours;
    for (const Side side : {primary_of(own.phase), other(primary_of(own.phase))}) {
        const auto& row = view(views, side).row;
        if (!row) {
            continue;
        }
        const Standing it = standing(own, side, *row);
        if (it == Standing::nothing || it <= worst) {
            continue;
        }
        worst = it;
        decision.why = describe(it, own, side, *row);
        decision.action = it == Standing::ours_live ? LeaseDecision::Action::wait
                                                    : LeaseDecision::Action::refuse;
    }
    return decision;
}

LeaseDecision decide_seize(const LeaseOwner& own, const LeaseViews& views,
                           const std::string& even_from) {
    if (!views[0].row && !views[1].row) {
        const std::string away = unanswered(views);
        return refuse(away.empty() ? "there is no lease to seize: the databases record no "
                                     "migration; start without --seize-lease"
                                   : "whether there is a lease to seize is not known: " + away);
    }
    for (const Side side : {Side::source, Side::target}) {
        const auto& row = view(views, side).row;
        if (row && row->side != side) {
            return refuse(describe(Standing::wrong_side, own, side, *row));
        }
    }
    if (views[0].row && views[1].row && views[0].row->migration != views[1].row->migration) {
        return refuse(
            "the two databases record different migrations (" + views[0].row->migration + " and " +
            views[1].row->migration +
            "): DROP TABLE banyan.lease in the one that does not belong to the other");
    }
    const LeaseRow* newest = truth(views);
    if (newest == nullptr) {
        return refuse("the phase cannot be known: " + unanswered(views) +
                      ", and the other database says that it is not the primary");
    }
    if (newest->phase == Phase::initial) {
        return refuse(
            "the databases record phase INITIAL: there is nothing to take over; start without "
            "--seize-lease");
    }
    for (const Side side : {Side::source, Side::target}) {
        const auto& row = view(views, side).row;
        if (!row) {
            continue;
        }
        if (!even_from.empty() && row->holder != even_from) {
            return refuse("the holder is not " + even_from + " but: " + who(*row));
        }
        if (even_from.empty() && row->live()) {
            return {LeaseDecision::Action::wait,
                    "the lease is live (" + who(*row) +
                        "); stop that Banyan first; if it cannot be stopped and must lose the "
                        "migration: --seize-lease=" +
                        row->holder,
                    "",
                    0,
                    Phase::initial,
                    0};
        }
    }
    return {LeaseDecision::Action::go, "", newest->migration, next_epoch(own, views),
            newest->phase,
            std::max(own.phase_epoch, newest->phase_epoch) + 1};
}

bool renewed_between(const LeaseViews& before, const LeaseViews& now) {
    for (std::size_t i = 0; i < before.size(); ++i) {
        if (before[i].row && now[i].row &&
            (before[i].row->renewed_at != now[i].row->renewed_at ||
             before[i].row->epoch != now[i].row->epoch)) {
            return true;
        }
    }
    return false;
}

std::int64_t next_epoch(const LeaseOwner& own, const LeaseViews& views) {
    std::int64_t highest = own.epoch;
    for (const auto& it : views) {
        highest = std::max(highest, it.row ? it.row->epoch : 0);
    }
    return highest + 1;
}

void LeaseValidity::phase(Phase phase, std::int64_t phase_epoch, bool fence) {
    primary_ = primary_of(phase);
    if (fence) {
        required_ = phase_epoch;
    }
}

void LeaseValidity::confirmed(Side side, std::int64_t phase_epoch, std::int64_t sent_at_ns) {
    auto& it = sides_.at(static_cast<std::size_t>(side));
    it.phase_epoch = phase_epoch;
    it.at_ns = std::max(it.at_ns, sent_at_ns);
}

void LeaseValidity::forget() {
    sides_ = {};
}

std::int64_t LeaseValidity::valid_until_ns() const {
    const auto& it = sides_.at(static_cast<std::size_t>(primary_));
    // A tenth is left for clocks that do not run alike.
    return it.phase_epoch >= required_ && it.at_ns > 0 ? it.at_ns + ttl_.count() / 10 * 9 : 0;
}

}  // namespace banyan::router
