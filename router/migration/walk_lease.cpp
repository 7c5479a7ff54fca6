// The part of Walk that keeps the leases in the databases true (router/lease/README.md).
#include <spdlog/spdlog.h>

#include <thread>

#include "router/migration/enter.hpp"
#include "router/migration/walk.hpp"
#include "router/model/mutant.hpp"

namespace banyan::router {

using namespace std::chrono_literals;

// INITIAL is left, and the databases learn of the migration before the first write is mirrored.
Walk::Outcome Walk::acquire_lease() {
    if (core_.lease() == nullptr) {
        return std::nullopt;
    }
    const LeaseOwner own = core_.lease()->owner();
    const LeaseViews views = Lease::look(core_.config);
    if (const LeaseDecision decision = decide_start(own, views);
        decision.action != LeaseDecision::Action::go) {
        return Failure{TransitionState::failed, "The lease: " + decision.why + "."};
    }
    const std::string migration = random_id();
    const std::int64_t epoch = next_epoch(own, views);
    if (!core_.store.set_setting(lease_migration_setting, migration) ||
        !core_.store.set_setting(lease_epoch_setting, std::to_string(epoch))) {
        return Failure{TransitionState::failed, "The state database could not be written."};
    }
    if (auto begun = core_.lease()->begin(migration, epoch, own.phase_epoch); !begun) {
        return Failure{TransitionState::failed, begun.error().message};
    }
    active_.log(Step::load_catalog, "The lease was acquired on both sides, epoch " +
                                        std::to_string(epoch) + ".");
    return std::nullopt;
}

// Persisted and not yet published: every session is held. The primary that gives way says so before
// the other one may say that it is the primary, so that no one who reads either is led to write to
// both. If it cannot, nothing has happened yet and the flip is taken back.
Walk::Outcome Walk::record_flip() {
    if (core_.lease() == nullptr || mutant("flip_not_recorded")) {
        return std::nullopt;
    }
    for (;;) {
        const auto gave_way = core_.lease()->record(*primary_, primary_of(from_));
        if (gave_way) {
            break;
        }
        const std::string why =
            "The flip could not be recorded on the " + std::string(to_string(primary_of(from_))) +
            ": " + gave_way.error().message;
        if (take_back(why)) {
            return Failure{TransitionState::failed, why};
        }
        if (active_.stopping || core_.lost()) {
            return Failure{TransitionState::failed, why};
        }
        std::this_thread::sleep_for(100ms);
    }
    // From here on only forward: the lease's own thread goes on trying, and no commit goes before.
    if (const auto took_over = core_.lease()->record(*mirror_, primary_of(to_)); !took_over) {
        active_.log(Step::persist, "The new primary's lease is not recorded yet: " +
                                       took_over.error().message);
    }
    return std::nullopt;
}

bool Walk::take_back(const std::string& why) {
    if (!core_.persist_phase(to_, from_, "undone: " + why, id_,
                             flips(from_, to_) ? Lease::Change::undone : Lease::Change::plain)) {
        return false;
    }
    persisted_ = false;
    return true;
}

}  // namespace banyan::router
