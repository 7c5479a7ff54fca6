#include "router/migration/control.hpp"

#include <spdlog/spdlog.h>

#include <stdexcept>

#include "router/migration/control_impl.hpp"
#include "router/sql/statement.hpp"

namespace banyan::router {

void throw_exception_from_error(const Refusal& refusal, const boost::source_location&) {
    throw std::runtime_error(refusal.type + ": " + refusal.title);
}

Control::Impl::Impl(const Config& config, StateDb& db, Ledger& ledger, Breaker& breaker,
                    Lease* lease)
    : core(config, db, ledger, breaker, lease),
      workers(core),
      verifier(core, [this] { return workers.backfill_done_unix_ms(); }),
      lineage(core, [this] { return workers.backfill_done_unix_ms(); }),
      doctor(core),
      gate_watch([this] { return look_at_gates(); }),
      probe(core, lineage),
      discrepancies(db, config.shadow.max_discrepancies, config.shadow.log),
      recheck(RecheckContext{config, ledger, discrepancies, [this] { return core.phase(); },
                             [](std::string_view sql) { return fingerprint(sql); },
                             [](std::string_view sql) { return normalize(sql); }}),
      rerun(RerunContext{config, discrepancies, [this] { return core.phase(); },
                         [](std::string_view sql) { return fingerprint(sql); },
                         [](std::string_view sql) { return normalize(sql); }}) {
    for (const auto& [number, stored] : core.store.unfinished()) {
        core.store.save_transition(number, interrupted(stored, unix_ms(), core.phase()), true);
        audit({"banyan", ""}, "transition.end", "t-" + std::to_string(number), "", nullptr,
              {{"phase", to_string(core.phase())}}, "failed: interrupted");
    }
}

Control::Impl::~Impl() {
    stop();
}

void Control::Impl::start_lease() {
    if (core.lease() == nullptr) {
        return;
    }
    core.lease()->start({
        [this](const std::string& why) {
            core.publish_lost();
            audit({"banyan", ""}, "lease.lost", core.lease()->owner().migration, "", nullptr,
                  {{"lost_to", why}}, "lost");
            workers.stop();  // no repair, no backfill: another one does that now
        },
        [this] { core.fleet()->wake(); },
        [this](Side side) {
            std::string ids;
            for (const auto id : core.fleet()->backends(side)) {
                ids += (ids.empty() ? "" : ",") + std::to_string(id);
            }
            return "{" + ids + "}";
        },
    });
}

Refusal Control::Impl::refuse(int status, std::string type, std::string title) const {
    return {
        status, std::move(type), std::move(title), {{"current_phase", to_string(core.phase())}}};
}

void Control::Impl::audit(const Actor& actor, std::string action, std::string subject,
                          std::string reason, boost::json::value before, boost::json::value after,
                          std::string result) {
    AuditEntry entry;
    entry.at_unix_ms = unix_ms();
    entry.actor = actor.name;
    entry.address = actor.address;
    entry.action = std::move(action);
    entry.subject = std::move(subject);
    entry.reason = std::move(reason);
    entry.before = std::move(before);
    entry.after = std::move(after);
    entry.result = std::move(result);
    if (!core.audit.append(entry)) {
        spdlog::error("the audit log could not be written: {} {} by {}", entry.action,
                      entry.subject, entry.actor);
    }
}

std::uint64_t Control::Impl::counter(Counter which) const {
    Fleet* fleet = core.fleet();
    return fleet != nullptr ? fleet->counter_total(which) : 0;
}

Control::Control(const Config& config, StateDb& db, Ledger& ledger, Breaker& breaker, Lease* lease)
    : impl_(std::make_unique<Impl>(config, db, ledger, breaker, lease)) {}

Control::~Control() = default;

Directive Control::directive() const {
    return impl_->core.directive();
}

Result<void> Control::start(Fleet& fleet) {
    impl_->core.attach(fleet);
    impl_->core.publish(impl_->core.phase(), false);
    impl_->start_lease();
    if (mirrors(impl_->core.phase())) {
        // Before the first client: without a catalogue every write would make every table suspect.
        // If the mirror is away, clients are served all the same and the workers keep trying.
        impl_->workers.load_catalog_once();
    }
    impl_->probe.start();
    impl_->workers.start();
    impl_->verifier.start();
    impl_->recheck.start();
    impl_->rerun.start();
    impl_->doctor.start();
    impl_->gate_watch.start();
    return {};
}

void Control::stop() {
    impl_->stop();
}

Answer<boost::json::object> Control::create_transition(const TransitionRequest& request,
                                                       const Actor& actor) {
    return impl_->create_transition(request, actor);
}

boost::json::array Control::gates(Phase to) {
    const Phase from = impl_->core.phase();
    if (!legal_step(from, to)) {
        return {};
    }
    return to_json(evaluate_gates(from, to, impl_->measure_cached(from, to)));
}

Answer<boost::json::object> Control::backfill_action(const std::string& action,
                                                     const Actor& actor) {
    if (action != "start" && action != "pause" && action != "resume") {
        return impl_->refuse(400, "bad-request", "The action is start, pause or resume.");
    }
    const bool done = impl_->workers.backfill_action(action);
    impl_->audit(actor, "backfill." + action, "", "", nullptr, nullptr,
                 done ? "ok" : "no-mirroring");
    if (!done) {
        return impl_->refuse(409, "no-mirroring",
                             "There is no backfill now: it has ended, or nothing is mirrored.");
    }
    return backfill();
}

boost::json::array Control::verifications() {
    return impl_->verifier.all();
}

std::optional<boost::json::object> Control::verification(const std::string& id) {
    return impl_->verifier.one(id);
}

Answer<boost::json::object> Control::create_verification(const std::vector<std::string>& tables,
                                                         bool repair, const Actor& actor) {
    if (!mirrors(impl_->core.phase())) {
        return impl_->refuse(409, "no-mirroring",
                             "Nothing is being mirrored: there is nothing to verify.");
    }
    auto created = impl_->verifier.create(tables, repair, actor.name);
    if (!created) {
        return impl_->refuse(404, "not-found", created.error().message);
    }
    impl_->audit(actor, "verification.create", std::string(created->at("id").as_string()), "",
                 nullptr, {{"repair", repair}}, "ok");
    return std::move(*created);
}

Answer<boost::json::object> Control::stop_verification(const std::string& id, const Actor& actor) {
    auto stopped = impl_->verifier.stop_one(id);
    if (!stopped) {
        return impl_->refuse(404, "not-found", "There is no verification " + id + ".");
    }
    impl_->audit(actor, "verification.stop", id, "", nullptr, nullptr, "ok");
    return std::move(*stopped);
}

std::optional<boost::json::object> Control::discrepancy(const std::string& fingerprint) {
    return impl_->discrepancies.group(fingerprint);
}

Answer<boost::json::object> Control::acknowledge_discrepancy(const std::string& fingerprint,
                                                             const std::string& note,
                                                             std::optional<std::int64_t> until_unix_ms,
                                                             const Actor& actor) {
    if (until_unix_ms && *until_unix_ms <= unix_ms()) {
        return impl_->refuse(400, "bad-request", "\"until_unix_ms\" is not in the future.");
    }
    if (!impl_->discrepancies.acknowledge(fingerprint, actor.name, note, until_unix_ms)) {
        return impl_->refuse(404, "not-found", "There is no discrepancy " + fingerprint + ".");
    }
    impl_->audit(actor, "discrepancy.acknowledge", fingerprint, note, nullptr,
                 until_unix_ms ? boost::json::value({{"until_unix_ms", *until_unix_ms}})
                               : boost::json::value(nullptr),
                 "ok");
    auto group = impl_->discrepancies.group(fingerprint);
    return group ? std::move(*group) : boost::json::object();
}

Answer<boost::json::object> Control::set_shadow(std::optional<double> share, const Actor& actor) {
    if (share) {
        if (!(*share >= 0 && *share <= 1)) {
            return impl_->refuse(400, "bad-request", "The share is a number from 0 to 1.");
        }
        const double before = impl_->core.directive().shadow_share;
        impl_->core.set_shadow_share(*share);
        impl_->audit(actor, "shadow.set", "", "", {{"share", before}}, {{"share", *share}}, "ok");
    }
    return shadow();
}

boost::json::array Control::audit(std::size_t limit, std::optional<std::int64_t> before) {
    return impl_->core.audit.newest(limit, before);
}

bool Control::primary_ready(std::string& why) {
    if (impl_->core.lost()) {
        why = impl_->core.lease()->status().lost_to;
        return false;
    }
    if (impl_->draining) {
        why = "Banyan is draining: it ends, or another process takes over.";
        return false;
    }
    const Side side = primary_of(impl_->core.phase());
    Reachability it = impl_->probe.of(side);
    if (!it.known || std::chrono::steady_clock::now() - it.checked_at > std::chrono::seconds(15)) {
        it = impl_->probe.ask(side);
    }
    if (!it.reachable) {
        why = "the " + std::string(to_string(side)) + " does not answer: " + it.error;
    }
    return it.reachable;
}

void Control::report_discrepancy(PendingDiscrepancy pending) {
    impl_->recheck.submit(std::move(pending));
}
void Control::offer_rerun(PendingDiscrepancy read) {
    impl_->rerun.offer(std::move(read));
}
void Control::request_catalog_reload() {
    impl_->workers.request_reload();
}
void Control::wake_probe() {
    impl_->probe.wake();
}

}  // namespace banyan::router
