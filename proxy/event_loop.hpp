// One event loop: a thread, its sessions, and what they share without locks. Everything here but
// post() and the counters is touched by the loop's own thread only.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>

#include "proxy/reactor.hpp"
#include "router/catalog/catalog.hpp"
#include "router/config/config.hpp"
#include "router/metrics/counters.hpp"
#include "router/metrics/timings.hpp"
#include "router/migration/fleet.hpp"
#include "router/sql/statement.hpp"

namespace banyan::proxy {

class Session;

class EventLoop {
   public:
    EventLoop(const router::Config& config, const router::Directive& directive);
    ~EventLoop();
    EventLoop(const EventLoop&) = delete;
    EventLoop& operator=(const EventLoop&) = delete;

    /// A session's place on a loop, from accept to its end. Thread-safe.
    class Place {
       public:
        explicit Place(EventLoop& loop) : loop_(loop) { ++loop_.placed_; }
        ~Place() { --loop_.placed_; }
        Place(const Place&) = delete;
        Place& operator=(const Place&) = delete;

       private:
        EventLoop& loop_;
    };
    std::size_t placed() const { return placed_.load(std::memory_order_relaxed); }

    void start();
    /// Ends the thread once its current handler is done.
    void stop();

    template <class F>
    void post(F function) {
        reactor_.post(std::move(function));
    }

    /// How long it took, or has taken so far, to come to the task that the last call gave it.
    /// Thread-safe; the loop itself never looks at a clock for this unless asked.
    std::chrono::microseconds lag();

    Reactor& reactor() { return reactor_; }
    router::Counters& counters() { return counters_; }
    router::Timings& timings() { return timings_; }
    /// Is the read that comes now one to be timed? Every so many of them, but in no rhythm that traffic
    /// could have, too: multiples of the golden ratio.
    bool timed() { return ++reads_ * 0x9E3779B9U < UINT32_MAX / router::timed_share; }
    std::mt19937_64& random() { return random_; }
    std::array<char, 65536>& read_buffer() { return read_buffer_; }

    /// parse_query(), remembered by text.
    std::shared_ptr<const router::ParsedQuery> parse(std::string_view sql);

    /// What its sessions refer to. A reload changes it in place, between two of their events.
    router::Config config;
    router::Directive directive;
    std::shared_ptr<const router::Catalog> catalog;
    std::unordered_set<std::shared_ptr<Session>> sessions;

   private:
    void run();

    Reactor reactor_;  ///< outlives all that waits for it
    std::atomic<std::size_t> placed_{0};
    std::mutex lag_mutex_;  ///< guards the next three
    bool asked_ = false;    ///< a task is on its way
    std::chrono::steady_clock::time_point asked_at_;
    std::chrono::microseconds lag_{0};

    struct TextHash {
        using is_transparent = void;
        std::size_t operator()(std::string_view text) const {
            return std::hash<std::string_view>{}(text);
        }
    };

    std::thread thread_;
    router::Counters counters_;
    router::Timings timings_;
    std::uint32_t reads_ = 0;
    std::mt19937_64 random_;
    std::array<char, 65536> read_buffer_{};
    std::unordered_map<std::string, std::shared_ptr<const router::ParsedQuery>, TextHash,
                       std::equal_to<>>
        statements_;
};

}  // namespace banyan::proxy
