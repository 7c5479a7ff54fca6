// Preflight on demand, and a look at the two schemas every 15 s or more while writes are mirrored: what
// was right at the start may drift during weeks.
#pragma once

#include <boost/json.hpp>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "router/migration/core.hpp"
#include "router/preflight/findings.hpp"

namespace banyan::router {

/// What the last look at both schemas found. All 0 before the first.
struct DriftStatus {
    std::int64_t checked_unix_ms = 0;
    std::string error;          ///< of the last look; then the numbers are of one before
    std::uint64_t blocks = 0;   ///< tables or columns that differ
    std::uint64_t warnings = 0;
    std::vector<std::string> subjects;  ///< of these, "column public.t.a", the first 20
};

class Doctor {
   public:
    explicit Doctor(Core& core) : core_(core) {}
    ~Doctor();
    Doctor(const Doctor&) = delete;
    Doctor& operator=(const Doctor&) = delete;

    void start();
    void stop();
    DriftStatus drift() const;
    /// {"findings": [...], "blocks", "warnings", "checked_unix_ms"}, at most 5 s old. Blocking; each
    /// database is asked a dozen questions.
    boost::json::object preflight();

   private:
    void work();
    void look();
    PreflightInput examine();

    Core& core_;
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    bool stopping_ = false;
    DriftStatus drift_;
    std::thread thread_;

    std::mutex preflight_mutex_;  ///< one at a time
    boost::json::object last_;
    std::chrono::steady_clock::time_point last_at_{};
};

}  // namespace banyan::router
