// The read-only answers, as router/migration/README.md describes them.
#include <algorithm>

#include "router/migration/control_impl.hpp"
#include "router/migration/exactness.hpp"

namespace banyan::router {
namespace {

boost::json::value or_null(std::int64_t at) {
    return at == 0 ? boost::json::value(nullptr) : boost::json::value(at);
}

boost::json::object side_json(const Reachability& it, const LineageWatch::View& lineage) {
    const auto& identity = lineage.identity;
    return {
        {"reachable", it.known ? boost::json::value(it.reachable) : boost::json::value(nullptr)},
        {"error", it.error},
        {"checked_unix_ms", it.checked_unix_ms},
        {"system_identifier", identity ? identity->system : ""},
        {"timeline", identity ? identity->timeline : ""},
        {"in_recovery", identity ? boost::json::value(identity->in_recovery)
                                 : boost::json::value(nullptr)},
        {"last_change", lineage.changed_unix_ms == 0
                            ? boost::json::value(nullptr)
                            : boost::json::value(to_string(lineage.last_change))},
        {"changed_unix_ms", or_null(lineage.changed_unix_ms)}};
}

boost::json::object to_json(const TableProgress& it) {
    return {{"name", it.name},
            {"state", it.state},
            {"waiting_for", it.waiting_for},
            {"rows_copied", it.rows_copied},
            {"rows_estimated", it.rows_estimated},
            {"rows_per_second", it.rows_per_second},
            {"chunks", it.chunks},
            {"error", it.error}};
}

boost::json::object summary(const BackfillProgress& progress) {
    std::uint64_t copied = 0;
    std::uint64_t estimated = 0;
    for (const TableProgress& table : progress.tables) {
        copied += table.rows_copied;
        estimated += table.rows_estimated;
    }
    const auto done = std::count_if(progress.tables.begin(), progress.tables.end(),
                                    [](const TableProgress& it) { return it.state == "done"; });
    return {{"state", progress.state},
            {"throttle_reason", progress.throttle_reason},
            {"rows_copied", copied},
            {"rows_estimated", estimated},
            {"rows_per_second", progress.rows_per_second},
            {"eta_seconds", progress.eta ? boost::json::value(progress.eta->count())
                                         : boost::json::value(nullptr)},
            {"started_unix_ms", or_null(progress.started_unix_ms)},
            {"finished_unix_ms", or_null(progress.finished_unix_ms)},
            {"tables_done", done},
            {"tables_total", progress.tables.size()}};
}

boost::json::object to_json(const DirtyKey& key, const Catalog* catalog) {
    const auto table = catalog != nullptr ? catalog->table_by_id(key.key.table) : nullptr;
    return {{"table", table ? table->display_name() : std::to_string(key.key.table)},
            {"key", hexadecimal(key.key.bytes)},
            {"generation", key.generation},
            {"reason", key.reason},
            {"attempts", key.attempts}};
}

/// `mirror_allowed`: the breaker is closed.
boost::json::object to_json(const SessionInfo& it, bool mirror_allowed) {
    boost::json::array blocking;
    for (const auto& thing : it.blocking) {
        blocking.emplace_back(thing);
    }
    return {{"id", it.id},
            {"user", it.user},
            {"database", it.database},
            {"application", it.application},
            {"client", it.client},
            {"state", it.state},
            {"phase", to_string(it.phase)},
            {"mirror_ready", it.mirror_ready},
            {"journal_only", mirrors(it.phase) && !(it.mirror_ready && mirror_allowed)},
            {"mirror_login", it.mirror_login},
            {"connected_unix_ms", it.connected_unix_ms},
            {"transaction_age_ms", it.transaction_age_ms},
            {"source_process_id", it.source_process_id},
            {"target_process_id", it.target_process_id},
            {"blocking", std::move(blocking)},
            {"advisory_locks", it.locks.size()}};
}

boost::json::object lease_json(const LeaseStatus& it) {
    boost::json::object json{{"state", it.state},
                             {"migration", it.owner.migration},
                             {"holder", it.owner.holder},
                             {"host", it.owner.host},
                             {"process_id", it.owner.process_id},
                             {"epoch", it.owner.epoch},
                             {"ttl_ms", it.ttl.count()},
                             {"lost_to", it.lost_to}};
    for (const Side side : {Side::source, Side::target}) {
        const auto& on = it.sides.at(static_cast<std::size_t>(side));
        json[to_string(side)] = {
            {"held", on.held},
            {"renewed_ms_ago",
             on.age_ms ? boost::json::value(*on.age_ms) : boost::json::value(nullptr)},
            {"error", on.error}};
    }
    return json;
}

boost::json::value number_or_null(std::optional<std::chrono::milliseconds> time) {
    return time ? boost::json::value(time->count()) : boost::json::value(nullptr);
}

boost::json::object breaker_json(const Core& core) {
    const Breaker::Report report = core.breaker.report();
    boost::json::object opened_by;
    for (std::size_t i = 0; i < report.opened_by.size(); ++i) {
        opened_by[fault_names.at(i)] = report.opened_by.at(i);
    }
    const auto counted = [&](Counter counter) {
        return core.fleet() != nullptr ? core.fleet()->counter_total(counter) : 0;
    };
    const std::int64_t now = unix_ms();
    return {{"state", to_string(report.state)},
            {"cause", report.fault ? boost::json::value(to_string(*report.fault))
                                   : boost::json::value(nullptr)},
            {"detail", report.detail},
            {"failures", report.failures},
            {"since_unix_ms", report.open_for ? boost::json::value(now - report.open_for->count())
                                              : boost::json::value(nullptr)},
            {"open_ms", number_or_null(report.open_for)},
            {"next_probe_ms", number_or_null(report.until_probe)},
            {"probes_failed", report.probes_failed},
            {"no_logins_ms", number_or_null(report.no_logins_for)},
            {"no_logins_detail", report.no_room_detail},
            {"opened_total", report.opened_total},
            {"opened_by", std::move(opened_by)},
            {"open_total_ms", report.open_total.count()},
            {"on_mirror_failure", core.config.latest()->mirror.on_failure},
            {"journal_only_commits", counted(Counter::mirror_skipped)},
            {"rejected", counted(Counter::writes_rejected)}};
}

// How long what is dirty now will take at the present rate.
boost::json::value repair_eta(const RepairStatus& repair, std::uint64_t dirty) {
    if (dirty == 0) {
        return 0;
    }
    const double rate = repair.progress.keys_per_second;
    return rate > 0 ? boost::json::value(static_cast<double>(dirty) / rate)
                    : boost::json::value(nullptr);
}

boost::json::object verification_summary(const Catalog* catalog, const Verifier& verifier,
                                         std::int64_t since) {
    std::size_t equal = 0;
    std::size_t different = 0;
    std::size_t total = 0;
    if (catalog != nullptr) {
        for (const VerifiedTable& table : verifier.verified(*catalog, since)) {
            ++total;
            equal += table.state == "equal" ? 1U : 0U;
            different += table.state == "different" ? 1U : 0U;
        }
    }
    const std::string running = verifier.running();
    return {
        {"tables_total", total},
        {"tables_equal", equal},
        {"tables_different", different},
        {"running", running.empty() ? boost::json::value(nullptr) : boost::json::value(running)}};
}

boost::json::object table_json(const Table& table, const Ledger& ledger,
                               const BackfillProgress& backfill,
                               const std::map<TableId, boost::json::object>& verified) {
    boost::json::array key;
    for (const std::size_t column : table.key) {
        key.push_back(boost::json::string(table.columns.at(column).name));
    }
    const auto suspect = ledger.suspect(table.id);
    const ExactnessOf exact = exactness_of(table, suspect);
    boost::json::object json{
        {"name", table.display_name()}, {"id", table.id},
        {"mirroring", to_string(exact.exactness)}, {"mirroring_reason", exact.reason},
        {"captured", table.captured()}, {"reason", table.not_captured_because},
        {"mapped_to", nullptr},
        {"key", std::move(key)},        {"columns", table.columns.size()},
        {"suspect", nullptr},           {"dirty", ledger.dirty_count(table.id)},
        {"backfill", nullptr},          {"verification", nullptr}};
    if (table.mapped()) {
        const Table& mirror = table.on_mirror();
        json["mapped_to"] = mirror.schema + "." + mirror.name;
    }
    if (suspect) {
        json["suspect"] = {{"reason", suspect->reason}, {"since_unix_ms", suspect->since_unix_ms}};
    }
    for (const TableProgress& it : backfill.tables) {
        if (it.table == table.id) {
            json["backfill"] = to_json(it);
        }
    }
    if (const auto it = verified.find(table.id); it != verified.end()) {
        json["verification"] = it->second;
    }
    return json;
}

}  // namespace

std::string hexadecimal(std::string_view bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        text += digits[byte >> 4U];
        text += digits[byte & 15U];
    }
    return text;
}

boost::json::value drift_json(const DriftStatus& drift) {
    if (drift.checked_unix_ms == 0) {
        return nullptr;
    }
    return boost::json::object{
        {"checked_unix_ms", drift.checked_unix_ms},
        {"error", drift.error},
        {"blocks", drift.blocks},
        {"warnings", drift.warnings},
        {"subjects", boost::json::array(drift.subjects.begin(), drift.subjects.end())}};
}

boost::json::object Control::status() {
    Core& core = impl_->core;
    const Directive directive = core.directive();
    const Phase phase = directive.phase;
    const auto catalog = core.catalog();
    const auto active = impl_->active();
    const Adoption adoption = core.fleet() != nullptr ? core.fleet()->adoption() : Adoption();
    const RepairStatus repair = impl_->workers.repair_status();
    const std::string last_flip = core.store.setting("last_flip");
    const auto captured = !catalog
                              ? 0
                              : std::count_if(catalog->tables().begin(), catalog->tables().end(),
                                              [](const auto& table) { return table->captured(); });
    return {{"version", BANYAN_VERSION},
            {"state", impl_->draining ? "draining" : "serving"},
            {"phase", to_string(phase)},
            {"primary", to_string(primary_of(phase))},
            {"mirror", mirrors(phase) ? boost::json::value(to_string(mirror_of(phase)))
                                      : boost::json::value(nullptr)},
            {"mirroring", mirrors(phase)},
            {"epoch", directive.epoch},
            {"hold", directive.hold},
            {"phase_since_unix_ms", core.phase_since_unix_ms()},
            {"started_unix_ms", core.started_unix_ms},
            {"transition", active ? boost::json::value(router::to_json(active->copy()))
                                  : boost::json::value(nullptr)},
            {"sessions",
             {{"total", adoption.sessions},
              {"adopted", adoption.adopted},
              {"without_mirror", adoption.without_mirror},
              {"blocked", adoption.blocked},
              {"oldest_transaction_ms", adoption.oldest_transaction.count()}}},
            {"source",
             side_json(impl_->probe.of(Side::source), impl_->lineage.view(Side::source))},
            {"target",
             side_json(impl_->probe.of(Side::target), impl_->lineage.view(Side::target))},
            {"breaker", breaker_json(core)},
            {"catalog",
             {{"loaded", catalog != nullptr},
              {"version", catalog ? catalog->version : 0},
              {"tables", catalog ? catalog->tables().size() : 0},
              {"captured", captured},
              {"error", core.catalog_error()}}},
            {"journal", journal()},
            {"repair",
             {{"running", repair.running},
              {"repaired", repair.repaired},
              {"requeued", repair.requeued},
              {"last_error", repair.last_error},
              {"keys_per_second", repair.progress.keys_per_second},
              {"eta_seconds", repair_eta(repair, core.ledger.dirty_count())},
              {"share", repair.progress.share},
              {"throttle_reason", repair.progress.throttle_reason}}},
            {"backfill", summary(impl_->workers.backfill_progress())},
            {"verification", verification_summary(catalog.get(), impl_->verifier,
                                                  impl_->workers.backfill_done_unix_ms())},
            {"shadow", shadow()},
            {"lease", core.lease() != nullptr
                          ? boost::json::value(lease_json(core.lease()->status()))
                          : boost::json::value(nullptr)},
            {"schema_drift", drift_json(impl_->doctor.drift())},
            {"last_flip",
             last_flip.empty() ? boost::json::value(nullptr) : boost::json::parse(last_flip)}};
}

boost::json::array Control::tables() {
    boost::json::array all;
    if (const auto catalog = impl_->core.catalog()) {
        const auto backfill = impl_->workers.backfill_progress();
        const auto verified = impl_->verifier.results();
        for (const auto& table : catalog->tables()) {
            all.push_back(table_json(*table, impl_->core.ledger, backfill, verified));
        }
        for (const std::string& name : catalog->excluded) {
            all.push_back({{"name", name},
                           {"mirroring", to_string(Exactness::excluded)},
                           {"mirroring_reason", "[migration] exclude"},
                           {"captured", false},
                           {"reason", "excluded"},
                           {"key", boost::json::array()},
                           {"suspect", nullptr},
                           {"dirty", 0},
                           {"backfill", nullptr},
                           {"verification", nullptr}});
        }
    }
    return all;
}

std::optional<boost::json::object> Control::table(const std::string& name) {
    const auto catalog = impl_->core.catalog();
    if (catalog == nullptr) {
        return std::nullopt;
    }
    for (const auto& table : catalog->tables()) {
        if (table->display_name() != name && table->schema + "." + table->name != name) {
            continue;
        }
        boost::json::object json =
            table_json(*table, impl_->core.ledger, impl_->workers.backfill_progress(),
                       impl_->verifier.results());
        boost::json::array columns;
        for (const Column& column : table->columns) {
            columns.push_back({{"name", column.name},
                               {"type", column.type_name},
                               {"not_null", column.not_null},
                               {"generated", column.generated},
                               {"binary", column.binary}});
        }
        boost::json::array sample;
        for (const DirtyKey& key : impl_->core.ledger.dirty_sample(1000)) {
            if (key.key.table == table->id && sample.size() < 20) {
                sample.push_back(to_json(key, catalog.get()));
            }
        }
        json["column_list"] = std::move(columns);
        json["dirty_sample"] = std::move(sample);
        return json;
    }
    return std::nullopt;
}

boost::json::object Control::backfill() {
    const BackfillProgress progress = impl_->workers.backfill_progress();
    boost::json::object json = summary(progress);
    boost::json::array tables;
    for (const TableProgress& table : progress.tables) {
        tables.push_back(to_json(table));
    }
    json["tables"] = std::move(tables);
    return json;
}

boost::json::object Control::discrepancies() {
    const RecheckStats stats = impl_->recheck.stats();
    return {{"groups", impl_->discrepancies.groups(500)},
            {"unacknowledged", impl_->discrepancies.unacknowledged()},
            {"confirmed", stats.confirmed},
            {"raced", stats.raced},
            {"inconclusive", stats.inconclusive},
            {"dropped", stats.dropped},
            {"pending", stats.pending}};
}

namespace {

boost::json::object reruns_json(const RerunStats& stats) {
    return {{"agreed", stats.agreed},         {"disagreed", stats.disagreed},
            {"failed", stats.failed},         {"last_error", stats.last_error},
            {"statements", stats.statements}, {"slower", stats.slower}};
}

}  // namespace

boost::json::object Control::shadow() {
    const Directive directive = impl_->core.directive();
    const RecheckStats stats = impl_->recheck.stats();
    return {{"share", directive.shadow_share},
            {"active", directive.shadow},
            {"sent", impl_->counter(Counter::shadow_sent)},
            {"matched", impl_->counter(Counter::shadow_matched)},
            {"matched_in_phase", impl_->core.counted_in_phase(Counter::shadow_matched)},
            {"mismatched", impl_->counter(Counter::shadow_mismatched)},
            {"skipped", impl_->counter(Counter::shadow_skipped)},
            {"errors", impl_->counter(Counter::shadow_errors)},
            {"confirmed", stats.confirmed},
            {"unacknowledged", impl_->discrepancies.unacknowledged()},
            {"raced", stats.raced},
            {"inconclusive", stats.inconclusive},
            {"dropped", stats.dropped},
            {"pending", stats.pending},
            {"last_inconclusive", stats.last_error},
            {"minimum_samples", impl_->core.config.latest()->shadow.min_samples},
            {"reruns", reruns_json(impl_->rerun.stats())}};
}

boost::json::object Control::shadow_times(std::size_t limit) {
    boost::json::array statements;
    for (const StatementTime& time : impl_->rerun.times(limit)) {
        auto row = statement_time_json(time);
        row["fingerprint"] = time.fingerprint;
        row["sql"] = time.sql;
        row["slower"] = time.slower;
        statements.push_back(std::move(row));
    }
    const auto config = impl_->core.config.latest();
    return {{"statements", std::move(statements)},
            {"enough_runs", StatementTimes::enough},
            {"slower_factor", config->shadow.slower_factor},
            {"slower_by_ms", config->shadow.slower_by.count()}};
}

boost::json::object Control::journal() {
    const LedgerStats stats = impl_->core.ledger.stats();
    const auto catalog = impl_->core.catalog();
    boost::json::array sample;
    for (const DirtyKey& key : impl_->core.ledger.dirty_sample(20)) {
        sample.push_back(to_json(key, catalog.get()));
    }
    boost::json::array suspects;
    for (const SuspectTable& it : impl_->core.ledger.suspects()) {
        const auto table = catalog ? catalog->table_by_id(it.table) : nullptr;
        suspects.push_back({{"table", table ? table->display_name() : std::to_string(it.table)},
                            {"reason", it.reason},
                            {"since_unix_ms", it.since_unix_ms},
                            {"ranges", it.rows.all() ? boost::json::value(nullptr)
                                                     : boost::json::value(it.rows.ranges().size())},
                            {"generation", it.generation}});
    }
    boost::json::array tables;
    for (const auto& [id, dirty] : impl_->core.ledger.dirty_tables()) {
        const auto table = catalog ? catalog->table_by_id(id) : nullptr;
        tables.push_back(
            {{"table", table ? table->display_name() : std::to_string(id)}, {"dirty", dirty}});
    }
    return {{"in_flight", stats.in_flight},
            {"limbo", stats.limbo},
            {"dirty", stats.dirty},
            {"suspect_tables", stats.suspect_tables},
            {"journaled_total", stats.journaled_total},
            {"batches_total", stats.journal_batches_total},
            {"mean_batch", stats.journal_batches_total == 0
                               ? 0.0
                               : static_cast<double>(stats.journal_requests_total) /
                                     static_cast<double>(stats.journal_batches_total)},
            {"bytes", stats.journal_bytes},
            {"collapsed_writes_total", stats.collapsed_writes_total},
            {"collapsed_dirty_total", stats.collapsed_dirty_total},
            {"errors_total", stats.journal_errors_total},
            {"repaired_total", stats.repaired_total},
            {"oldest_in_flight_ms", stats.oldest_in_flight.count()},
            {"oldest_dirty_ms", stats.oldest_dirty.count()},
            {"max_dirty_keys", impl_->core.config.journal.max_dirty_keys},
            {"dirty_tables", std::move(tables)},
            {"failed", stats.journal_failed},
            {"durability", impl_->core.config.durability},
            {"dirty_sample", std::move(sample)},
            {"suspects", std::move(suspects)}};
}

boost::json::array Control::sessions() {
    boost::json::array all;
    if (Fleet* fleet = impl_->core.fleet()) {
        for (const SessionInfo& session : fleet->sessions()) {
            all.push_back(to_json(session, impl_->core.breaker.allows()));
        }
    }
    return all;
}

}  // namespace banyan::router
