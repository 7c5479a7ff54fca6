#include "router/migration/gate_watch.hpp"

#include <algorithm>
#include <chrono>

namespace banyan::router {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto look_interval = 15s;
constexpr Clock::duration glance = 1s;  // is there anything to look at?
constexpr int share_of_time = 100;      // a look costs a hundredth of the time at most

}  // namespace

std::optional<Phase> step_forward(Phase from) {
    switch (from) {
        case Phase::initial:
            return Phase::dual_write;
        case Phase::dual_write:
            return Phase::dual_read;
        case Phase::dual_read:
            return Phase::switchover;
        case Phase::switchover:
            return Phase::complete;
        case Phase::complete:
            break;
    }
    return std::nullopt;
}

void GateWatch::start() {
    thread_ = std::thread([this] { work(); });
}

void GateWatch::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) {
        thread_.join();
    }
}

GateWatch::View GateWatch::view() const {
    const std::lock_guard lock(mutex_);
    return view_;
}

void GateWatch::work() {
    std::unique_lock lock(mutex_);
    Clock::duration pause = glance;
    while (!wake_.wait_for(lock, pause, [this] { return stopping_; })) {
        lock.unlock();
        const auto begin = Clock::now();
        auto seen = look_();
        const auto took = Clock::now() - begin;
        lock.lock();
        pause = seen ? std::max<Clock::duration>(look_interval, took * share_of_time) : glance;
        view_ = seen ? std::move(*seen) : View{};
    }
}

}  // namespace banyan::router
