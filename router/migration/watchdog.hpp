// Guards a hold: when the deadline passes, or the transition is cancelled, before the flip is
// persisted, the sessions are released at once, and the walk's connections are shut down so that a
// query which hangs in a stopped server returns. The walk and the watchdog agree by one atomic:
// either the walk commits or the watchdog releases, never both.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace banyan::router {

class Watchdog {
   public:
    using Clock = std::chrono::steady_clock;

    /// `sockets` must stay open as long as the watchdog. `release` is called at most once, from the
    /// watchdog's thread.
    Watchdog(Clock::time_point deadline, const std::atomic<bool>& cancelled,
             std::vector<int> sockets, std::function<void()> release);
    ~Watchdog();

    /// From now on the deadline does nothing. False if the watchdog was faster.
    bool commit();
    bool expired() const { return state_ == State::released; }

   private:
    enum class State { armed, committed, released };
    void watch();

    const Clock::time_point deadline_;
    const std::atomic<bool>& cancelled_;
    const std::vector<int> sockets_;
    const std::function<void()> release_;
    std::atomic<State> state_{State::armed};
    std::mutex mutex_;
    std::condition_variable wake_;
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace banyan::router
