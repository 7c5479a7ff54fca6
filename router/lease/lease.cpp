#include "router/lease/lease.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <ctime>
#include <limits>

#include "router/lease/table.hpp"
#include "router/model/mutant.hpp"

namespace banyan::router {
namespace {

using namespace std::chrono_literals;

constexpr auto record_timeout = 2s;
constexpr auto look_timeout = 2s;
constexpr auto retry_interval = 1000ms;

// Goes on while the process is stopped or the machine sleeps.
std::int64_t now_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_BOOTTIME, &now);
    return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

std::string utc_now() {
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    ::gmtime_r(&now, &parts);
    std::array<char, 32> text{};
    std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S+00", &parts);
    return text.data();
}

std::size_t index(Side side) {
    return static_cast<std::size_t>(side);
}

Endpoint endpoint_of(const Config& config, Side side, std::chrono::milliseconds longest) {
    Endpoint endpoint = side == Side::source ? config.source : config.target;
    endpoint.connect_timeout = std::min(endpoint.connect_timeout, longest);
    return endpoint;
}

}  // namespace

Lease::Lease(const Config& config, LeaseOwner owner, bool held)
    : config_(config),
      ttl_(config.lease.ttl),
      started_at_(utc_now()),
      mode_(held ? Mode::held : Mode::idle),
      owner_(std::move(owner)),
      validity_(ttl_) {
    validity_.phase(owner_.phase, owner_.phase_epoch, true);
    recorded_.fill({owner_.phase, owner_.phase_epoch});
    update_validity_locked();
}

Lease::~Lease() {
    stop();
}

LeaseViews Lease::look(const Config& config) {
    LeaseViews views;
    for (const Side side : {Side::source, Side::target}) {
        LeaseView& view = views.at(index(side));
        auto connection = Connection::open(endpoint_of(config, side, look_timeout), "banyan-lease");
        auto row = connection ? LeaseTable(*connection, look_timeout).read()
                              : Result<std::optional<LeaseRow>>(connection.error());
        view.reachable = row.has_value();
        if (row) {
            view.row = std::move(*row);
        } else {
            view.error = row.error().message;
        }
    }
    return views;
}

void Lease::start(Callbacks callbacks) {
    callbacks_ = std::move(callbacks);
    for (const Side side : {Side::source, Side::target}) {
        keeper(side).thread = std::thread([this, side] { keep(side); });
    }
}

void Lease::stop() {
    {
        const std::lock_guard lock(mutex_);
        if (std::exchange(stopping_, true)) {
            return;
        }
    }
    wake_.notify_all();
    for (const Side side : {Side::source, Side::target}) {
        Keeper& it = keeper(side);
        if (it.thread.joinable()) {
            it.thread.join();
        }
        // Over what is open already: an end must not wait for a server that is away.
        if (mode_ == Mode::held && it.acquired && it.connection) {
            LeaseTable(*it.connection, ttl_ / 6).release(row_of(side));
        }
        it.connection.reset();
    }
}

void Lease::keep(Side side) {
    std::uint64_t seen = 0;
    bool well = false;
    for (;;) {
        {
            std::unique_lock lock(mutex_);
            const auto pause = well ? ttl_ / 3 : std::min(ttl_ / 3, retry_interval);
            wake_.wait_for(lock, pause, [&] { return stopping_ || woken_ != seen; });
            seen = woken_;
            if (stopping_) {
                return;
            }
        }
        if (mode_ == Mode::lost) {
            return;
        }
        const bool held = mode_ == Mode::held;
        if (held) {
            well = renew(side);
        } else {
            watch(side);
            well = true;
        }
    }
}

// INITIAL keeps no lease, but must notice that somebody else has begun.
void Lease::watch(Side side) {
    Keeper& it = keeper(side);
    const std::lock_guard guard(it.mutex);
    if (mode_ != Mode::idle) {
        return;
    }
    it.connection.reset();
    auto connection = Connection::open(endpoint_of(config_, side, ttl_ / 6), "banyan-lease");
    if (!connection) {
        return;
    }
    LeaseTable table(*connection, ttl_ / 6);
    const auto row = table.read();
    if (!row || !*row) {
        return;
    }
    const LeaseOwner own = owner();
    if ((*row)->holder == own.holder && (*row)->epoch <= own.epoch) {
        table.remove(row_of(side));  // left behind when INITIAL was gone back to
    } else if (const Standing found = standing(own, side, **row);
               (*row)->phase != Phase::initial &&
               (found == Standing::foreign || found == Standing::foreign_live)) {
        lose(describe(found, own, side, **row));
    }
}

bool Lease::renew(Side side) {
    Keeper& it = keeper(side);
    const std::lock_guard guard(it.mutex);
    if (mode_ != Mode::held) {
        return true;
    }
    // A connection that broke while nobody used it says nothing about the server.
    const bool had_connection = it.connection.has_value();
    auto written = write_locked(side, How::start);
    if (!written && had_connection && mode_ == Mode::held) {
        written = write_locked(side, How::start);
    }
    const std::lock_guard lock(mutex_);
    auto& error = renewals_.at(index(side)).error;
    if (!written && error != written.error().message) {
        spdlog::warn("lease: not renewed on the {}: {}", to_string(side), written.error().message);
    }
    error = written ? "" : written.error().message;
    return written.has_value();
}

Result<void> Lease::acquire(Side side, How how) {
    Keeper& it = keeper(side);
    const std::lock_guard guard(it.mutex);
    return write_locked(side, how);
}

Result<Connection*> Lease::connected(Keeper& keeper, Side side) {
    if (!keeper.connection || !keeper.connection->alive()) {
        keeper.connection.reset();
        auto opened = Connection::open(endpoint_of(config_, side, ttl_ / 6), "banyan-lease");
        if (!opened) {
            return opened.error();
        }
        keeper.connection.emplace(std::move(*opened));
        // The server gives up soon after this side has: a renewal in a queue helps nobody.
        BANYAN_TRY(exec_within(*keeper.connection,
                               "SELECT set_config('statement_timeout', $1, false)",
                               {Param::number(ttl_.count() / 3)}, ttl_ / 6));
    }
    return &*keeper.connection;
}

// Before the first write: may it be made? True: only over a row that is not live. An Error where the
// lease is not lost is a reason to try again.
Result<bool> Lease::judge(LeaseTable& table, Side side, How how) {
    auto row = table.read();
    BANYAN_TRY(row);
    if (!*row || how == How::force) {
        return false;
    }
    const LeaseOwner own = owner();
    const Standing found = standing(own, side, **row);
    const bool follows = primary_acquired_ && side != primary_of(own.phase);
    // The primary decides: what a mirror that was away still says of an earlier epoch is over.
    if (found == Standing::ours || (follows && (*row)->epoch < own.epoch)) {
        return false;
    }
    if (how == How::seize || found == Standing::nothing) {
        return true;
    }
    if (found != Standing::ours_live) {
        lose(describe(found, own, side, **row));
    }
    return Error{describe(found, own, side, **row), ""};
}

Result<void> Lease::write_locked(Side side, How how) {
    Keeper& it = keeper(side);
    auto connection = connected(it, side);
    BANYAN_TRY(connection);
    LeaseTable table(**connection, ttl_ / 6);
    const auto give_up = [&](const Error& error) {
        it.connection.reset();
        return error;
    };
    bool if_expired = false;
    if (!it.acquired) {
        const auto judged = judge(table, side, how);
        if (!judged) {
            return give_up(judged.error());
        }
        if_expired = *judged;
    }
    const LeaseRow row = row_of(side);
    const std::int64_t sent_at = now_ns();
    const auto written = table.write(row, if_expired);
    if (!written) {
        return give_up(written.error());
    }
    if (!*written) {
        const auto there = table.read();
        const Standing found =
            there && *there ? standing(owner(), side, **there) : Standing::nothing;
        lose(found == Standing::ours || found == Standing::nothing
                 ? "the lease on the " + std::string(to_string(side)) + " changes hands"
                 : describe(found, owner(), side, **there));
        return Error{"the lease is lost", ""};
    }
    it.acquired = true;
    confirm(side, **written, sent_at);
    return {};
}

LeaseRow Lease::row_of(Side side) const {
    LeaseRow row;
    if (callbacks_.backends) {
        row.backends = callbacks_.backends(side);
    }
    const std::lock_guard lock(mutex_);
    row.migration = owner_.migration;
    row.side = side;
    row.holder = owner_.holder;
    row.host = owner_.host;
    row.lock = owner_.lock;
    row.process_id = owner_.process_id;
    row.started_at = started_at_;
    row.epoch = owner_.epoch;
    row.phase = recorded_.at(index(side)).phase;
    row.phase_epoch = recorded_.at(index(side)).number;
    row.ttl_ms = ttl_.count();
    return row;
}

void Lease::confirm(Side side, std::int64_t phase_epoch, std::int64_t sent_at_ns) {
    bool again = false;
    {
        const std::lock_guard lock(mutex_);
        again = valid_until_ns_ <= now_ns();
        auto& it = renewals_.at(index(side));
        it.at_ns = std::max(it.at_ns, sent_at_ns);
        it.error.clear();
        validity_.confirmed(side, phase_epoch, sent_at_ns);
        primary_acquired_ = primary_acquired_ || side == primary_of(owner_.phase);
        update_validity_locked();
    }
    if (again && may_commit() && callbacks_.renewed) {
        callbacks_.renewed();
    }
}

void Lease::update_validity_locked() {
    const std::int64_t until = mode_ == Mode::held   ? validity_.valid_until_ns()
                               : mode_ == Mode::idle ? std::numeric_limits<std::int64_t>::max()
                                                     : 0;
    valid_until_ns_.store(until, std::memory_order_relaxed);
}

bool Lease::may_commit() const {
    return now_ns() < valid_until_ns_.load(std::memory_order_relaxed) ||
           mutant("lease_expiry_ignored");
}

void Lease::lose(const std::string& why) {
    {
        const std::lock_guard lock(mutex_);
        if (mode_ == Mode::lost) {
            return;
        }
        mode_ = Mode::lost;
        lost_to_ = why;
        update_validity_locked();
    }
    wake();
    spdlog::error("lease: LOST; this Banyan serves nobody any more: {}", why);
    if (callbacks_.lost) {
        callbacks_.lost(why);
    }
}

void Lease::wake() {
    {
        const std::lock_guard lock(mutex_);
        ++woken_;
    }
    wake_.notify_all();
}

Result<void> Lease::begin(const std::string& migration, std::int64_t epoch,
                          std::int64_t phase_epoch) {
    {
        const std::lock_guard lock(mutex_);
        if (mode_ == Mode::lost) {
            return Error{lost_to_, ""};
        }
        owner_.migration = migration;
        owner_.epoch = epoch;
        owner_.phase = Phase::initial;
        owner_.phase_epoch = phase_epoch;
        validity_.forget();
        validity_.phase(Phase::initial, phase_epoch, true);
        recorded_.fill({Phase::initial, phase_epoch});
        primary_acquired_ = false;
        mode_ = Mode::held;
        update_validity_locked();
    }
    for (const Side side : {Side::source, Side::target}) {
        if (auto acquired = acquire(side, How::start); !acquired) {
            const Error why{"the lease on the " + std::string(to_string(side)) +
                                " could not be acquired: " + acquired.error().message,
                            acquired.error().sqlstate};
            if (mode_ == Mode::held) {
                end();
            }
            return why;
        }
    }
    wake();
    return {};
}

Result<void> Lease::end() {
    Mode held = Mode::held;
    if (!mode_.compare_exchange_strong(held, Mode::idle)) {
        return {};
    }
    {
        const std::lock_guard lock(mutex_);
        update_validity_locked();
        renewals_ = {};
    }
    std::optional<Error> failure;
    // The source's row is the decisive one before DUAL_WRITE's end: it goes last.
    for (const Side side : {Side::target, Side::source}) {
        Keeper& it = keeper(side);
        const std::lock_guard guard(it.mutex);
        auto connection = connected(it, side);
        auto removed = connection ? LeaseTable(**connection, record_timeout).remove(row_of(side))
                                  : Result<void>(connection.error());
        if (!removed) {
            failure = removed.error();
        }
        it.acquired = false;
        it.connection.reset();
    }
    return failure ? Result<void>(*failure) : Result<void>();
}

void Lease::note_phase(Phase phase, std::int64_t phase_epoch, Change change) {
    {
        const std::lock_guard lock(mutex_);
        owner_.phase = phase;
        owner_.phase_epoch = phase_epoch;
        validity_.phase(phase, phase_epoch, change != Change::plain);
        recorded_.at(index(other(primary_of(phase)))) = {phase, phase_epoch};
        if (change != Change::flip) {
            recorded_.at(index(primary_of(phase))) = {phase, phase_epoch};
        }
        update_validity_locked();
    }
    if (change != Change::flip) {
        wake();  // a flip records by itself, and in its own order
    }
}

Result<void> Lease::record(Connection& connection, Side side) {
    const std::int64_t sent_at = now_ns();
    const LeaseRow row = row_of(side);
    auto recorded = LeaseTable(connection, record_timeout).record(row);
    BANYAN_TRY(recorded);
    if (!*recorded) {
        return Error{"the lease on the " + std::string(to_string(side)) +
                         " is not this Banyan's any more",
                     ""};
    }
    {
        // The side that gives way has: the new primary's row may say what it is.
        const std::lock_guard lock(mutex_);
        recorded_.at(index(primary_of(owner_.phase))) = {owner_.phase, owner_.phase_epoch};
    }
    confirm(side, row.phase_epoch, sent_at);
    return {};
}

LeaseOwner Lease::owner() const {
    const std::lock_guard lock(mutex_);
    return owner_;
}

LeaseStatus Lease::status() const {
    LeaseStatus status;
    status.ttl = ttl_;
    const std::lock_guard lock(mutex_);
    const std::int64_t now = now_ns();
    switch (mode_.load()) {
        case Mode::idle:
            status.state = "none";
            break;
        case Mode::held:
            status.state = now < valid_until_ns_ ? "held" : "expired";
            break;
        case Mode::lost:
            status.state = "lost";
            break;
    }
    status.owner = owner_;
    status.lost_total = mode_ == Mode::lost ? 1 : 0;
    status.lost_to = lost_to_;
    for (std::size_t side = 0; side < 2; ++side) {
        const Renewal& it = renewals_.at(side);
        auto& out = status.sides.at(side);
        if (it.at_ns > 0) {
            out.age_ms = (now - it.at_ns) / 1'000'000;
            out.held = mode_ == Mode::held && *out.age_ms < ttl_.count();
        }
        out.error = mode_ == Mode::idle ? "" : it.error;
    }
    return status;
}

}  // namespace banyan::router
