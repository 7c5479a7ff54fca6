// Asks both databases whether they are there, for readiness and the status page, and is the breaker's
// probe: it alone tries a mirror that was given up, and closes the breaker once a write succeeds.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

#include "router/migration/core.hpp"

namespace banyan::router {

struct Reachability {
    bool known = false;
    bool reachable = false;
    std::string error;
    std::int64_t checked_unix_ms = 0;
};

class Probe {
   public:
    explicit Probe(Core& core);
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
    Reachability note(Side side, const Result<void>& answer);

    Core& core_;
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::array<Reachability, 2> sides_;
    bool woken_ = false;
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace banyan::router
