#include "router/migration/doctor.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "router/migration/clock.hpp"
#include "router/preflight/drift.hpp"
#include "router/preflight/snapshot.hpp"

namespace banyan::router {
namespace {

using namespace std::chrono_literals;

// As often as it costs little: a look takes milliseconds, or seconds with very many objects.
constexpr auto look_interval = 15s;
constexpr int share_of_time = 100;
constexpr auto glance = 1s;  // has mirroring begun?
constexpr auto fresh_enough = 5s;
constexpr std::size_t most_subjects = 20;

}  // namespace

Doctor::~Doctor() {
    stop();
}

void Doctor::start() {
    thread_ = std::thread([this] { work(); });
}

void Doctor::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) {
        thread_.join();
    }
}

DriftStatus Doctor::drift() const {
    const std::lock_guard lock(mutex_);
    return drift_;
}

void Doctor::work() {
    using Clock = std::chrono::steady_clock;
    Clock::time_point next;
    std::unique_lock lock(mutex_);
    while (!wake_.wait_for(lock, glance, [this] { return stopping_; })) {
        if (!mirrors(core_.phase()) || core_.lost()) {
            next = Clock::time_point();
            continue;
        }
        const auto begin = Clock::now();
        if (begin < next) {
            continue;
        }
        lock.unlock();
        look();
        lock.lock();
        next = Clock::now() + std::max<Clock::duration>(
                                  look_interval, (Clock::now() - begin) * share_of_time);
    }
}

PreflightInput Doctor::examine() {
    PreflightInput input;
    for (const Side side : {Side::source, Side::target}) {
        auto connection = Connection::open(core_.endpoint(side), "banyan-preflight");
        auto& error = side == Side::source ? input.source_error : input.target_error;
        auto& snapshot = side == Side::source ? input.source : input.target;
        if (connection) {
            snapshot = preflight_snapshot(*connection);
        } else {
            error = connection.error().message;
        }
    }
    const auto config = core_.config.latest();
    input.excluded = {config->migration.exclude.begin(), config->migration.exclude.end()};
    for (const auto& rule : config->mappings) {
        input.mapped.insert(rule.source.text());
        input.mapped.insert(rule.target.text());
    }
    input.max_clients = config->limits.max_clients;
    return input;
}

void Doctor::look() {
    const PreflightInput input = examine();
    DriftStatus status;
    status.checked_unix_ms = unix_ms();
    if (!input.source.contains("objects") || !input.target.contains("objects")) {
        const std::lock_guard lock(mutex_);
        drift_.checked_unix_ms = status.checked_unix_ms;
        drift_.error = "Not both schemas could be read. " + input.source_error + input.target_error;
        return;
    }
    for (const auto& finding : router::preflight(input)) {
        if (finding.name != "schema_drift" || finding.severity < Severity::warn) {
            continue;
        }
        (finding.severity == Severity::block ? status.blocks : status.warnings) += 1;
        if (status.subjects.size() < most_subjects) {
            status.subjects.push_back(finding.subject);
        }
    }
    const std::lock_guard lock(mutex_);
    if (status.blocks + status.warnings > drift_.blocks + drift_.warnings) {
        spdlog::warn("the two schemas have drifted apart in {} places, the first: {}",
                     status.blocks + status.warnings, status.subjects.front());
    }
    drift_ = std::move(status);
}

boost::json::object Doctor::preflight() {
    const std::lock_guard one(preflight_mutex_);
    if (!last_.empty() && std::chrono::steady_clock::now() - last_at_ < fresh_enough) {
        return last_;
    }
    PreflightInput input = examine();
    // The catalogue knows what it makes of each table, but compares two.
    auto catalog = core_.catalog();
    if (!catalog && !input.source.empty() && !input.target.empty()) {
        if (auto read = core_.read_catalog(primary_of(core_.phase())); read) {
            catalog = std::move(*read);
        } else {
            input.source["errors"].as_object()["catalogue"] = read.error().message;
        }
    }
    if (catalog) {
        input.not_captured.emplace();
        for (const auto& table : catalog->tables()) {
            if (!table->captured()) {
                input.not_captured->emplace_back(table->display_name(),
                                                 table->not_captured_because);
            }
        }
        input.mapping_problems = catalog->mapping_problems;
    }
    last_ = to_json(router::preflight(input));
    last_["checked_unix_ms"] = unix_ms();
    last_at_ = std::chrono::steady_clock::now();
    return last_;
}

}  // namespace banyan::router
