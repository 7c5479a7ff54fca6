// One circuit breaker for the mirror. Closed: sessions use it. Open: they journal their keys only,
// without trying it. Half open: one probe alone tries it; a good one closes the breaker, a bad one
// opens it for twice as long. What counts as a failure is fault_of()'s business.
//
// A mirror that fails again soon after it was found well would cost each session its wait over and
// over: each such opening lasts twice as long as the one before, up to a limit. allows() is
// lock-free. States and tests: README.md in this folder.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include "router/breaker/mirror_fault.hpp"

namespace banyan::router {

class Breaker {
   public:
    using Clock = std::chrono::steady_clock;
    using Milliseconds = std::chrono::milliseconds;

    enum class State : std::uint8_t { closed, open, half_open };

    struct Pace {
        std::uint32_t failures_to_open = 3;   ///< in a row
        Milliseconds first_wait{500};         ///< from opening to the first probe
        Milliseconds longest_wait{5000};      ///< staying closed for as long ends an incident
    };

    explicit Breaker(Pace pace) : pace_(pace) {}
    explicit Breaker(std::uint32_t failures_to_open)
        : Breaker(Pace{failures_to_open, Milliseconds{500}, Milliseconds{5000}}) {}

    // --- sessions and workers ---

    /// True if the mirror may be used now.
    bool allows() const { return state_.load(std::memory_order_relaxed) == State::closed; }
    /// True if a session without a connection may open one now: see no_room().
    bool allows_login(Clock::time_point now = Clock::now()) const;
    /// A transaction was committed on the mirror, without a long wait.
    void succeeded();
    /// A login succeeded: that says nothing about writes.
    void logged_in();
    /// Returns true if this failure opened the breaker.
    bool failed(MirrorFault fault, std::string detail = "", Clock::time_point now = Clock::now());
    /// Opens at once (no answer came in time). True if it was closed.
    bool open(MirrorFault fault = MirrorFault::timed_out, std::string detail = "",
              Clock::time_point now = Clock::now());
    /// The mirror has no connection left for a session. Those that have one go on with it; no other
    /// login is tried for a while, which grows as the breaker's waits do.
    void no_room(std::string detail, Clock::time_point now = Clock::now());

    // --- the probe ---

    /// True once the wait is over: the breaker is half open, and the caller must try the mirror and
    /// say how that went.
    bool begin_probe(Clock::time_point now = Clock::now());
    void probe_succeeded(Clock::time_point now = Clock::now());
    void probe_failed(MirrorFault fault, std::string detail,
                      Clock::time_point now = Clock::now());
    /// The probe could not be made: no mirror, as it turned out.
    void probe_given_up(Clock::time_point now = Clock::now());
    /// nullopt: closed.
    std::optional<Milliseconds> until_probe(Clock::time_point now = Clock::now()) const;
    void close() { probe_succeeded(); }

    /// From the next failure, and the next wait, on.
    void set_pace(Pace pace);

    // --- what people see ---

    State state() const { return state_.load(); }
    std::uint64_t opened_total() const { return opened_total_.load(std::memory_order_relaxed); }

    struct Report {
        State state = State::closed;
        std::uint32_t failures = 0;           ///< in a row
        std::optional<MirrorFault> fault;     ///< why it opened, or the last failure in a row
        std::string detail;
        std::optional<Milliseconds> open_for; ///< nullopt: closed
        std::optional<Milliseconds> until_probe;
        std::uint64_t probes_failed = 0;      ///< since it opened
        std::optional<Milliseconds> no_logins_for;  ///< no_room() holds
        std::string no_room_detail;
        std::uint64_t opened_total = 0;
        std::array<std::uint64_t, static_cast<std::size_t>(MirrorFault::count_)> opened_by{};
        Milliseconds open_total{0};           ///< all the time it has ever been open
    };
    Report report(Clock::time_point now = Clock::now()) const;

   private:
    bool open_locked(MirrorFault fault, std::string detail, Clock::time_point now);
    Milliseconds wait(std::uint32_t level) const;

    std::atomic<State> state_{State::closed};
    std::atomic<std::uint32_t> failures_{0};
    std::atomic<std::uint64_t> opened_total_{0};
    std::atomic<Clock::rep> logins_after_{Clock::time_point::min().time_since_epoch().count()};

    mutable std::mutex mutex_;  ///< everything below, and each change of state_
    Pace pace_;
    std::optional<MirrorFault> fault_;
    std::string detail_;
    std::uint32_t flaps_ = 0;   ///< openings in this incident, before the present one
    std::uint32_t level_ = 0;   ///< doublings of the wait
    std::uint64_t probes_failed_ = 0;
    std::uint32_t full_ = 0;    ///< times in a row that there was no room
    std::string full_detail_;
    Clock::time_point opened_at_{};
    Clock::time_point probe_at_{};
    std::optional<Clock::time_point> closed_at_;
    Milliseconds open_before_{0};
    std::array<std::uint64_t, static_cast<std::size_t>(MirrorFault::count_)> opened_by_{};
};

constexpr const char* to_string(Breaker::State state) {
    switch (state) {
        case Breaker::State::closed:
            return "closed";
        case Breaker::State::open:
            return "open";
        case Breaker::State::half_open:
            return "half_open";
    }
    return "";
}

}  // namespace banyan::router
