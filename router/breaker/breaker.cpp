#include "router/breaker/breaker.hpp"

#include <algorithm>
#include <utility>

namespace banyan::router {
namespace {

Breaker::Milliseconds between(Breaker::Clock::time_point from, Breaker::Clock::time_point to) {
    return std::max(std::chrono::ceil<Breaker::Milliseconds>(to - from), Breaker::Milliseconds(0));
}

}  // namespace

Breaker::Milliseconds Breaker::wait(std::uint32_t level) const {
    Milliseconds wait = pace_.first_wait;
    for (; level > 0 && wait < pace_.longest_wait; --level) {
        wait *= 2;
    }
    return std::min(wait, std::max(pace_.longest_wait, pace_.first_wait));
}

void Breaker::set_pace(Pace pace) {
    const std::lock_guard lock(mutex_);
    pace_ = pace;
}

bool Breaker::allows_login(Clock::time_point now) const {
    return allows() && now.time_since_epoch().count() >= logins_after_.load(std::memory_order_relaxed);
}

void Breaker::succeeded() {
    if (failures_.load(std::memory_order_relaxed) != 0) {
        const std::lock_guard lock(mutex_);
        failures_ = 0;
        if (state_ == State::closed) {
            fault_.reset();
            detail_.clear();
        }
    }
}

void Breaker::logged_in() {
    if (failures_.load(std::memory_order_relaxed) == 0 &&
        logins_after_.load(std::memory_order_relaxed) == Clock::time_point::min().time_since_epoch().count()) {
        return;
    }
    const std::lock_guard lock(mutex_);
    logins_after_ = Clock::time_point::min().time_since_epoch().count();
    full_ = 0;
    full_detail_.clear();
    const bool by_connection = fault_ == MirrorFault::unreachable ||
                               fault_ == MirrorFault::unavailable;
    if (state_ == State::closed && by_connection) {
        failures_ = 0;
        fault_.reset();
        detail_.clear();
    }
}

bool Breaker::failed(MirrorFault fault, std::string detail, Clock::time_point now) {
    const std::lock_guard lock(mutex_);
    if (state_ != State::closed) {
        return false;  // a late one of the same incident
    }
    fault_ = fault;
    detail_ = std::move(detail);
    if (++failures_ < pace_.failures_to_open) {
        return false;
    }
    return open_locked(fault, std::move(detail_), now);
}

bool Breaker::open(MirrorFault fault, std::string detail, Clock::time_point now) {
    const std::lock_guard lock(mutex_);
    return open_locked(fault, std::move(detail), now);
}

bool Breaker::open_locked(MirrorFault fault, std::string detail, Clock::time_point now) {
    if (state_ != State::closed) {
        return false;
    }
    const bool same_incident = closed_at_ && now - *closed_at_ < wait(32);
    flaps_ = same_incident ? flaps_ + 1 : 0;
    level_ = flaps_;
    fault_ = fault;
    detail_ = std::move(detail);
    probes_failed_ = 0;
    opened_at_ = now;
    probe_at_ = now + wait(level_);
    ++opened_by_.at(static_cast<std::size_t>(fault));
    opened_total_.fetch_add(1, std::memory_order_relaxed);
    state_ = State::open;
    return true;
}

void Breaker::no_room(std::string detail, Clock::time_point now) {
    const std::lock_guard lock(mutex_);
    full_detail_ = std::move(detail);
    if (now.time_since_epoch().count() < logins_after_) {
        return;  // of those that were under way together, one counts
    }
    logins_after_ = (now + wait(full_++)).time_since_epoch().count();
}

bool Breaker::begin_probe(Clock::time_point now) {
    const std::lock_guard lock(mutex_);
    if (state_ != State::open || now < probe_at_) {
        return false;
    }
    state_ = State::half_open;
    return true;
}

void Breaker::probe_succeeded(Clock::time_point now) {
    const std::lock_guard lock(mutex_);
    if (state_ == State::closed) {
        return;
    }
    open_before_ += between(opened_at_, now);
    closed_at_ = now;
    failures_ = 0;
    fault_.reset();
    detail_.clear();
    state_ = State::closed;
}

void Breaker::probe_failed(MirrorFault fault, std::string detail, Clock::time_point now) {
    const std::lock_guard lock(mutex_);
    if (state_ != State::half_open) {
        return;
    }
    fault_ = fault;
    detail_ = std::move(detail);
    ++probes_failed_;
    level_ = std::min(level_ + 1, 32U);
    probe_at_ = now + wait(level_);
    state_ = State::open;
}

void Breaker::probe_given_up(Clock::time_point now) {
    const std::lock_guard lock(mutex_);
    if (state_ == State::half_open) {
        probe_at_ = now + wait(level_);
        state_ = State::open;
    }
}

std::optional<Breaker::Milliseconds> Breaker::until_probe(Clock::time_point now) const {
    const std::lock_guard lock(mutex_);
    if (state_ == State::closed) {
        return std::nullopt;
    }
    return between(now, probe_at_);
}

Breaker::Report Breaker::report(Clock::time_point now) const {
    const std::lock_guard lock(mutex_);
    Report report;
    report.state = state_;
    report.failures = failures_;
    report.fault = fault_;
    report.detail = detail_;
    report.open_total = open_before_;
    if (state_ != State::closed) {
        report.open_for = between(opened_at_, now);
        report.until_probe = between(now, probe_at_);
        report.open_total += *report.open_for;
    }
    report.probes_failed = probes_failed_;
    const Clock::time_point logins_after{Clock::duration(logins_after_.load())};
    if (full_ > 0) {
        report.no_logins_for = between(std::min(now, logins_after), logins_after);
        report.no_room_detail = full_detail_;
    }
    report.opened_total = opened_total_;
    report.opened_by = opened_by_;
    return report;
}

}  // namespace banyan::router
