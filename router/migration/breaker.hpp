// One circuit breaker for the mirror: after `failures_to_open` failures in a row sessions stop
// trying it and journal their keys only, until a probe succeeds. Lock-free; shared by all sessions.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace banyan::router {

class Breaker {
   public:
    using Clock = std::chrono::steady_clock;

    enum class State : std::uint8_t { closed, open };

    explicit Breaker(std::uint32_t failures_to_open) : failures_to_open_(failures_to_open) {}

    /// True if a session may use the mirror now.
    bool allows() const { return state_.load(std::memory_order_relaxed) == State::closed; }
    void succeeded() {
        if (failures_.load(std::memory_order_relaxed) != 0) {
            failures_.store(0, std::memory_order_relaxed);
        }
    }
    /// Returns true if this failure opened the breaker.
    bool failed() {
        if (failures_.fetch_add(1, std::memory_order_relaxed) + 1 < failures_to_open_.load()) {
            return false;
        }
        return open();
    }
    /// Opens at once (a probe or a timeout saw the mirror hang). True if it was closed.
    bool open() {
        State expected = State::closed;
        if (!state_.compare_exchange_strong(expected, State::open)) {
            return false;
        }
        opened_total_.fetch_add(1, std::memory_order_relaxed);
        return true;
    }
    /// A probe found the mirror well.
    void close() {
        failures_.store(0, std::memory_order_relaxed);
        state_.store(State::closed);
    }
    void set_failures_to_open(std::uint32_t failures) { failures_to_open_.store(failures); }
    State state() const { return state_.load(); }
    std::uint64_t opened_total() const { return opened_total_.load(); }

   private:
    std::atomic<std::uint32_t> failures_to_open_;
    std::atomic<std::uint32_t> failures_{0};
    std::atomic<State> state_{State::closed};
    std::atomic<std::uint64_t> opened_total_{0};
};

}  // namespace banyan::router
