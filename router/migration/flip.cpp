// The part of Walk that makes primary and mirror trade places. Everything slow comes before the
// hold; during it only what must be behind the last transaction.
#include <spdlog/spdlog.h>

#include <algorithm>

#include "router/migration/facts.hpp"
#include "router/migration/heartbeat.hpp"
#include "router/migration/walk.hpp"
#include "router/model/mutant.hpp"
#include "router/model/sync_point.hpp"
#include "router/sync/sequences.hpp"

namespace banyan::router {
namespace {

using namespace std::chrono_literals;

constexpr auto settle_limit = 10s;
constexpr auto long_transaction = 50ms;
constexpr auto identity_timeout = 5s;

std::string first_names(const std::vector<ForeignBackend>& backends) {
    std::string text;
    for (const ForeignBackend& it : backends) {
        text += text.empty() ? "" : ", ";
        text += it.prepared ? "prepared transaction " + it.application
                            : "process " + std::to_string(it.process_id) + " (" + it.user + ", " +
                                  it.application + ")";
    }
    return text;
}

}  // namespace

Walk::Outcome Walk::prepare_flip() {
    for (const Side side : {primary_of(from_), mirror_of(from_)}) {
        auto connection = Connection::open(core_.endpoint(side), "banyan-switch");
        if (!connection) {
            return Failure{TransitionState::failed, connection.error().message};
        }
        (side == primary_of(from_) ? primary_ : mirror_).emplace(std::move(*connection));
    }
    if (const Outcome failure = same_servers()) {
        return failure;
    }
    watchdog_ = std::make_unique<Watchdog>(
        active_.deadline, active_.cancelled,
        std::vector<int>{PQsocket(primary_->raw()), PQsocket(mirror_->raw())}, [this] {
            if (core_.directive().hold) {
                core_.publish(from_, false);
            }
        });
    for (Connection* connection : {&*primary_, &*mirror_}) {
        if (auto created = create_heartbeat(*connection); !created) {
            return Failure{TransitionState::failed,
                           "banyan.heartbeat could not be created: " + created.error().message};
        }
    }
    if (const Outcome failure = read_new_catalog()) {
        return failure;
    }
    if (const Outcome failure = advance()) {
        return failure;
    }
    return prove_reverse();
}

// A server that has crashed since the probe's last look may have lost what the ledger takes for done. A
// crash from here on breaks these connections, which the real writes of prove_reverse() go through; and
// their commits bring to the disk all that was committed before.
Walk::Outcome Walk::same_servers() {
    for (const Side side : {primary_of(from_), mirror_of(from_)}) {
        auto& connection = side == primary_of(from_) ? *primary_ : *mirror_;
        const auto change = lineage_.look(side, connection, identity_timeout);
        if (!change || *change != ServerChange::none) {
            return Failure{TransitionState::failed,
                           "The " + std::string(to_string(side)) + " " +
                               (change ? "is not as it was (" + std::string(to_string(*change)) +
                                             "): its tables are verified first."
                                       : "does not answer: " + change.error().message)};
        }
    }
    return std::nullopt;
}

Walk::Outcome Walk::read_new_catalog() {
    present_catalog_ = core_.catalog();
    auto catalog = core_.read_catalog(primary_of(to_));
    if (!catalog) {
        return Failure{TransitionState::failed, catalog.error().message};
    }
    catalog_ = std::move(*catalog);
    for (const auto& table : (present_catalog_ ? present_catalog_ : catalog_)->tables()) {
        const auto there = catalog_->table_by_id(table->id);
        if (table->captured() && (there == nullptr || !there->captured()) && !override_) {
            return Failure{
                TransitionState::failed,
                table->display_name() + " cannot be captured on the new primary: " +
                    (there == nullptr ? "it is not there" : there->not_captured_because) + "."};
        }
    }
    return std::nullopt;
}

// A hold lasts as long as the longest transaction open when it begins; so begin between them.
Walk::Outcome Walk::settle() {
    const auto now = ActiveTransition::Clock::now();
    const auto limit = now + std::min<ActiveTransition::Clock::duration>(
                                 settle_limit, (active_.deadline - now) / 3);
    return wait_until(
        [&](std::string& what) {
            if (ActiveTransition::Clock::now() >= limit) {
                active_.log(Step::settle,
                            "No quiet moment came; holding anyway. There were " + what + ".");
                return true;
            }
            std::int64_t oldest = 0;
            for (const SessionInfo& session : core_.fleet()->sessions()) {
                oldest = std::max(oldest, session.transaction_age_ms);
            }
            const std::uint64_t dirty = core_.ledger.dirty_count();
            what = std::to_string(dirty) + " dirty keys, the oldest transaction " +
                   std::to_string(oldest) + " ms old";
            return dirty == 0 && oldest < long_transaction / 1ms;
        },
        5ms);
}

Walk::Outcome Walk::take_hold() {
    verifier_.interrupt();
    core_.set_flipping(true);
    holding_ = true;
    // From here on no catalogue is installed; one that was meanwhile makes the new one stale.
    if (core_.catalog() != present_catalog_) {
        if (const Outcome failure = read_new_catalog()) {
            return failure;
        }
    }
    core_.fleet()->reset_longest_hold();
    if (watchdog_->expired()) {
        return Failure{active_.cancelled ? TransitionState::aborted : TransitionState::timed_out,
                       "Too late to hold."};
    }
    return publish_hold(false);
}

Walk::Outcome Walk::publish_hold(bool end_blocked) {
    core_.publish(from_, true, end_blocked);
    sync_point(SyncPoint::hold_published);
    // The watchdog may have fired between the look and the hold, and then saw no hold to release.
    if (watchdog_->expired()) {
        core_.publish(from_, false);
        return Failure{active_.cancelled ? TransitionState::aborted : TransitionState::timed_out,
                       "Too late to hold."};
    }
    waits_.clear();
    next_look_ = ActiveTransition::Clock::now() + long_transaction;
    return wait_until(
        [this, end_blocked](std::string& what) {
            const Adoption it = core_.fleet()->adoption();
            what = std::to_string(it.sessions - std::min(it.adopted, it.sessions)) + " of " +
                   std::to_string(it.sessions) +
                   " sessions to reach a boundary (oldest transaction " +
                   std::to_string(it.oldest_transaction.count()) + " ms), " +
                   std::to_string(it.without_mirror) + " without a mirror";
            if (it.adopted < it.sessions && ActiveTransition::Clock::now() >= next_look_) {
                next_look_ = ActiveTransition::Clock::now() + long_transaction;
                if (somebody_waits()) {
                    return true;
                }
            }
            return it.adopted >= it.sessions && (it.blocked > 0 ? !end_blocked : it.without_mirror == 0);
        },
        1ms);
}

bool Walk::drained(std::string& what) const {
    const LedgerStats stats = core_.ledger.stats();
    std::size_t suspects = 0;
    const auto catalog = core_.catalog();
    for (const SuspectTable& suspect : core_.ledger.suspects()) {
        const auto table = catalog ? catalog->table_by_id(suspect.table) : nullptr;
        // An override accepts tables that can never be verified; nothing else.
        const bool accepted = override_ && table != nullptr && !table->captured();
        suspects += accepted ? 0U : 1U;
    }
    what = std::to_string(stats.in_flight) + " commits in flight, " + std::to_string(stats.limbo) +
           " of unknown outcome, " + std::to_string(stats.dirty) + " dirty keys, " +
           std::to_string(suspects) + " suspect tables";
    return stats.in_flight == 0 && stats.limbo == 0 && stats.dirty == 0 && suspects == 0;
}

Walk::Outcome Walk::drain() {
    if (core_.directive().phase != from_ || !core_.directive().hold) {
        return Failure{TransitionState::timed_out, "The hold was released."};
    }
    if (mutant("drained_before_admission_closed")) {
        return std::nullopt;
    }
    if (Outcome failure = wait_until([this](std::string& what) { return drained(what); }, 1ms)) {
        return failure;
    }
    // Nobody can dirty a key now; the pause only keeps repair's next look off the old primary.
    workers_.pause_repair();
    return wait_until([this](std::string& what) { return drained(what); }, 1ms);
}

Walk::Outcome Walk::check_writers() {
    Result<std::vector<ForeignBackend>> foreign = std::vector<ForeignBackend>();
    std::vector<ForeignBackend> writers;
    // Clients are held, so this is short; but a session of ours that has just ended, perhaps by
    // ask_sessions(), leaves a backend that takes a moment to be gone.
    constexpr auto most_looks = 10;
    for (int look = 0; look < most_looks; ++look) {
        foreign = foreign_backends(*primary_, core_.fleet()->backends(primary_of(from_)));
        if (!foreign) {
            return Failure{TransitionState::failed,
                           "Writers could not be looked for: " + foreign.error().message};
        }
        writers.clear();
        std::copy_if(foreign->begin(), foreign->end(), std::back_inserter(writers),
                     [](const ForeignBackend& it) { return it.writing || it.prepared; });
        if (writers.empty() || override_) {
            break;
        }
        std::this_thread::sleep_for(50ms);
    }
    if (writers.empty()) {
        if (!foreign->empty()) {
            active_.log(Step::check_writers,
                        "Connections that bypass Banyan, none writing: " + first_names(*foreign));
        }
        return std::nullopt;
    }
    const std::string who = "Writers on the primary that bypass Banyan: " + first_names(writers);
    if (!override_) {
        return Failure{TransitionState::failed, who};
    }
    active_.log(Step::check_writers, who + " (overridden)");
    return std::nullopt;
}

Walk::Outcome Walk::advance() {
    if (mutant("sequences_not_advanced")) {
        return std::nullopt;
    }
    auto advanced = advance_sequences(*primary_, *mirror_, core_.config.latest()->switchover.sequence_margin,
                                      present_catalog_ ? present_catalog_->sequence_twins
                                                       : std::map<std::string, std::string>());
    if (!advanced) {
        return Failure{TransitionState::failed,
                       "Sequences could not be advanced: " + advanced.error().message};
    }
    active_.log(Step::advance_sequences, std::to_string(advanced->size()) + " sequences advanced");
    return std::nullopt;
}

Walk::Outcome Walk::prove_reverse() {
    // First the database about to be the primary: it is the one that must take writes.
    for (Connection* connection : {&*mirror_, &*primary_}) {
        if (auto written = write_heartbeat(*connection, id_); !written) {
            return Failure{TransitionState::failed,
                           "A real write failed: " + written.error().message};
        }
    }
    return std::nullopt;
}

void Walk::end_hold() {
    holding_ = false;
    workers_.resume_repair();
    core_.set_flipping(false);
    verifier_.resume();
    workers_.request_reload();  // DDL during the flip could not be taken up
}

}  // namespace banyan::router
