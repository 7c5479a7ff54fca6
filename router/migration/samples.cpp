// The control plane's Prometheus samples. Label values come from code or from a bounded set.
#include <algorithm>

#include "router/migration/control_impl.hpp"

namespace banyan::router {
namespace {

using Labels = std::vector<std::pair<std::string, std::string>>;

class Collector {
   public:
    template <class Number>
    void gauge(std::string name, Labels labels, Number value, std::string help) {
        add(std::move(name), std::move(labels), static_cast<double>(value), false, std::move(help));
    }
    template <class Number>
    void counter(std::string name, Labels labels, Number value, std::string help) {
        add(std::move(name), std::move(labels), static_cast<double>(value), true, std::move(help));
    }
    std::vector<Control::Sample> take() { return std::move(samples_); }

   private:
    void add(std::string name, Labels labels, double value, bool counter, std::string help) {
        samples_.push_back({std::move(name), std::move(labels), value, counter, std::move(help)});
    }
    std::vector<Control::Sample> samples_;
};

void phase_samples(Collector& out, const Core& core, bool transition) {
    const Directive directive = core.directive();
    for (const Phase phase : {Phase::initial, Phase::dual_write, Phase::dual_read,
                              Phase::switchover, Phase::complete}) {
        out.gauge("phase", {{"phase", std::string(to_string(phase))}}, phase == directive.phase,
                  "1 for the phase in force.");
    }
    out.gauge("hold", {}, directive.hold, "1 while sessions are held for a flip.");
    for (const auto& [end, count] : core.transitions_ended()) {
        out.counter("transitions_total",
                    {{"to", std::string(to_string(end.first))}, {"state", end.second}}, count,
                    "Transitions that have ended, since Banyan started.");
    }
    out.gauge("max_clients", {}, core.config.latest()->limits.max_clients, "[limits] max_clients.");
    out.gauge("max_dirty_keys", {}, core.config.journal.max_dirty_keys, "[journal] max_dirty_keys.");
    out.gauge("start_time_seconds", {}, static_cast<double>(core.started_unix_ms) / 1e3,
              "When Banyan started, Unix time.");
    out.gauge("transition_running", {}, transition, "1 while a transition is under way.");
    const std::string last_flip = core.store.setting("last_flip");
    if (!last_flip.empty()) {
        const auto flip = boost::json::parse(last_flip);
        out.gauge("switchover_pause_seconds", {},
                  flip.at("pause_microseconds").to_number<double>() / 1e6,
                  "Longest wait of any client in the last flip.");
    }
    if (const Fleet* fleet = core.fleet(); fleet != nullptr) {
        const Adoption adoption = core.fleet()->adoption();
        out.gauge("sessions_without_mirror", {}, adoption.without_mirror,
                  "Sessions that have no connection to the mirror and would want one.");
        out.gauge("sessions", {{"state", "adopted"}}, adoption.adopted,
                  "Sessions by adoption of the newest directive.");
        out.gauge("sessions", {{"state", "not_adopted"}},
                  adoption.sessions - std::min(adoption.adopted, adoption.sessions),
                  "Sessions by adoption of the newest directive.");
    }
}

void breaker_samples(Collector& out, const Breaker& breaker) {
    const Breaker::Report report = breaker.report();
    for (const auto state :
         {Breaker::State::closed, Breaker::State::open, Breaker::State::half_open}) {
        out.gauge("breaker_state", {{"state", to_string(state)}}, report.state == state,
                  "1 for the state of the mirror's breaker; closed: sessions use the mirror.");
    }
    out.gauge("breaker_open", {}, report.state != Breaker::State::closed,
              "1 while the mirror is not tried.");
    for (std::size_t i = 0; i < report.opened_by.size(); ++i) {
        const auto cause = fault_names.at(i);
        out.counter("breaker_opened_total", {{"cause", std::string(cause)}}, report.opened_by.at(i),
                    "Times the breaker has opened, by what the mirror failed with.");
        out.gauge("breaker_cause", {{"cause", std::string(cause)}},
                  report.state != Breaker::State::closed && report.fault &&
                      to_string(*report.fault) == cause,
                  "1 for why the mirror is not tried now, as last found.");
    }
    out.gauge("breaker_open_seconds", {},
              static_cast<double>(report.open_for.value_or(Breaker::Milliseconds(0)).count()) / 1e3,
              "How long the breaker has been open now.");
    out.counter("breaker_open_seconds_total", {},
                static_cast<double>(report.open_total.count()) / 1e3,
                "All the time the breaker has been open.");
    out.gauge("breaker_probes_failed", {}, report.probes_failed,
              "Probes that failed since the breaker opened last.");
    out.gauge("mirror_logins_put_off", {}, report.no_logins_for.has_value(),
              "1 while the mirror has no connection left for a session.");
}

// The tables with the most dirty keys; a bounded number of series.
void dirty_samples(Collector& out, const Catalog& catalog, const Ledger& ledger) {
    constexpr std::size_t most_tables = 50;
    std::vector<std::pair<std::uint64_t, std::string>> dirty;
    for (const auto& table : catalog.tables()) {
        if (const auto count = ledger.dirty_count(table->id); count > 0) {
            dirty.emplace_back(count, table->display_name());
        }
    }
    std::sort(dirty.rbegin(), dirty.rend());
    dirty.resize(std::min(dirty.size(), most_tables));
    for (const auto& [count, name] : dirty) {
        out.gauge("dirty_keys_by_table", {{"table", name}}, count,
                  "Dirty keys of the 50 tables that have the most.");
    }
}

void lease_samples(Collector& out, const LeaseStatus& lease) {
    for (const Side side : {Side::source, Side::target}) {
        const auto& on = lease.sides.at(static_cast<std::size_t>(side));
        const std::string name(to_string(side));
        out.gauge("lease_held", {{"side", name}}, on.held,
                  "1 while this Banyan's lease on the side is in force; none is kept in INITIAL.");
        if (on.age_ms) {
            out.gauge("lease_renewal_age_seconds", {{"side", name}},
                      static_cast<double>(*on.age_ms) / 1e3, "Since the lease was last renewed.");
        }
    }
    out.counter("lease_lost_total", {}, lease.lost_total,
                "1 once another Banyan has taken the migration over.");
}

void ledger_samples(Collector& out, const LedgerStats& stats) {
    out.gauge("journal_in_flight", {}, stats.in_flight,
              "Transactions between journal entry and end.");
    out.gauge("journal_limbo", {}, stats.limbo,
              "Transactions of unknown outcome whose backend may live.");
    out.gauge("journal_oldest_in_flight_seconds", {},
              static_cast<double>(stats.oldest_in_flight.count()) / 1e3,
              "Age of the oldest transaction in flight.");
    out.gauge("journal_oldest_dirty_seconds", {},
              static_cast<double>(stats.oldest_dirty.count()) / 1e3,
              "Age of the key that has been dirty for longest, since Banyan started.");
    out.gauge("journal_bytes", {}, stats.journal_bytes,
              "Size of the state database and its log on disk.");
    out.counter("journal_requests_total", {}, stats.journal_requests_total,
                "Writes in those commits: by banyan_journal_batches_total, the mean batch.");
    out.counter("journal_collapsed_writes_total", {}, stats.collapsed_writes_total,
                "Tables of which a transaction wrote too many rows to keep their keys.");
    out.counter("journal_collapsed_dirty_keys_total", {}, stats.collapsed_dirty_total,
                "Dirty keys that became suspect ranges, being more than max_dirty_keys.");
    out.gauge("journal_failed", {}, stats.journal_failed, "1 while journal writes fail.");
    out.counter("journal_entries_total", {}, stats.journaled_total, "Journal entries written.");
    out.counter("journal_batches_total", {}, stats.journal_batches_total,
                "Commits of the state database.");
    out.counter("journal_errors_total", {}, stats.journal_errors_total,
                "Journal writes that failed.");
    out.gauge("dirty_keys", {}, stats.dirty, "Keys that may differ and wait for repair.");
    out.gauge("suspect_tables", {}, stats.suspect_tables,
              "Tables that may differ in unknown rows.");
}

}  // namespace

std::vector<Control::Sample> Control::samples() {
    Collector out;
    const Core& core = impl_->core;
    phase_samples(out, core, impl_->active() != nullptr);
    breaker_samples(out, core.breaker);
    ledger_samples(out, core.ledger.stats());
    if (core.lease() != nullptr) {
        lease_samples(out, core.lease()->status());
    }
    if (core.fleet() != nullptr) {
        out.gauge("event_loop_lag_seconds", {},
                  static_cast<double>(core.fleet()->loop_lag().count()) / 1e6,
                  "How long the slowest event loop took to come to a task it was given.");
    }
    const GateWatch::View watched = impl_->gate_watch.view();
    for (const Gate& gate : watched.gates) {
        for (const auto state : {Verdict::pass, Verdict::fail, Verdict::inconclusive}) {
            out.gauge("gate_state",
                      {{"to", std::string(to_string(watched.to))},
                       {"gate", gate.name},
                       {"state", std::string(to_string(state))}},
                      gate.verdict == state,
                      "1 for what each gate of the next step forward says, as of the last look.");
        }
    }
    const DriftStatus drift = impl_->doctor.drift();
    if (drift.checked_unix_ms != 0) {
        const std::string help = "Objects in which the two schemas differ, as of the last look.";
        out.gauge("schema_drift", {{"severity", "block"}}, drift.blocks, help);
        out.gauge("schema_drift", {{"severity", "warn"}}, drift.warnings, help);
    }
    for (const Side side : {Side::source, Side::target}) {
        const Reachability it = impl_->probe.of(side);
        if (it.known) {
            out.gauge("backend_up", {{"side", std::string(to_string(side))}}, it.reachable,
                      "1 if the database answered the last probe.");
        }
        const auto lineage = impl_->lineage.view(side);
        if (lineage.identity) {
            out.gauge("backend_in_recovery", {{"side", std::string(to_string(side))}},
                      lineage.identity->in_recovery, "1 while the server is a standby.");
        }
        for (const auto what : {ServerChange::restarted, ServerChange::failed_over,
                                ServerChange::went_back, ServerChange::other_cluster}) {
            out.counter("backend_changes_total",
                        {{"side", std::string(to_string(side))},
                         {"change", std::string(to_string(what))}},
                        lineage.changes.at(static_cast<std::size_t>(what)),
                        "Times the server was found to be another, or restarted.");
        }
    }
    const RepairStatus repair = impl_->workers.repair_status();
    out.counter("repaired_keys_total", {}, core.ledger.stats().repaired_total,
                "Keys repaired since Banyan started.");
    out.counter("repair_requeued_total", {}, repair.requeued,
                "Repairs put off because the row was busy.");
    out.gauge("repair_keys_per_second", {}, repair.progress.keys_per_second,
              "Repair's recent rate.");
    out.gauge("repair_share", {}, repair.progress.share,
              "Of the time, the share that repair works; less than 1: it is throttled.");
    const BackfillProgress backfill = impl_->workers.backfill_progress();
    std::uint64_t copied = 0;
    std::uint64_t estimated = 0;
    for (const TableProgress& table : backfill.tables) {
        copied += table.rows_copied;
        estimated += table.rows_estimated;
    }
    out.gauge("backfill_rows_copied", {}, copied, "Rows copied by the backfill so far.");
    out.gauge("backfill_rows_estimated", {}, estimated,
              "Rows there were to copy, as the planner guessed.");
    out.gauge("backfill_rows_per_second", {}, backfill.rows_per_second,
              "The backfill's recent rate.");
    out.gauge("backfill_done", {}, impl_->workers.backfill_done(),
              "1 once every table has been copied.");
    if (const auto catalog = core.catalog()) {
        dirty_samples(out, *catalog, core.ledger);
        std::int64_t oldest = 0;
        std::size_t equal = 0;
        const auto verified =
            impl_->verifier.verified(*catalog, impl_->workers.backfill_done_unix_ms());
        for (const VerifiedTable& table : verified) {
            equal += table.state == "equal" ? 1U : 0U;
            oldest = table.state == "equal" ? std::max(oldest, unix_ms() - table.finished_unix_ms)
                                            : oldest;
        }
        out.gauge("verified_tables", {}, equal, "Tables verified equal since the backfill.");
        out.gauge("captured_tables", {}, verified.size(), "Tables captured row by row.");
        out.gauge("uncaptured_tables", {}, catalog->tables().size() - verified.size(),
                  "Tables whose writes cannot be captured row by row.");
        out.gauge("verification_age_seconds", {}, static_cast<double>(oldest) / 1e3,
                  "Age of the oldest of the tables' last verifications.");
    }
    const RecheckStats recheck = impl_->recheck.stats();
    const std::string help = "Shadow mismatches by the outcome of the second look.";
    out.counter("shadow_rechecked_total", {{"outcome", "confirmed"}}, recheck.confirmed, help);
    out.counter("shadow_rechecked_total", {{"outcome", "raced"}}, recheck.raced, help);
    out.counter("shadow_rechecked_total", {{"outcome", "inconclusive"}}, recheck.inconclusive,
                help);
    out.counter("shadow_rechecked_total", {{"outcome", "dropped"}}, recheck.dropped, help);
    out.gauge("shadow_recheck_pending", {}, recheck.pending,
              "Mismatches waiting for the second look.");
    const RerunStats reruns = impl_->rerun.stats();
    const std::string reruns_help =
        "Shadow reads run again: did the primary give the same answer twice?";
    out.counter("shadow_reruns_total", {{"result", "agreed"}}, reruns.agreed, reruns_help);
    out.counter("shadow_reruns_total", {{"result", "disagreed"}}, reruns.disagreed, reruns_help);
    out.counter("shadow_reruns_total", {{"result", "failed"}}, reruns.failed, reruns_help);
    out.gauge("slower_statements", {}, reruns.slower,
              "Statements that take the target much longer than the source.");
    out.gauge("discrepancies_unacknowledged", {}, impl_->discrepancies.unacknowledged(),
              "Confirmed discrepancy groups that nobody has acknowledged.");
    return out.take();
}

}  // namespace banyan::router
