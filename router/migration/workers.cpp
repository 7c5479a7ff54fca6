#include "router/migration/workers.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>

#include "router/migration/clock.hpp"
#include "router/model/mutant.hpp"
#include "router/model/sync_point.hpp"
#include "router/sync/recovery.hpp"

namespace banyan::router {
namespace {

using namespace std::chrono_literals;

constexpr auto keeper_interval = 200ms;
constexpr auto reload_debounce = 100ms;
constexpr auto reload_retry = 1s;
constexpr auto reload_while_different = 2s;  ///< the operator may be mending the mirror's schema
constexpr auto recovery_patience = 2s;  ///< of one attempt
constexpr const char* done_setting = "backfill_done_unix_ms";
constexpr const char* mappings_setting = "mappings";

/// The rules as one text: rows that other rules made are not to be trusted.
std::string text_of(const std::vector<MappingRule>& rules) {
    std::string text;
    for (const MappingRule& rule : rules) {
        text += rule.name() + " where " + rule.where.sql;
        for (const auto& [column, value] : rule.columns) {
            text += "; " + column + " = " + value.sql;
        }
        for (const auto& [column, value] : rule.reverse) {
            text += "; reverse " + column + " = " + value.sql;
        }
        text += "\n";
    }
    return text;
}

// What the target already held when mirroring began is not known: the backfill does not touch rows
// that exist. So every table is verified, with repair, once its copy is complete. Marked whenever a
// copy begins or goes on: a kill may have come between the phase's becoming durable and the marks.
void mark_unverified(Core& core) {
    std::vector<SuspectMark> marks;
    for (const auto& table : core.catalog()->tables()) {
        if (table->captured()) {
            marks.push_back({table->id, "not verified since the backfill"});
        }
    }
    core.ledger.mark_suspect(marks);
}

}  // namespace

Workers::Workers(Core& core) : core_(core) {
    const std::string done = core_.store.setting(done_setting);
    backfill_done_unix_ms_ = std::strtoll(done.c_str(), nullptr, 10);
}

Workers::~Workers() {
    stop();
}

void Workers::start() {
    taken_up_ = !mirrors(core_.phase());
    if (taken_up_) {
        core_.ledger.forget_all();  // a kill may have come before the end of mirroring did so
        core_.db.machine_crash_handled();
    } else {
        note_changed_mappings();
        if (core_.db.machine_crashed()) {
            // Marked again when mirroring is taken up; but until then no gate may open.
            core_.ledger.mark_suspect({{0, "machine_crash"}});
        }
    }
    keeper_ = std::thread([this] { keep(); });
}

void Workers::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    if (keeper_.joinable()) {
        keeper_.join();
    }
    const std::lock_guard lock(workers_mutex_);
    if (backfill_) {
        backfill_->stop();
    }
    if (repair_) {
        repair_->stop();
    }
}

void Workers::request_reload() {
    {
        const std::lock_guard lock(mutex_);
        reload_ = true;
    }
    wake_.notify_all();
}

void Workers::keep() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
        wake_.wait_for(lock, keeper_interval, [this] { return stopping_ || reload_; });
        if (stopping_) {
            return;
        }
        const bool reload = std::exchange(reload_, false);
        const bool missing = mirrors(core_.phase()) && core_.catalog() == nullptr;
        if (!reload && !missing && look_again()) {
            lock.unlock();
            if (auto read = core_.read_catalog(primary_of(core_.phase()));
                read && core_.differs(**read)) {
                core_.install_catalog_if_current(std::move(*read));
            }
            lock.lock();
        }
        if ((reload || missing) && mirrors(core_.phase())) {
            // DDL comes in bursts.
            wake_.wait_for(lock, reload_debounce, [this] { return stopping_; });
            reload_ = false;
            lock.unlock();
            load_catalog_again();
            lock.lock();
        }
        if (!taken_up_ && core_.catalog() != nullptr) {
            lock.unlock();
            take_up_mirroring();
            lock.lock();
        }
        lock.unlock();
        note_backfill();
        lock.lock();
    }
}

// The mirror's schema is brought up to date behind Banyan's back.
bool Workers::look_again() {
    const auto now = std::chrono::steady_clock::now();
    const auto catalog = core_.catalog();
    if (now < next_look_ || catalog == nullptr || !mirrors(core_.phase())) {
        return false;
    }
    next_look_ = now + reload_while_different;
    return std::any_of(catalog->tables().begin(), catalog->tables().end(), [](const auto& table) {
        return table->not_captured_because == "not_on_mirror" ||
               table->not_captured_because == "columns_differ" ||
               table->not_captured_because == "key_differs";
    });
}

bool Workers::load_catalog_once() {
    const Side primary = primary_of(core_.phase());
    auto catalog = core_.read_catalog(primary);
    if (catalog && core_.deep_capture() && complete_capture(**catalog)) {
        catalog = core_.read_catalog(primary);
    }
    if (catalog) {
        core_.install_catalog_if_current(std::move(*catalog));
        return true;
    }
    core_.catalog_failed(catalog.error().message);
    spdlog::warn("the catalogue could not be loaded: {}", catalog.error().message);
    return false;
}

void Workers::load_catalog_again() {
    if (load_catalog_once()) {
        return;
    }
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, reload_retry, [this] { return stopping_; });
    reload_ = true;
}

// Tables that DDL has made since deep capture was installed get it too. True if something may have
// changed. A table that cannot have it is tried once.
bool Workers::complete_capture(const Catalog& catalog) {
    std::vector<std::string> missing;
    for (const auto& table : catalog.tables()) {
        if (table->captured() && !table->deep) {
            missing.push_back(table->display_name());
        }
    }
    {
        const std::lock_guard lock(mutex_);
        if (missing == std::exchange(without_capture_, missing) || missing.empty()) {
            return false;
        }
    }
    for (const Side side : {Side::source, Side::target}) {
        auto connection = Connection::open(core_.endpoint(side), "banyan-capture");
        auto options = core_.capture_options();
        options.attempts = 2;
        auto state = connection ? install_capture(*connection, options)
                                : Result<CaptureState>(connection.error());
        if (!state) {
            spdlog::warn("deep capture of new tables on the {}: {}", to_string(side),
                         state.error().message);
        }
    }
    return true;
}

// A procedure that had committed when Banyan died has left its records: nobody knows more of those
// rows than their tables.
void Workers::forget_captured_rows() {
    const Side primary = primary_of(core_.phase());
    auto connection = Connection::open(core_.endpoint(primary), "banyan-capture");
    auto left = connection ? forget_left_rows(*connection)
                           : Result<std::vector<std::uint32_t>>(connection.error());
    const auto catalog = core_.catalog();
    if (!left || catalog == nullptr) {
        spdlog::warn("records of deep capture left behind could not be read");
        return;
    }
    std::vector<SuspectMark> marks;
    for (const auto relation : *left) {
        if (const auto table = catalog->table_by_oid(catalog->root_of(relation))) {
            marks.push_back({table->id, "recovered"});
        }
    }
    core_.ledger.mark_suspect(marks);
}

// R15: what the dead process's backends were doing must have ended before repair reads a row.
Result<void> Workers::wait_for_orphans() {
    for (const Side side : {Side::source, Side::target}) {
        auto connection = Connection::open(core_.endpoint(side), "banyan-recovery");
        if (!connection) {
            return connection.error();
        }
        BANYAN_TRY(wait_for_older_transactions(
            *connection, recovery_patience,
            recovering_since_.at(static_cast<std::size_t>(side))));
    }
    return {};
}

void Workers::take_up_mirroring() {
    sync_point(SyncPoint::recovering);
    auto recovered = mutant("recovery_does_not_wait") ? Result<void>() : wait_for_orphans();
    {
        const std::lock_guard lock(workers_mutex_);
        recovery_error_ =
            recovered ? "" : "repair waits for recovery: " + recovered.error().message;
    }
    if (!recovered) {
        spdlog::warn("repair cannot start yet: {}", recovered.error().message);
        return;  // the keeper comes back
    }
    {
        const std::lock_guard lock(mutex_);
        if (std::exchange(taken_up_, true)) {
            return;  // a transition has ended mirroring meanwhile
        }
    }
    if (core_.deep_capture()) {
        forget_captured_rows();
    }
    if (core_.db.machine_crashed()) {
        std::vector<SuspectMark> marks;
        for (const auto& table : core_.catalog()->tables()) {
            marks.push_back({table->id, "machine_crash"});
        }
        core_.ledger.mark_suspect(marks);
        core_.db.machine_crash_handled();
    }
    sync_point(SyncPoint::recovered);
    start_workers(backfill_done_unix_ms_ == 0);
}

std::unique_ptr<Backfill> Workers::make_backfill() {
    return std::make_unique<Backfill>(BackfillContext{
        core_.config, core_.ledger, core_.breaker, [this]() -> std::shared_ptr<const Catalog> {
            auto catalog = core_.catalog();
            return catalog != nullptr && catalog->side == Side::source ? catalog : nullptr;
        }});
}

void Workers::start_workers(bool with_backfill) {
    if (with_backfill) {
        mark_unverified(core_);
    }
    const std::lock_guard lock(workers_mutex_);
    repair_ = std::make_shared<Repair>(RepairContext{core_.config, core_.ledger, core_.breaker,
                                                     [this] { return core_.phase(); },
                                                     [this] { return core_.catalog(); },
                                                     [this] { return application_waits(); }});
    repair_->start();
    if (with_backfill) {
        backfill_ = make_backfill();
        backfill_->start();
    }
}

ApplicationWaits Workers::application_waits() const {
    Fleet* fleet = core_.fleet();
    if (fleet == nullptr) {
        return {};
    }
    return {fleet->counter_total(Counter::mirror_wait_microseconds),
            fleet->counter_total(Counter::mirror_waits_answered) +
                fleet->counter_total(Counter::mirror_waits_slow)};
}

Result<void> Workers::forget_backfill() {
    backfill_done_unix_ms_ = 0;
    if (!core_.store.set_setting(done_setting, "0")) {
        return Error{"the state database cannot be written", ""};
    }
    return make_backfill()->reset();
}

// The configuration may have been changed while Banyan was down. For every table: the catalogue is
// not there yet, and no gate may open before the marks are.
void Workers::note_changed_mappings() {
    const std::string rules = text_of(core_.config.mappings);
    if (core_.store.setting(mappings_setting) != rules) {
        core_.ledger.mark_suspect({{0, "mapping changed"}});
        core_.store.set_setting(mappings_setting, rules);
    }
}

void Workers::begin_mirroring() {
    core_.store.set_setting(mappings_setting, text_of(core_.config.mappings));
    start_workers(true);
    const std::lock_guard lock(mutex_);
    taken_up_ = true;
}

Result<void> Workers::end_mirroring() {
    std::shared_ptr<Repair> repair;
    std::shared_ptr<Backfill> backfill;
    {
        const std::lock_guard lock(workers_mutex_);
        repair = std::move(repair_);
        backfill = std::move(backfill_);
    }
    if (repair) {
        repair->stop();
    }
    if (backfill) {
        backfill->stop();
    }
    {
        const std::lock_guard lock(mutex_);
        taken_up_ = true;  // nothing is left to take up
    }
    sync_point(SyncPoint::workers_stopped);
    core_.install_catalog(nullptr);
    core_.ledger.forget_all();
    sync_point(SyncPoint::forgotten);
    backfill_done_unix_ms_ = 0;
    core_.store.set_setting(done_setting, "0");
    return backfill ? backfill->reset() : make_backfill()->reset();
}

void Workers::pause_repair() {
    std::shared_ptr<Repair> repair;
    {
        const std::lock_guard lock(workers_mutex_);
        repair = repair_;
    }
    if (repair) {
        repair->pause();
    }
}

void Workers::resume_repair() {
    const std::lock_guard lock(workers_mutex_);
    if (repair_) {
        repair_->resume();
    }
}

RepairStatus Workers::repair_status() const {
    const std::lock_guard lock(workers_mutex_);
    RepairStatus status;
    status.last_error = recovery_error_;
    if (repair_) {
        status = {true, repair_->repaired(), repair_->requeued(), repair_->last_error(),
                  repair_->progress()};
    }
    return status;
}

void Workers::note_backfill() {
    std::int64_t at = 0;
    {
        const std::lock_guard lock(workers_mutex_);
        if (backfill_done_unix_ms_ != 0 || !backfill_ || !backfill_->done()) {
            return;
        }
        at = backfill_->progress().finished_unix_ms;
    }
    at = at != 0 ? at : unix_ms();
    if (core_.store.set_setting(done_setting, std::to_string(at))) {
        backfill_done_unix_ms_ = at;
    }
}

bool Workers::backfill_done() const {
    return backfill_done_unix_ms_ != 0;
}

std::int64_t Workers::backfill_done_unix_ms() const {
    return backfill_done_unix_ms_;
}

BackfillProgress Workers::backfill_progress() const {
    const std::lock_guard lock(workers_mutex_);
    if (backfill_) {
        return backfill_->progress();
    }
    BackfillProgress progress;
    progress.state = backfill_done_unix_ms_ != 0 ? "done" : "idle";
    progress.finished_unix_ms = backfill_done_unix_ms_;
    return progress;
}

bool Workers::backfill_action(const std::string& action) {
    const std::lock_guard lock(workers_mutex_);
    if (!backfill_) {
        return false;
    }
    if (action == "start") {
        backfill_->start();
    } else if (action == "pause") {
        backfill_->pause();
    } else {
        backfill_->resume();
    }
    return true;
}

}  // namespace banyan::router
