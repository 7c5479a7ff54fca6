// An operator's program, or web server, that is told of a transition, and may stop it.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace banyan::router {

struct HookResult {
    bool good = false;
    std::string output;  ///< what it wrote to standard output and error, the first 4 kB
    std::string why;     ///< "it ended with status 3", "it took longer than 10000 ms", ...
};

/// Calls a webhook (webhook.hpp), or runs `command` (program and arguments, no shell) with `input` on its standard input and
/// `environment` besides Banyan's own; waits for it. Killed with all it has started after `timeout`,
/// or as soon as `give_up` says so. SIGPIPE must be ignored.
HookResult run_hook(const std::vector<std::string>& command, const std::string& input,
                    const std::vector<std::pair<std::string, std::string>>& environment,
                    std::chrono::milliseconds timeout, const std::function<bool()>& give_up);

/// Runs hooks one after another on a thread of its own, which begins with the first of them. What
/// is running is killed when this goes.
class HookRunner {
   public:
    struct Job {
        std::vector<std::string> command;
        std::string input;
        std::vector<std::pair<std::string, std::string>> environment;
        std::chrono::milliseconds timeout;
        std::function<void(const HookResult&)> done;
    };

    HookRunner() = default;
    ~HookRunner();
    HookRunner(const HookRunner&) = delete;
    HookRunner& operator=(const HookRunner&) = delete;

    void run(Job job);

   private:
    void work();

    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<Job> jobs_;
    std::atomic<bool> stopping_{false};
    std::thread thread_;
};

}  // namespace banyan::router
