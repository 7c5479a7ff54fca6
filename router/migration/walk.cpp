#include "router/migration/walk.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <thread>

#include "router/model/sync_point.hpp"

namespace banyan::router {

using namespace std::chrono_literals;

namespace {

void sync_point_after(Step step) {
    switch (step) {
        case Step::load_catalog:
            return sync_point(SyncPoint::catalog_loaded);
        case Step::hold:
            return sync_point(SyncPoint::held);
        case Step::drain:
            return sync_point(SyncPoint::drained);
        case Step::advance_sequences:
            return sync_point(SyncPoint::sequences_advanced);
        case Step::persist:
            return sync_point(SyncPoint::persisted);
        case Step::publish:
            return sync_point(SyncPoint::published);
        case Step::adopt:
            return sync_point(SyncPoint::adopted);
        case Step::start_workers:
            return sync_point(SyncPoint::workers_started);
        case Step::check_gates:
        case Step::prepare_flip:
        case Step::ask_sessions:
        case Step::settle:
        case Step::check_writers:
        case Step::prove_reverse:
        case Step::stop_workers:
            return;
    }
}

}  // namespace

Walk::Walk(Core& core, Workers& workers, Verifier& verifier, LineageWatch& lineage,
           ActiveTransition& active)
    : core_(core),
      workers_(workers),
      verifier_(verifier),
      lineage_(lineage),
      active_(active),
      from_(active.copy().from),
      to_(active.copy().to),
      id_(active.copy().id()),
      override_(active.copy().override_gates),
      on_blocked_(active.copy().on_blocked),
      patience_end_(
          patience_end(on_blocked_, ActiveTransition::Clock::now(), active.deadline)) {}

void Walk::run() {
    const std::vector<Step> plan = plan_of(from_, to_);
    for (std::size_t i = 0; i < plan.size(); ++i) {
        const Step step = plan[i];
        active_.update([&](Transition& it) {
            it.state = state_during(step);
            it.steps[i].state = "running";
            it.waiting_for.clear();
        });
        const Outcome failure = perform(step);
        if (!failure) {
            sync_point_after(step);
        }
        active_.update([&](Transition& it) {
            it.steps[i].state = failure ? "failed" : "done";
            it.waiting_for.clear();
            it.cancellable = !only_forward();
            for (std::size_t rest = i + 1; failure && rest < it.steps.size(); ++rest) {
                it.steps[rest].state = "skipped";
            }
        });
        if (failure && active_.stopping) {
            return;  // the next start finds it unfinished
        }
        if (failure) {
            active_.log(step, failure->why);
            undo(*failure);
            return;
        }
    }
    finish(TransitionState::done, "");
}

Walk::Outcome Walk::perform(Step step) {
    if (const Outcome stop = interrupted()) {
        return stop;
    }
    switch (step) {
        case Step::check_gates:
            return before_hook();
        case Step::load_catalog:
            return load_catalog();
        case Step::prepare_flip:
            return prepare_flip();
        case Step::ask_sessions:
            return ask_sessions();
        case Step::settle:
            return settle();
        case Step::hold:
            return hold();
        case Step::drain:
            return drain();
        case Step::check_writers:
            return check_writers();
        case Step::advance_sequences:
            return advance();
        case Step::prove_reverse:
            return prove_reverse();
        case Step::persist:
            return persist();
        case Step::publish:
            return publish();
        case Step::adopt:
            return adopt();
        case Step::start_workers:
            return start_workers();
        case Step::stop_workers:
            return stop_workers();
    }
    return Failure{TransitionState::failed, "unknown step"};
}

Walk::Outcome Walk::interrupted() const {
    if (active_.stopping) {
        return Failure{TransitionState::failed, "Banyan is ending."};
    }
    if (core_.lost()) {
        return Failure{TransitionState::failed, "Another Banyan has taken the migration over."};
    }
    if (only_forward()) {
        return std::nullopt;
    }
    if (active_.cancelled) {
        return Failure{TransitionState::aborted, "Cancelled."};
    }
    if (ActiveTransition::Clock::now() >= active_.deadline) {
        return Failure{TransitionState::timed_out, "The deadline has passed."};
    }
    return std::nullopt;
}

Walk::Outcome Walk::wait_until(const std::function<bool(std::string&)>& ready,
                               std::chrono::milliseconds interval) {
    std::string what;
    bool late = false;
    while (!ready(what)) {
        active_.waiting_for(what);
        if (Outcome stop = interrupted()) {
            stop->why += " It was waiting for " + what + ".";
            return stop;
        }
        if (!late && ActiveTransition::Clock::now() >= active_.deadline) {
            late = true;
            active_.log(Step::adopt,
                        "The deadline has passed, but the phase is persisted: still waiting for " +
                            what + ".");
        }
        std::this_thread::sleep_for(interval);
    }
    return std::nullopt;
}

Walk::Outcome Walk::load_catalog() {
    if (auto reset = workers_.forget_backfill(); !reset) {
        return Failure{TransitionState::failed,
                       "Earlier progress could not be forgotten: " + reset.error().message};
    }
    verifier_.forget();
    auto catalog = core_.read_catalog(primary_of(to_));
    if (!catalog) {
        return Failure{TransitionState::failed, catalog.error().message};
    }
    catalog_ = std::move(*catalog);
    active_.log(Step::load_catalog, std::to_string(catalog_->tables().size()) + " tables");
    return acquire_lease();
}

Walk::Outcome Walk::persist() {
    sync_point(SyncPoint::before_persist);
    // Whoever is first, this or the watchdog, decides whether the flip happens.
    if (watchdog_ && !watchdog_->commit()) {
        return Failure{active_.cancelled ? TransitionState::aborted : TransitionState::timed_out,
                       "The deadline or a cancel came just before the flip."};
    }
    const bool flip = flips(from_, to_);
    if (!core_.persist_phase(from_, to_, active_.copy().reason, id_,
                             flip ? Lease::Change::flip : Lease::Change::plain)) {
        return Failure{TransitionState::failed,
                       "The state database could not be written; the phase is unchanged."};
    }
    persisted_ = true;
    return flip ? record_flip() : std::nullopt;
}

Walk::Outcome Walk::publish() {
    if (catalog_) {
        core_.install_catalog(catalog_);
    }
    if (catalog_ && flips(from_, to_)) {
        mark_mapped_tables();
    }
    published_ = true;
    if (!mirrors(from_) && mirrors(to_)) {
        core_.ledger.begin_settling();  // the backfill ends it, at its start barrier
    }
    core_.publish(to_, false);
    if (holding_) {
        end_hold();
    }
    return std::nullopt;
}

// Reverse of forward is not always forward of reverse: what a mapping that computes makes of the rows
// is compared anew in the new direction.
void Walk::mark_mapped_tables() {
    std::vector<SuspectMark> marks;
    for (const auto& table : catalog_->tables()) {
        if (table->captured() && table->mapped() && !table->mapping->plain) {
            marks.push_back({table->id, "mapping turned round"});
        }
    }
    if (!marks.empty()) {
        core_.ledger.mark_suspect(marks);
    }
}

Walk::Outcome Walk::adopt() {
    Outcome failure = wait_until(
        [this](std::string& what) {
            const Adoption it = core_.fleet()->adoption();
            what = std::to_string(it.sessions - std::min(it.adopted, it.sessions)) + " of " +
                   std::to_string(it.sessions) + " sessions; the oldest transaction is " +
                   std::to_string(it.oldest_transaction.count()) + " ms old";
            return it.adopted >= it.sessions;
        },
        flips(from_, to_) ? 1ms : 5ms);
    if (!failure && flips(from_, to_)) {
        const auto pause = core_.fleet()->longest_hold();
        active_.update([&](Transition& it) { it.pause_microseconds = pause.count(); });
        active_.log(Step::adopt,
                    "The longest wait of any client was " + std::to_string(pause.count()) + " us.");
        core_.store.set_setting("last_flip", boost::json::serialize(boost::json::object{
                                                 {"transition", id_},
                                                 {"from", to_string(from_)},
                                                 {"to", to_string(to_)},
                                                 {"pause_microseconds", pause.count()},
                                                 {"at_unix_ms", unix_ms()}}));
    }
    return failure;
}

Walk::Outcome Walk::start_workers() {
    workers_.begin_mirroring();
    return std::nullopt;
}

Walk::Outcome Walk::stop_workers() {
    verifier_.forget();
    if (auto ended = workers_.end_mirroring(); !ended) {
        active_.log(Step::stop_workers, "Banyan's own schema on the mirror could not be cleaned: " +
                                            ended.error().message);
    }
    if (auto let_go = to_ == Phase::initial && core_.lease() != nullptr ? core_.lease()->end()
                                                                     : Result<void>();
        !let_go) {
        active_.log(Step::stop_workers, "The lease could not be removed everywhere yet: " +
                                            let_go.error().message);
    }
    return std::nullopt;
}

void Walk::undo(const Failure& failure) {
    if (only_forward()) {
        finish(failure.state, failure.why);
        return;
    }
    // A connection that the watchdog shut down reports a lost server; the cause is another.
    TransitionState state = failure.state;
    if (watchdog_ && watchdog_->expired() && state == TransitionState::failed) {
        state = active_.cancelled ? TransitionState::aborted : TransitionState::timed_out;
    }
    if (persisted_ && !take_back(failure.why)) {
        // Acting against what is persisted would lose writes at the next start.
        finish(TransitionState::failed,
               failure.why + " It could not be undone: the state database cannot be written.");
        return;
    }
    if (published_) {
        core_.publish(from_, false);
    }
    if (holding_) {
        if (!watchdog_ || !watchdog_->expired()) {
            core_.publish(from_, false);
        }
        end_hold();
    }
    if (published_ && !mirrors(from_)) {
        const auto give_up = ActiveTransition::Clock::now() + 10s;
        while (ActiveTransition::Clock::now() < give_up && !active_.stopping) {
            const Adoption it = core_.fleet()->adoption();
            if (it.adopted >= it.sessions) {
                break;
            }
            std::this_thread::sleep_for(5ms);
        }
        core_.install_catalog(nullptr);
        core_.ledger.forget_all();
    }
    if (!mirrors(from_) && core_.lease() != nullptr) {
        core_.lease()->end();
    }
    finish(state, failure.why);
}

void Walk::finish(TransitionState state, const std::string& error) {
    watchdog_.reset();
    active_.update(
        [&](Transition& it) {
            it.state = state;
            it.error = error;
            it.finished_unix_ms = unix_ms();
            it.cancellable = false;
            it.log.push_back({it.finished_unix_ms, "",
                              "The phase is " + std::string(to_string(core_.phase())) + "."});
        },
        true);
    const Transition end = active_.copy();
    spdlog::info("transition {} {} -> {}: {}{}", id_, to_string(from_), to_string(to_),
                 to_string(state), error.empty() ? "" : " (" + error + ")");
    AuditEntry entry;
    entry.at_unix_ms = unix_ms();
    entry.actor = end.actor;
    entry.address = end.address;
    entry.action = "transition.end";
    entry.subject = id_;
    entry.reason = end.reason;
    entry.before = {{"phase", to_string(from_)}};
    entry.after = {{"phase", to_string(core_.phase())}};
    entry.result = std::string(to_string(state)) + (error.empty() ? "" : ": " + error);
    core_.audit.append(entry);
    core_.transition_ended(to_, to_string(state));
    after_hook();
}

}  // namespace banyan::router
