#include "proxy/reactor.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <new>
#include <system_error>

namespace banyan::proxy {
namespace {

constexpr std::uint64_t wake_key = std::numeric_limits<std::uint64_t>::max();

std::uint32_t bit(Readiness what) {
    return what == Readiness::readable ? EPOLLIN : EPOLLOUT;
}

void check(bool worked, const char* what) {
    if (!worked) {
        throw std::system_error(errno, std::generic_category(), what);
    }
}

}  // namespace

Reactor::Reactor()
    : epoll_(::epoll_create1(EPOLL_CLOEXEC)), wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    check(epoll_.open(), "epoll_create1");
    check(wake_.open(), "eventfd");
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    event.data.u64 = wake_key;
    check(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event) == 0, "epoll_ctl");
}

Reactor::~Reactor() {
    forget_everything();
}

void Reactor::run() {
    while (!stopped_.load()) {
        while (next_ < ready_ && !stopped_.load()) {
            dispatch(events_[static_cast<std::size_t>(next_++)]);
        }
        run_tasks();
        run_timers();
        wait();
    }
}

void Reactor::stop() {
    stopped_.store(true);
    const std::uint64_t one = 1;
    (void)!::write(wake_.get(), &one, sizeof one);
}

// What is dropped may own what waits for other things, so it goes when nothing is being walked
// over.
void Reactor::forget_everything() {
    std::vector<Then> dropped;
    for (auto& slot : slots_) {
        dropped.push_back(std::exchange(slot.reading.then, nullptr));
        dropped.push_back(std::exchange(slot.writing.then, nullptr));
    }
    while (!timers_.empty()) {
        auto* timer = timers_.begin()->second;
        dropped.push_back(std::exchange(timer->then_, nullptr));
        timers_.erase(timers_.begin());
    }
    Tasks tasks = std::exchange(running_, {});
    {
        const std::lock_guard lock(mutex_);
        std::move(posted_.begin(), posted_.end(), std::back_inserter(tasks));
        posted_.clear();
    }
}

// --- tasks ---

void Reactor::enqueue(std::unique_ptr<Task> task) {
    {
        const std::lock_guard lock(mutex_);
        posted_.push_back(std::move(task));
        has_tasks_.store(true);
    }
    if (asleep_.exchange(false)) {
        const std::uint64_t one = 1;
        (void)!::write(wake_.get(), &one, sizeof one);
    }
}

void Reactor::run_tasks() {
    if (has_tasks_.load()) {
        const std::lock_guard lock(mutex_);
        std::move(posted_.begin(), posted_.end(), std::back_inserter(running_));
        posted_.clear();
        has_tasks_.store(false);
    }
    while (!running_.empty() && !stopped_.load()) {
        const auto task = std::move(running_.front());
        running_.pop_front();
        task->run();
    }
}

// --- timers ---

void Reactor::run_timers() {
    if (timers_.empty()) {
        return;
    }
    const auto now = Clock::now();
    while (!timers_.empty() && timers_.begin()->first <= now && !stopped_.load()) {
        auto* timer = timers_.begin()->second;
        timers_.erase(timers_.begin());
        const auto then = std::exchange(timer->then_, nullptr);
        then();
    }
}

// --- descriptors ---

// Whoever posts a task either sees asleep_, and wakes, or has posted before the look at has_tasks_.
void Reactor::wait() {
    int timeout = -1;
    if (!timers_.empty()) {
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(timers_.begin()->first - Clock::now());
        timeout = static_cast<int>(
            std::clamp<std::int64_t>(left.count(), 0, std::numeric_limits<int>::max()));
    }
    asleep_.store(true);
    if (has_tasks_.load() || stopped_.load()) {
        timeout = 0;
    }
    next_ = 0;
    ready_ = std::max(
        0, ::epoll_wait(epoll_.get(), events_.data(), static_cast<int>(events_.size()), timeout));
    asleep_.store(false);
}

void Reactor::dispatch(const epoll_event& event) {
    if (event.data.u64 == wake_key) {
        return;
    }
    const auto index = static_cast<std::uint32_t>(event.data.u64);
    const auto generation = static_cast<std::uint32_t>(event.data.u64 >> 32U);
    Slot& slot = slots_[index];
    std::uint32_t told = event.events;
    if ((told & (EPOLLERR | EPOLLHUP)) != 0) {
        told |= EPOLLIN | EPOLLOUT;
    }
    std::uint32_t in_vain = told & (EPOLLIN | EPOLLOUT);
    for (const auto which : {&Slot::reading, &Slot::writing}) {
        if (slot.generation != generation) {
            return;
        }
        Waiter& waiter = slot.*which;
        if (waiter.then != nullptr && (told & bit(waiter.what)) != 0) {
            in_vain &= ~bit(waiter.what);
            const auto then = std::exchange(waiter.then, nullptr);
            then();
        }
    }
    if (slot.generation != generation) {
        return;
    }
    // A socket can be written nearly always, so that interest goes at once; the other one stays
    // until it is of no use, because mostly it is wanted again.
    const auto needed = wanted(slot);
    if (in_vain != 0 || (slot.armed & EPOLLOUT) > (needed & EPOLLOUT)) {
        arm(index, needed);
    }
}

std::uint32_t Reactor::wanted(const Slot& slot) {
    std::uint32_t events = 0;
    for (const auto* waiter : {&slot.reading, &slot.writing}) {
        if (waiter->then != nullptr) {
            events |= bit(waiter->what);
        }
    }
    return events;
}

// Without any interest a descriptor leaves the epoll: it would go on telling of a hang-up.
void Reactor::arm(std::uint32_t index, std::uint32_t events) {
    Slot& slot = slots_[index];
    if (slot.armed == events) {
        return;
    }
    epoll_event event{};
    event.events = events;
    event.data.u64 = std::uint64_t{slot.generation} << 32U | index;
    const int change = events == 0       ? EPOLL_CTL_DEL
                       : slot.armed == 0 ? EPOLL_CTL_ADD
                                         : EPOLL_CTL_MOD;
    if (::epoll_ctl(epoll_.get(), change, slot.handle, &event) != 0) {
        if (errno == ENOMEM || errno == ENOSPC) {
            throw std::bad_alloc();
        }
        check(false, "epoll_ctl");
    }
    slot.armed = events;
}

std::uint32_t Reactor::open(int handle) {
    if (free_.empty()) {
        free_.reserve(slots_.size() + 1);  // so that close() cannot fail
        slots_.emplace_back();
        free_.push_back(static_cast<std::uint32_t>(slots_.size() - 1));
    }
    const auto index = free_.back();
    free_.pop_back();
    slots_[index].handle = handle;
    return index;
}

void Reactor::close(std::uint32_t index) {
    Slot& slot = slots_[index];
    if (slot.armed != 0) {
        ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, slot.handle, nullptr);
    }
    slot.handle = -1;
    slot.armed = 0;
    ++slot.generation;
    free_.push_back(index);
    const auto reading = std::exchange(slot.reading.then, nullptr);
    const auto writing = std::exchange(slot.writing.then, nullptr);
}

void Reactor::wait_for(std::uint32_t index, Waiter Slot::*which, Readiness what, Then then) {
    Slot& slot = slots_[index];
    slot.*which = {what, std::move(then)};
    const auto needed = wanted(slot);
    if ((needed & ~slot.armed) != 0) {
        arm(index, needed);
    }
}

// --- Watch ---

Watch::Watch(Watch&& other) noexcept
    : reactor_(other.reactor_), descriptor_(std::move(other.descriptor_)), index_(other.index_) {}

Watch& Watch::operator=(Watch&& other) noexcept {
    if (this != &other) {
        close();
        reactor_ = other.reactor_;
        descriptor_ = std::move(other.descriptor_);
        index_ = other.index_;
    }
    return *this;
}

void Watch::open(Descriptor descriptor) {
    close();
    index_ = reactor_->open(descriptor.get());
    descriptor_ = std::move(descriptor);
}

void Watch::close() {
    if (descriptor_.open()) {
        const Descriptor closed = std::move(descriptor_);
        reactor_->close(index_);
    }
}

void Watch::forget() {
    if (descriptor_.open()) {
        auto& slot = reactor_->slots_[index_];
        const auto reading = std::exchange(slot.reading.then, nullptr);
        const auto writing = std::exchange(slot.writing.then, nullptr);
    }
}

void Watch::to_read(Readiness what, Reactor::Then then) {
    reactor_->wait_for(index_, &Reactor::Slot::reading, what, std::move(then));
}

void Watch::to_write(Readiness what, Reactor::Then then) {
    reactor_->wait_for(index_, &Reactor::Slot::writing, what, std::move(then));
}

// --- Timer ---

void Timer::after(std::chrono::milliseconds delay, Reactor::Then then) {
    cancel();
    at_ = Reactor::Clock::now() + delay;
    reactor_.timers_.emplace(at_, this);
    then_ = std::move(then);
}

void Timer::cancel() {
    if (then_ != nullptr) {
        reactor_.timers_.erase({at_, this});
        const auto dropped = std::exchange(then_, nullptr);
    }
}

}  // namespace banyan::proxy
