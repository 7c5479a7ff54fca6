// Creating, measuring and cancelling transitions.
#include <spdlog/spdlog.h>

#include <algorithm>

#include "router/migration/control_impl.hpp"
#include "router/migration/walk.hpp"

namespace banyan::router {
namespace {

using namespace std::chrono_literals;

bool needs_sides(Phase from, Phase to) {
    return (from < to && to != Phase::dual_read) || flips(from, to);
}

}  // namespace

std::pair<SideFacts, SideFacts> Control::Impl::measure_sides() {
    std::vector<std::string> roles;
    const auto config = core.config.latest();
    for (const UserLogin& user : config->users) {
        roles.push_back(user.name);
    }
    // Whoever is here now, too; unless the service role sets the mirror up for it.
    const auto& mirror = core.config.mirror;
    if (core.fleet() != nullptr && !mirror.login("service_role")) {
        for (const SessionInfo& session : core.fleet()->sessions()) {
            if (session.state != "login" && session.state != "closing" &&
                std::find(roles.begin(), roles.end(), session.user) == roles.end()) {
                roles.push_back(session.user);
            }
        }
    }
    const auto with_service = [&](const Endpoint& endpoint) {
        auto all = roles;
        if (std::find(all.begin(), all.end(), endpoint.user) == all.end()) {
            all.push_back(endpoint.user);
        }
        return all;
    };
    return {measure_side(core.config.source, with_service(core.config.source)),
            measure_side(core.config.target, with_service(core.config.target))};
}

Facts Control::Impl::measure(Phase from, Phase to) {
    return measure_rest(
        from, to, needs_sides(from, to) ? measure_sides() : std::pair<SideFacts, SideFacts>());
}

Facts Control::Impl::measure_cached(Phase from, Phase to) {
    std::pair<SideFacts, SideFacts> sides;
    if (needs_sides(from, to)) {
        const std::lock_guard lock(cache_mutex_);
        const auto now = std::chrono::steady_clock::now();
        if (!cached_sides_ || now - cached_at_ > 1s) {
            cached_sides_ = measure_sides();
            cached_at_ = std::chrono::steady_clock::now();
        }
        sides = *cached_sides_;
    }
    return measure_rest(from, to, std::move(sides));
}

std::optional<GateWatch::View> Control::Impl::look_at_gates() {
    const Phase from = core.phase();
    const auto to = step_forward(from);
    if (!to || !mirrors(from) || active() != nullptr || core.lost() || draining) {
        return std::nullopt;
    }
    auto sides = needs_sides(from, *to) ? measure_sides() : std::pair<SideFacts, SideFacts>();
    return GateWatch::View{
        *to, evaluate_gates(from, *to, measure_rest(from, *to, std::move(sides), false)),
        unix_ms()};
}

Facts Control::Impl::measure_rest(Phase from, Phase to, std::pair<SideFacts, SideFacts> sides,
                                  bool scan) {
    Facts facts;
    facts.source = std::move(sides.first);
    facts.target = std::move(sides.second);
    auto catalog = core.catalog();
    facts.catalog_error = core.catalog_error();
    if (!mirrors(from) && to == Phase::dual_write) {
        if (auto read = core.read_catalog(Side::source); read) {
            catalog = std::move(*read);
        } else {
            facts.catalog_error = read.error().message;
        }
    }
    facts.catalog_known = catalog != nullptr;
    if (catalog) {
        for (const auto& table : catalog->tables()) {
            if (table->captured()) {
                ++facts.tables_captured;
            } else {
                facts.not_captured.emplace_back(table->display_name(), table->not_captured_because);
            }
        }
        facts.mapping_problems = catalog->mapping_problems;
        facts.sequence_twins = catalog->sequence_twins;
        if (to == Phase::switchover) {
            facts.reverse = measure_reverse(core.config.source, *catalog, scan);
        }
        facts.verified = verifier.verified(*catalog, workers.backfill_done_unix_ms());
    }
    const BackfillProgress backfill = workers.backfill_progress();
    facts.backfill_done = workers.backfill_done();
    facts.backfill_state = backfill.state;
    for (const TableProgress& table : backfill.tables) {
        facts.backfill_rows_copied += table.rows_copied;
        facts.backfill_rows_estimated += table.rows_estimated;
    }
    facts.breaker_closed = core.breaker.allows();
    const LedgerStats ledger = core.ledger.stats();
    facts.dirty = ledger.dirty;
    facts.journal_failed = ledger.journal_failed;
    for (const SuspectTable& suspect : core.ledger.suspects()) {
        const auto table = catalog ? catalog->table_by_id(suspect.table) : nullptr;
        facts.suspects.push_back(
            (table ? table->display_name() : "table " + std::to_string(suspect.table)) + " (" +
            suspect.reason + ")");
    }
    facts.shadow_matched = core.counted_in_phase(Counter::shadow_matched);
    facts.shadow_minimum = core.config.latest()->shadow.min_samples;
    try {
        facts.confirmed_unacknowledged = discrepancies.unacknowledged();
    } catch (const std::exception&) {  // a damaged file
        facts.confirmed_unacknowledged.reset();
    }
    facts.shadow_undecided = recheck.stats().pending;
    Fleet* fleet = core.fleet();
    facts.sessions = fleet != nullptr ? fleet->adoption().sessions : 0;
    if (flips(from, to) && fleet != nullptr) {
        if (auto connection = Connection::open(core.endpoint(primary_of(from)), "banyan-gates");
            connection) {
            if (auto foreign = foreign_backends(*connection, fleet->backends(primary_of(from)));
                foreign) {
                facts.foreign = std::move(*foreign);
            }
        }
    }
    return facts;
}

std::optional<Refusal> Control::Impl::check(const TransitionRequest& request) const {
    const auto blank = [](unsigned char c) {
        return c == ' ' || c == '\t' || c == '\n' || c == '\r';
    };
    if (std::all_of(request.reason.begin(), request.reason.end(), blank)) {
        return refuse(400, "reason-required", "A phase change needs a reason.");
    }
    if (core.lost()) {
        return refuse(409, "lease-lost", "Another Banyan is in charge of this migration.");
    }
    if (request.from != core.phase()) {
        return refuse(409, "stale-from",
                      "The phase is no longer " + std::string(to_string(request.from)) + ".");
    }
    if (!legal_step(request.from, request.to)) {
        return refuse(409, "illegal-step",
                      request.from == Phase::complete
                          ? "COMPLETE cannot be left."
                          : std::string(to_string(request.from)) + " to " +
                                std::string(to_string(request.to)) + " is not one step.");
    }
    if (core.fleet() == nullptr) {
        return refuse(503, "not-started", "Banyan is still starting.");
    }
    return std::nullopt;
}

std::shared_ptr<ActiveTransition> Control::Impl::begin(const TransitionRequest& request,
                                                       const Actor& actor) {
    const auto budget = request.deadline.value_or(core.config.latest()->switchover.deadline);
    Transition it;
    it.number = core.store.next_transition();
    it.from = request.from;
    it.to = request.to;
    it.reason = request.reason;
    it.actor = actor.name;
    it.address = actor.address;
    it.override_gates = request.override_gates;
    it.on_blocked = request.on_blocked.value_or(
        on_blocked_from_string(core.config.latest()->switchover.blocking_sessions)
            .value_or(OnBlocked::abort));
    it.created_unix_ms = unix_ms();
    it.deadline_unix_ms = it.created_unix_ms + budget.count();
    for (const Step step : plan_of(request.from, request.to)) {
        it.steps.push_back({step, "pending"});
    }
    return std::make_shared<ActiveTransition>(core.store, std::move(it),
                                              ActiveTransition::Clock::now() + budget);
}

Answer<boost::json::object> Control::Impl::create_transition(const TransitionRequest& request,
                                                             const Actor& actor) {
    if (auto refusal = check(request)) {
        return *refusal;
    }
    if (request.dry_run) {
        const auto gates =
            evaluate_gates(request.from, request.to, measure(request.from, request.to));
        return boost::json::object{{"dry_run", true},
                                   {"from", to_string(request.from)},
                                   {"to", to_string(request.to)},
                                   {"would_pass", gates_open(gates, request.override_gates)},
                                   {"gates", to_json(gates)},
                                   {"steps", plan_json(plan_of(request.from, request.to))}};
    }
    std::shared_ptr<ActiveTransition> active;
    {
        const std::lock_guard lock(mutex_);
        if (busy_ || stopped_) {
            Refusal refusal = refuse(409, "conflict", "Another transition is under way.");
            refusal.extra["transition"] = active_ ? active_->copy().id() : "";
            return refusal;
        }
        if (draining) {
            return refuse(503, "draining", "Banyan is draining: it will not be here much longer.");
        }
        // Once more: the one before may have ended since.
        if (auto refusal = check(request)) {
            return *refusal;
        }
        if (walk_.joinable()) {
            walk_.join();
        }
        active = active_ = begin(request, actor);
        busy_ = true;
    }
    const auto give_up = [&] {
        const std::lock_guard lock(mutex_);
        active_.reset();
        busy_ = false;
    };
    const std::string id = active->copy().id();
    if (!active->update([](Transition&) {}, true)) {
        give_up();
        return refuse(500, "internal", "The state database cannot be written.");
    }
    const auto gates = evaluate_gates(request.from, request.to, measure(request.from, request.to));
    const bool open = gates_open(gates, request.override_gates);
    const std::string closed = closed_gates(gates);
    active->update([&](Transition& it) { it.gates = gates; });
    audit(actor, "transition.create", id, request.reason, {{"phase", to_string(request.from)}},
          {{"phase", to_string(request.to)},
           {"override_gates", request.override_gates},
           {"on_blocked_sessions", to_string(active->copy().on_blocked)},
           {"closed_gates", closed}},
          open ? "ok" : "gates-failed");
    if (!open) {
        active->update(
            [&](Transition& it) {
                it.state = TransitionState::rejected;
                it.error = "Gates closed: " + closed + ".";
                it.finished_unix_ms = unix_ms();
                it.steps.front().state = "failed";
                for (std::size_t i = 1; i < it.steps.size(); ++i) {
                    it.steps[i].state = "skipped";
                }
            },
            true);
        give_up();
        Refusal refusal = refuse(409, "gates-failed", "Gates closed: " + closed + ".");
        refusal.extra["gates"] = to_json(gates);
        refusal.extra["transition"] = id;
        return refusal;
    }
    if (!closed.empty()) {
        active->log(Step::check_gates, "Overridden: " + closed);
    }
    const std::lock_guard lock(mutex_);
    if (stopped_) {
        return refuse(503, "not-started", "Banyan is ending.");
    }
    walk_ = std::thread([this, active] {
        Walk(core, workers, verifier, lineage, *active).run();
        const std::lock_guard done(mutex_);
        active_.reset();
        busy_ = false;
    });
    return to_json(active->copy());
}

std::shared_ptr<ActiveTransition> Control::Impl::active() const {
    const std::lock_guard lock(mutex_);
    return active_;
}

void Control::Impl::stop() {
    std::thread walk;
    {
        const std::lock_guard lock(mutex_);
        stopped_ = true;
        if (active_) {
            active_->stopping = true;
            active_->cancelled = true;  // wakes the watchdog, which releases held sessions
        }
        walk = std::move(walk_);
    }
    if (walk.joinable()) {
        walk.join();
    }
    recheck.stop();
    rerun.stop();
    verifier.stop();
    workers.stop();
    doctor.stop();
    gate_watch.stop();
    probe.stop();  // the last: it frees whoever waits for a server that does not answer
    if (core.lease() != nullptr) {
        core.lease()->stop();
    }
}

Answer<boost::json::object> Control::cancel_transition(const std::string& id, const Actor& actor) {
    const auto active = impl_->active();
    if (active == nullptr || active->copy().id() != id) {
        if (auto stored = transition(id)) {
            return impl_->refuse(409, "not-cancellable", "The transition has ended.");
        }
        return impl_->refuse(404, "not-found", "There is no transition " + id + ".");
    }
    if (!active->copy().cancellable) {
        return impl_->refuse(409, "not-cancellable",
                             "The phase is persisted: the transition can only go forward.");
    }
    active->cancelled = true;
    impl_->audit(actor, "transition.cancel", id, "", nullptr, nullptr, "ok");
    return to_json(active->copy());
}

boost::json::array Control::transitions() {
    boost::json::array all = impl_->core.store.transitions(100);
    const auto active = impl_->active();
    if (active == nullptr) {
        return all;
    }
    // The one in memory is newer than what is stored of it.
    const Transition now = active->copy();
    for (auto& item : all) {
        if (item.is_object() && item.as_object().if_contains("id") != nullptr &&
            item.at("id") == boost::json::value(now.id())) {
            item = to_json(now);
        }
    }
    return all;
}

std::optional<boost::json::object> Control::transition(const std::string& id) {
    if (const auto active = impl_->active(); active != nullptr && active->copy().id() == id) {
        return to_json(active->copy());
    }
    if (!id.starts_with("t-") || id.size() > 20 || id.size() < 8 ||
        !std::all_of(id.begin() + 2, id.end(), [](char c) { return c >= '0' && c <= '9'; })) {
        return std::nullopt;
    }
    return impl_->core.store.transition(std::stoll(id.substr(2)));
}

}  // namespace banyan::router
