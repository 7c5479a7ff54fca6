#include "router/migration/enter.hpp"

#include <openssl/rand.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <thread>

#include "router/lease/table.hpp"
#include "router/migration/audit.hpp"
#include "router/migration/clock.hpp"
#include "router/migration/store.hpp"

namespace banyan::router {
namespace {

using namespace std::chrono_literals;

constexpr auto look_interval = 500ms;
constexpr const char* holder_setting = "lease_holder";
constexpr const char* unwritable = "the state database cannot be written";

std::string host_name() {
    std::array<char, 256> name{};
    return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "?";
}

Result<LeaseOwner> owner_of(StateDb& db, MigrationStore& store) {
    LeaseOwner own;
    own.holder = store.setting(holder_setting);
    if (own.holder.empty()) {
        own.holder = random_id();
        if (!store.set_setting(holder_setting, own.holder)) {
            return Error{unwritable, ""};
        }
    }
    const PhaseEntry phase = store.phase();
    own.migration = store.setting(lease_migration_setting);
    own.host = host_name();
    own.lock = db.lock_identity();
    own.process_id = ::getpid();
    own.epoch = std::strtoll(store.setting(lease_epoch_setting).c_str(), nullptr, 10);
    own.phase = phase.phase;
    own.phase_epoch = phase.number;
    return own;
}

/// Looks until the decision is not to wait any more. A row that is renewed meanwhile is somebody's.
Result<std::pair<LeaseDecision, LeaseViews>> settle(
    const Config& config, const std::function<LeaseDecision(const LeaseViews&)>& decide,
    const std::function<bool()>& interrupted) {
    LeaseViews views = Lease::look(config);
    LeaseDecision decision = decide(views);
    const LeaseViews first = views;
    if (decision.action == LeaseDecision::Action::wait) {
        spdlog::warn("lease: waiting for it to expire: {}", decision.why);
    }
    while (decision.action == LeaseDecision::Action::wait) {
        if (interrupted()) {
            return Error{"ended while waiting: " + decision.why, ""};
        }
        std::this_thread::sleep_for(look_interval);
        views = Lease::look(config);
        decision = decide(views);
        if (decision.action == LeaseDecision::Action::wait && renewed_between(first, views)) {
            decision.action = LeaseDecision::Action::refuse;
        }
    }
    if (decision.action == LeaseDecision::Action::refuse) {
        return Error{decision.why, ""};
    }
    return std::pair(decision, views);
}

Result<std::unique_ptr<Lease>> acquire(const Config& config, const LeaseOwner& own,
                                       Lease::How how) {
    auto lease = std::make_unique<Lease>(config, own, true);
    for (const Side side : {primary_of(own.phase), other(primary_of(own.phase))}) {
        if (const auto acquired = lease->acquire(side, how); !acquired) {
            if (lease->lost()) {
                return acquired.error();
            }
            spdlog::warn("lease: not acquired on the {} yet: {}", to_string(side),
                         acquired.error().message);
        }
    }
    return lease;
}

/// The journal of the other holder is lost: no table is to be trusted. Durable before the phase is.
Result<void> take_over_state(MigrationStore& store, Ledger& ledger, const LeaseDecision& decision,
                             const LeaseViews& views, const LeaseOwner& own) {
    if (mirrors(decision.phase)) {
        ledger.mark_suspect({{0, "lease_seized"}});
    }
    bool stored = store.set_setting(lease_migration_setting, decision.migration) &&
                  store.set_setting(lease_epoch_setting, std::to_string(decision.epoch));
    if (decision.phase == Phase::switchover) {
        // That phase is not reached without; and the target is not copied to in it.
        stored = stored &&
                 store.set_setting("backfill_done_unix_ms", std::to_string(unix_ms()));
    }
    stored = stored && store.persist_phase(own.phase, decision.phase, "lease seized", "",
                                           decision.phase_epoch);
    if (!stored) {
        return Error{unwritable, ""};
    }
    std::string from;
    for (const auto& it : views) {
        if (it.row && it.row->phase_epoch + 1 >= decision.phase_epoch) {
            from = it.row->holder + " (process " + std::to_string(it.row->process_id) + " on " +
                   it.row->host + ")";
        }
    }
    spdlog::warn("lease: seized from {}; the phase is {}; every table is verified anew", from,
                 to_string(decision.phase));
    return {};
}

/// What the other holder's process left in the databases; and whether it used deep capture.
std::int64_t clear_away(const Config& config, MigrationStore& store, const LeaseViews& views,
                        Side primary) {
    std::int64_t ended = 0;
    for (const Side side : {Side::source, Side::target}) {
        const auto& view = views.at(static_cast<std::size_t>(side));
        if (!view.row) {
            continue;
        }
        auto connection =
            Connection::open(side == Side::source ? config.source : config.target, "banyan-seize");
        if (!connection) {
            continue;
        }
        if (auto count = LeaseTable(*connection, 5s).end_backends(*view.row)) {
            ended += *count;
        } else {
            spdlog::warn("lease: left-over sessions on the {} cannot be ended; repair waits for "
                         "their transactions: {}",
                         to_string(side), count.error().message);
        }
        auto capture = connection->exec("SELECT to_regclass('banyan.captured_rows') IS NOT NULL");
        if (side == primary && capture && capture->truth(0, 0)) {
            store.set_setting("deep_capture", "on");
        }
    }
    return ended;
}

Result<std::unique_ptr<Lease>> seize_lease(const Config& config, StateDb& db, Ledger& ledger,
                                           MigrationStore& store, LeaseOwner own,
                                           const std::string& even_from,
                                           const std::function<bool()>& interrupted) {
    auto settled = settle(
        config,
        [&](const LeaseViews& views) { return decide_seize(own, views, even_from); }, interrupted);
    if (!settled) {
        return settled.error();
    }
    const auto& [decision, views] = *settled;
    const Phase before = own.phase;
    if (auto taken = take_over_state(store, ledger, decision, views, own); !taken) {
        return taken.error();
    }
    own.migration = decision.migration;
    own.epoch = decision.epoch;
    own.phase = decision.phase;
    own.phase_epoch = decision.phase_epoch;
    auto lease =
        acquire(config, own, even_from.empty() ? Lease::How::seize : Lease::How::force);
    const std::int64_t ended =
        lease ? clear_away(config, store, views, primary_of(own.phase)) : 0;
    AuditEntry entry;
    entry.at_unix_ms = unix_ms();
    entry.actor = "operator";
    entry.action = "lease.seize";
    entry.subject = own.migration;
    entry.reason = even_from.empty() ? "--seize-lease" : "--seize-lease=" + even_from;
    boost::json::object from;
    for (const auto& view : views) {
        if (view.row) {
            from = {{"holder", view.row->holder},
                    {"host", view.row->host},
                    {"process_id", view.row->process_id},
                    {"epoch", view.row->epoch},
                    {"phase", to_string(view.row->phase)}};
        }
    }
    entry.before = from;
    entry.before.as_object()["own_phase"] = to_string(before);
    entry.after = {{"holder", own.holder},
                   {"epoch", own.epoch},
                   {"phase", to_string(own.phase)},
                   {"backends_ended", ended}};
    entry.result = lease ? "ok" : lease.error().message;
    AuditLog(db).append(entry);
    return lease;
}

}  // namespace

std::string random_id() {
    std::array<unsigned char, 8> bytes{};
    RAND_bytes(bytes.data(), static_cast<int>(bytes.size()));
    constexpr std::string_view digits = "0123456789abcdef";
    std::string id;
    for (const unsigned char byte : bytes) {
        id += digits[byte >> 4U];
        id += digits[byte & 15U];
    }
    return id;
}

Result<std::unique_ptr<Lease>> enter_migration(const Config& config, StateDb& db, Ledger& ledger,
                                               const std::optional<std::string>& seize,
                                               const std::function<bool()>& interrupted) {
    MigrationStore store(db);
    auto known = owner_of(db, store);
    if (!known) {
        return known.error();
    }
    LeaseOwner own = std::move(*known);
    const auto decide = [&](const LeaseViews& views) { return decide_start(own, views); };
    if (seize) {
        const LeaseViews views = Lease::look(config);
        const bool own_already = own.phase != Phase::initial && views[0].reachable &&
                                 views[1].reachable &&
                                 decide(views).action == LeaseDecision::Action::go;
        if (!own_already) {
            return seize_lease(config, db, ledger, store, std::move(own), *seize, interrupted);
        }
        spdlog::info("lease: --seize-lease has nothing to do: it is this state directory's own");
    }
    auto settled = settle(config, decide, interrupted);
    if (!settled) {
        return settled.error();
    }
    if (own.phase == Phase::initial) {
        return std::make_unique<Lease>(config, std::move(own), false);
    }
    own.epoch = next_epoch(own, settled->second);
    if (own.migration.empty()) {
        own.migration = random_id();  // begun by a version that kept no lease
    }
    if (!store.set_setting(lease_migration_setting, own.migration) ||
        !store.set_setting(lease_epoch_setting, std::to_string(own.epoch))) {
        return Error{unwritable, ""};
    }
    return acquire(config, own, Lease::How::start);
}

}  // namespace banyan::router
