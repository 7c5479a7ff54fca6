// Asks both databases whether they are there, and whether they are still the same ones (LineageWatch),
// for readiness and the status page; frees the threads that wait for a server that does not answer any
// more; and is the breaker's probe: it alone tries a mirror that was given up, and closes the breaker
// once a write succeeds.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

#include "router/migration/core.hpp"
#include "router/migration/lineage_watch.hpp"

namespace banyan::router {

struct Reachability {
    bool known = false;
    bool reachable = false;
    std::string error;
    std::int64_t checked_unix_ms = 0;
    std::chrono::steady_clock::time_point checked_at{};
};

class Probe {
   public:
    Probe(Core& core, LineageWatch& lineage);
    ~Probe();
    void start();
    void stop();
    void wake();
    Reachability of(Side side) const;
    /// Asks now, on the caller's thread.
    Reachability ask(Side side);

   private:
    void work();
    void try_mirror();

    Core& core_;
    LineageWatch& lineage_;
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::array<Reachability, 2> sides_;
    std::array<int, 2> unanswered_{};  ///< looks in a row
    bool woken_ = false;
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace banyan::router
