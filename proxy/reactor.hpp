// What one thread waits for: descriptors, timers and tasks. The kernel's epoll, level-triggered, so
// that a socket which is read again and again needs no system call but its reads: Asio's reactor
// arms its edge anew for every wait (proxy/README.md has the figures).
#pragma once

#include <sys/epoll.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "proxy/descriptors.hpp"

namespace banyan::proxy {

enum class Readiness : std::uint8_t { readable, writable };

/// post() and stop() may be called from any thread, everything else from the one in run(), or while
/// none is.
class Reactor {
   public:
    using Clock = std::chrono::steady_clock;
    /// Up to two pointers in a capture cost no allocation.
    using Then = std::function<void()>;

    Reactor();
    ~Reactor();
    Reactor(const Reactor&) = delete;
    Reactor& operator=(const Reactor&) = delete;

    /// Calls what is due, until stop(). What a callee throws comes out of here, and the rest waits
    /// for the next run().
    void run();
    /// run() returns once its current callee is done.
    void stop();
    /// Drops, uncalled, whatever is waited for or posted. For the end, when nothing runs.
    void forget_everything();

    /// `task` is called once by run(), behind what was posted before; dropped if run() never comes
    /// to it.
    template <class F>
    void post(F task) {
        enqueue(std::make_unique<TaskOf<F>>(std::move(task)));
    }

   private:
    friend class Watch;
    friend class Timer;

    struct Task {
        Task() = default;
        Task(const Task&) = delete;
        Task& operator=(const Task&) = delete;
        virtual ~Task() = default;
        virtual void run() = 0;
    };
    template <class F>
    struct TaskOf final : Task {
        explicit TaskOf(F f) : function(std::move(f)) {}
        void run() override { function(); }
        F function;
    };
    using Tasks = std::deque<std::unique_ptr<Task>>;

    struct Waiter {
        Readiness what = Readiness::readable;
        Then then;
    };
    /// One watched descriptor. `armed` is what the kernel tells of: it may be more than what is
    /// waited for, until the kernel tells in vain.
    struct Slot {
        int handle = -1;
        std::uint32_t generation = 0;  ///< tells late events of a descriptor that was closed
        std::uint32_t armed = 0;
        Waiter reading;
        Waiter writing;
    };

    void enqueue(std::unique_ptr<Task> task);
    void run_tasks();
    void run_timers();
    void wait();
    void dispatch(const epoll_event& event);
    std::uint32_t open(int handle);
    void close(std::uint32_t index);
    void wait_for(std::uint32_t index, Waiter Slot::*which, Readiness what, Then then);
    static std::uint32_t wanted(const Slot& slot);
    void arm(std::uint32_t index, std::uint32_t events);

    Descriptor epoll_;
    Descriptor wake_;  ///< an eventfd, edge-triggered: it is never read
    std::atomic<bool> stopped_{false};
    std::atomic<bool> asleep_{false};  ///< set before the last look at has_tasks_
    std::atomic<bool> has_tasks_{false};
    std::mutex mutex_;  ///< guards posted_
    Tasks posted_;
    Tasks running_;
    std::deque<Slot> slots_;
    std::vector<std::uint32_t> free_;
    std::array<epoll_event, 128> events_{};
    int next_ = 0;  ///< the first of events_ that was not seen to yet
    int ready_ = 0;
    std::set<std::pair<Clock::time_point, class Timer*>> timers_;
};

/// A descriptor, closed with its watch, and what waits for it: one waiter that wants to read and
/// one that wants to write (each of which, with TLS, may have to wait for the other event). A
/// waiter is called once, and forgotten before that. An error or a hang-up is readiness of both
/// kinds.
class Watch {
   public:
    explicit Watch(Reactor& reactor) : reactor_(&reactor) {}
    ~Watch() { close(); }
    Watch(Watch&& other) noexcept;
    Watch& operator=(Watch&& other) noexcept;
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

    /// The descriptor must be non-blocking. What was watched before is closed.
    void open(Descriptor descriptor);
    void close();
    /// Forgets the waiters; the descriptor stays.
    void forget();

    int handle() const { return descriptor_.get(); }
    bool is_open() const { return descriptor_.open(); }

    void to_read(Readiness what, Reactor::Then then);
    void to_write(Readiness what, Reactor::Then then);

   private:
    Reactor* reactor_;
    Descriptor descriptor_;
    std::uint32_t index_ = 0;
};

/// Calls back once, at the earliest after the time it was given, or never if it is cancelled or
/// gone.
class Timer {
   public:
    explicit Timer(Reactor& reactor) : reactor_(reactor) {}
    ~Timer() { cancel(); }
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;

    /// Instead of what it was set to before.
    void after(std::chrono::milliseconds delay, Reactor::Then then);
    void cancel();

   private:
    friend class Reactor;
    Reactor& reactor_;
    Reactor::Clock::time_point at_;
    Reactor::Then then_;
};

}  // namespace banyan::proxy
