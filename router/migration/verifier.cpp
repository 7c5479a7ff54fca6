#include "router/migration/verifier.hpp"

#include <algorithm>

#include "router/migration/clock.hpp"
#include "router/model/sync_point.hpp"

namespace banyan::router {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t max_jobs = 100;
constexpr auto resolve_interval = 200ms;
constexpr auto in_flight_timeout = 2s;
constexpr auto resolve_retry = 2s;  ///< after a look that could not clear the suspicion

}  // namespace

boost::json::object to_json(const TableVerification& result) {
    boost::json::array sample;
    for (const Difference& it : result.sample) {
        boost::json::array columns;
        for (const std::string& column : it.columns) {
            columns.push_back(boost::json::string(column));
        }
        sample.push_back({{"key", it.key}, {"kind", it.kind}, {"columns", std::move(columns)}});
    }
    return {{"table", result.table},
            {"name", result.name},
            {"state", result.state},
            {"rows_compared", result.rows_compared},
            {"rows_estimated", result.rows_estimated},
            {"missing", result.missing},
            {"extra", result.extra},
            {"different", result.different},
            {"raced", result.raced},
            {"error", result.error},
            {"started_unix_ms", result.started_unix_ms},
            {"finished_unix_ms", result.finished_unix_ms},
            {"sample", std::move(sample)}};
}

Verifier::Verifier(Core& core, std::function<std::int64_t()> backfill_done_unix_ms)
    : core_(core),
      backfill_done_unix_ms_(std::move(backfill_done_unix_ms)),
      context_{core.config, core.ledger, [&core] { return core.phase(); },
               [&core] { return core.catalog(); }},
      results_(core.store.verification_results()) {}

Verifier::~Verifier() {
    stop();
}

void Verifier::start() {
    worker_ = std::thread([this] { work(); });
    resolver_ = std::thread([this] { resolve(); });
}

void Verifier::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        cancel_resolver_ = true;
        for (const auto& job : jobs_) {
            *job->cancel = true;
        }
    }
    wake_.notify_all();
    for (std::thread* thread : {&worker_, &resolver_}) {
        if (thread->joinable()) {
            thread->join();
        }
    }
}

std::string Verifier::id_of(const Job& job) {
    const std::string digits = std::to_string(job.number);
    return "v-" + std::string(digits.size() < 6 ? 6 - digits.size() : 0, '0') + digits;
}

boost::json::object Verifier::to_json(const Job& job) {
    boost::json::array tables;
    for (const TableVerification& table : job.tables) {
        tables.push_back(router::to_json(table));
    }
    const auto time = [](std::int64_t at) {
        return at == 0 ? boost::json::value(nullptr) : boost::json::value(at);
    };
    return {{"id", id_of(job)},
            {"state", job.state},
            {"repair", job.repair},
            {"actor", job.actor},
            {"created_unix_ms", job.created_unix_ms},
            {"started_unix_ms", time(job.started_unix_ms)},
            {"finished_unix_ms", time(job.finished_unix_ms)},
            {"tables", std::move(tables)}};
}

std::string Verifier::overall(const Job& job) {
    for (const char* state : {"stopped", "failed", "different", "inconclusive"}) {
        if (std::any_of(job.tables.begin(), job.tables.end(),
                        [&](const TableVerification& it) { return it.state == state; })) {
            return state;
        }
    }
    return "equal";
}

Verifier::Job* Verifier::find_locked(const std::string& id) {
    const auto it = std::find_if(jobs_.begin(), jobs_.end(),
                                 [&](const auto& job) { return id_of(*job) == id; });
    return it == jobs_.end() ? nullptr : it->get();
}

Result<boost::json::object> Verifier::create(const std::vector<std::string>& names, bool repair,
                                             const std::string& actor) {
    const auto catalog = core_.catalog();
    if (catalog == nullptr) {
        return Error{"No catalogue is loaded: nothing is being mirrored.", ""};
    }
    auto job = std::make_unique<Job>();
    const auto add = [&](const Table& table) {
        TableVerification it;
        it.table = table.id;
        it.name = table.display_name();
        it.state = "pending";
        job->tables.push_back(std::move(it));
    };
    for (const auto& table : catalog->tables()) {
        if (names.empty() && table->captured()) {
            add(*table);
        }
    }
    for (const std::string& name : names) {
        bool found = false;
        for (const auto& table : catalog->tables()) {
            if (table->display_name() != name && table->schema + "." + table->name != name &&
                (table->schema != "public" || table->name != name)) {
                continue;
            }
            if (!table->captured()) {
                return Error{name + " cannot be verified: " + table->not_captured_because + ".", ""};
            }
            found = true;
            add(*table);
        }
        if (!found) {
            return Error{"There is no table " + name + ".", ""};
        }
    }
    job->repair = repair;
    job->actor = actor;
    job->created_unix_ms = unix_ms();
    const std::lock_guard lock(mutex_);
    job->number = ++last_number_;
    const boost::json::object json = to_json(*job);
    jobs_.push_back(std::move(job));
    while (jobs_.size() > max_jobs && jobs_.front()->finished_unix_ms != 0) {
        jobs_.pop_front();
    }
    wake_.notify_all();
    return json;
}

std::optional<boost::json::object> Verifier::stop_one(const std::string& id) {
    const std::lock_guard lock(mutex_);
    Job* job = find_locked(id);
    if (job == nullptr) {
        return std::nullopt;
    }
    *job->cancel = true;
    if (job->state == "queued") {
        job->state = "stopped";
        job->finished_unix_ms = unix_ms();
    }
    return to_json(*job);
}

boost::json::array Verifier::all() const {
    const std::lock_guard lock(mutex_);
    boost::json::array array;
    for (auto it = jobs_.rbegin(); it != jobs_.rend(); ++it) {
        array.push_back(to_json(**it));
    }
    return array;
}

std::optional<boost::json::object> Verifier::one(const std::string& id) const {
    const std::lock_guard lock(mutex_);
    for (const auto& job : jobs_) {
        if (id_of(*job) == id) {
            return to_json(*job);
        }
    }
    return std::nullopt;
}

std::string Verifier::running() const {
    const std::lock_guard lock(mutex_);
    for (const auto& job : jobs_) {
        if (job->state == "running") {
            return id_of(*job);
        }
    }
    return {};
}

std::vector<VerifiedTable> Verifier::verified(const Catalog& catalog,
                                              std::int64_t backfill_unix_ms) const {
    const std::lock_guard lock(mutex_);
    std::vector<VerifiedTable> tables;
    for (const auto& table : catalog.tables()) {
        if (!table->captured()) {
            continue;
        }
        VerifiedTable it;
        it.name = table->display_name();
        if (const auto found = results_.find(table->id); found != results_.end()) {
            const auto* state = found->second.if_contains("state");
            const auto* at = found->second.if_contains("finished_unix_ms");
            it.finished_unix_ms =
                at != nullptr && at->is_number() ? at->to_number<std::int64_t>() : 0;
            // Not by comparing times: the wall clock may have jumped in between.
            const auto* name = found->second.if_contains("backfill_unix_ms");
            const std::int64_t behind =
                name != nullptr && name->is_number() ? name->to_number<std::int64_t>() : 0;
            const bool since = behind != 0 ? behind == backfill_unix_ms
                                           : it.finished_unix_ms >= backfill_unix_ms;
            if (since && state != nullptr && state->is_string()) {
                it.state = state->as_string();
            }
        }
        tables.push_back(std::move(it));
    }
    return tables;
}

std::map<TableId, boost::json::object> Verifier::results() const {
    const std::lock_guard lock(mutex_);
    return results_;
}

void Verifier::interrupt() {
    const std::lock_guard lock(mutex_);
    interrupted_ = true;
    cancel_resolver_ = true;
    for (const auto& job : jobs_) {
        if (job->state == "running") {
            *job->cancel = true;
        }
    }
}

void Verifier::resume() {
    const std::lock_guard lock(mutex_);
    interrupted_ = false;
    cancel_resolver_ = stopping_;
    wake_.notify_all();
}

void Verifier::forget() {
    const std::lock_guard lock(mutex_);
    results_.clear();
    core_.store.forget_verifications();
    for (const auto& job : jobs_) {
        *job->cancel = true;
        if (job->state == "queued") {
            job->state = "stopped";
            job->finished_unix_ms = unix_ms();
        }
    }
}

void Verifier::work() {
    std::unique_lock lock(mutex_);
    const auto next = [this]() -> Job* {
        const auto it = std::find_if(jobs_.begin(), jobs_.end(),
                                     [](const auto& job) { return job->state == "queued"; });
        return interrupted_ || it == jobs_.end() ? nullptr : it->get();
    };
    while (!stopping_) {
        if (Job* job = next()) {
            run(*job, lock);
        } else {
            wake_.wait(lock);
        }
    }
}

// A running job is never removed from the queue, so the reference holds while the lock is not held.
void Verifier::run(Job& job, std::unique_lock<std::mutex>& lock) {
    job.state = "running";
    job.started_unix_ms = unix_ms();
    const auto cancel = job.cancel;
    for (std::size_t i = 0; i < job.tables.size(); ++i) {
        const auto catalog = core_.catalog();
        const auto table = catalog == nullptr ? nullptr : catalog->table_by_id(job.tables[i].table);
        if (*cancel || table == nullptr) {
            job.tables[i].state = *cancel ? "stopped" : "failed";
            job.tables[i].error = *cancel ? "" : "The table is gone.";
            continue;
        }
        job.tables[i].state = "running";
        lock.unlock();
        TableVerification result = verify(
            *table, Scope::table, job.repair,
            [&](const TableVerification& sofar) {
                const std::lock_guard progress(mutex_);
                job.tables[i] = sofar;
            },
            *cancel);
        lock.lock();
        job.tables[i] = std::move(result);
    }
    job.state = overall(job);
    job.finished_unix_ms = unix_ms();
}

TableVerification Verifier::verify(const Table& table, Scope scope, bool repair,
                                   const std::function<void(const TableVerification&)>& progress,
                                   const std::atomic<bool>& cancel) {
    // The generation is read before the first row: what is marked later stays marked. And before the
    // first row whoever was in flight then has ended: a row that the marking transaction met on the
    // primary may still be on its way to the mirror, where no comparison would see it come (R11).
    const std::int64_t backfill = backfill_done_unix_ms_();
    const auto suspect = core_.ledger.suspect(table.id);
    const bool ended = !suspect || core_.ledger.wait_in_flight(in_flight_timeout);
    const KeyRanges rows =
        scope == Scope::suspect_rows && suspect ? suspect->rows : KeyRanges();
    TableVerification result = verify_table(context_, table, repair, progress, cancel, rows);
    sync_point(SyncPoint::verified);
    if (result.state == "equal" && suspect && ended) {
        core_.ledger.clear_suspect(table.id, suspect->generation);
    }
    if (rows.all()) {
        remember(result, backfill);  // the gates ask for whole tables
    }
    return result;
}

void Verifier::remember(const TableVerification& result, std::int64_t backfill_unix_ms) {
    if (result.state != "equal" && result.state != "different" && result.state != "inconclusive") {
        return;
    }
    const std::lock_guard lock(mutex_);
    boost::json::object& json = results_[result.table] = router::to_json(result);
    json["backfill_unix_ms"] = backfill_unix_ms;
    core_.store.save_verification(result.table, results_[result.table]);
}

void Verifier::resolve() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
        wake_.wait_for(lock, resolve_interval);
        if (stopping_ || interrupted_) {
            continue;
        }
        lock.unlock();
        if (mirrors(core_.phase()) && core_.breaker.allows() && backfill_done_unix_ms_() != 0) {
            for (const SuspectTable& suspect : core_.ledger.suspects()) {
                if (cancel_resolver_) {
                    break;
                }
                const auto now = std::chrono::steady_clock::now();
                if (const auto it = retry_at_.find(suspect.table);
                    it != retry_at_.end() && it->second > now) {
                    continue;
                }
                if (!resolve_one(suspect)) {
                    retry_at_[suspect.table] = std::chrono::steady_clock::now() + resolve_retry;
                }
            }
        }
        lock.lock();
    }
}

// True if another look may come soon: either it is clear, or the differences are being repaired.
bool Verifier::resolve_one(const SuspectTable& suspect) {
    const auto catalog = core_.catalog();
    if (catalog == nullptr || suspect.table == 0) {
        return false;
    }
    const auto table = catalog->table_by_id(suspect.table);
    if (table == nullptr) {
        // Dropped, or excluded by the configuration since.
        return core_.ledger.clear_suspect(suspect.table, suspect.generation);
    }
    if (!table->captured()) {
        return false;
    }
    const TableVerification result = verify(
        *table, Scope::suspect_rows, true, [](const TableVerification&) {}, cancel_resolver_);
    return result.state == "equal" || result.state == "different";
}

}  // namespace banyan::router
