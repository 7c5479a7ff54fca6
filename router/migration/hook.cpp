#include "router/migration/hook.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "router/migration/webhook.hpp"

extern char** environ;

namespace banyan::router {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t most_output = 4096;
constexpr std::chrono::milliseconds slice{20};

struct Pipe {
    std::array<int, 2> ends{-1, -1};
    Pipe() {
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
            ends = {-1, -1};
        }
    }
    ~Pipe() {
        close(0);
        close(1);
    }
    Pipe(const Pipe&) = delete;
    Pipe& operator=(const Pipe&) = delete;
    void close(std::size_t end) {
        if (ends.at(end) >= 0) {
            ::close(ends.at(end));
            ends.at(end) = -1;
        }
    }
};

std::vector<char*> pointers(std::vector<std::string>& texts) {
    std::vector<char*> all;
    for (auto& each : texts) {
        all.push_back(each.data());
    }
    all.push_back(nullptr);
    return all;
}

std::vector<std::string> whole_environment(
    const std::vector<std::pair<std::string, std::string>>& more) {
    std::vector<std::string> all;
    for (char** each = environ; *each != nullptr; ++each) {
        all.emplace_back(*each);
    }
    for (const auto& [name, value] : more) {
        all.push_back(name + "=" + value);
    }
    return all;
}

/// 0, or errno. Its process group is its own, and signals are as for any program.
int spawn(pid_t& child, const std::vector<std::string>& command, Pipe& in, Pipe& out,
          const std::vector<std::pair<std::string, std::string>>& environment) {
    auto arguments = command;
    auto variables = whole_environment(environment);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, in.ends[0], 0);
    posix_spawn_file_actions_adddup2(&files, out.ends[1], 1);
    posix_spawn_file_actions_adddup2(&files, out.ends[1], 2);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none;
    sigset_t usual;
    sigemptyset(&none);
    sigemptyset(&usual);
    sigaddset(&usual, SIGPIPE);
    sigaddset(&usual, SIGXFSZ);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &usual);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    const int error = ::posix_spawn(&child, command[0].c_str(), &files, &attributes,
                                    pointers(arguments).data(), pointers(variables).data());
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    return error;
}

/// Moves what can be moved within one slice of time.
void exchange(Pipe& in, Pipe& out, std::string_view& rest, std::string& output) {
    std::array<pollfd, 2> watched{pollfd{in.ends[1], POLLOUT, 0}, pollfd{out.ends[0], POLLIN, 0}};
    if (::poll(watched.data(), watched.size(), static_cast<int>(slice.count())) <= 0) {
        return;
    }
    if (watched[0].revents != 0) {
        const auto sent = ::write(in.ends[1], rest.data(), rest.size());
        if (sent > 0) {
            rest.remove_prefix(static_cast<std::size_t>(sent));
        }
        if (rest.empty() || (sent < 0 && errno != EAGAIN)) {
            in.close(1);  // it has everything, or does not want it
        }
    }
    if (watched[1].revents != 0) {
        std::array<char, 4096> bytes{};
        const auto got = ::read(out.ends[0], bytes.data(), bytes.size());
        if (got <= 0) {
            out.close(0);
        } else {
            output.append(bytes.data(), static_cast<std::size_t>(got));
            output.resize(std::min(output.size(), most_output));
        }
    }
}

}  // namespace

HookResult run_hook(const std::vector<std::string>& command, const std::string& input,
                    const std::vector<std::pair<std::string, std::string>>& environment,
                    std::chrono::milliseconds timeout, const std::function<bool()>& give_up) {
    if (is_webhook(command[0])) {
        return call_webhook(command, input, environment, timeout, give_up);
    }
    HookResult result;
    Pipe in;
    Pipe out;
    if (in.ends[0] < 0 || out.ends[0] < 0) {
        result.why = "no file descriptor is left for it";
        return result;
    }
    ::fcntl(in.ends[1], F_SETFL, O_NONBLOCK);
    pid_t child = 0;
    if (const int error = spawn(child, command, in, out, environment); error != 0) {
        result.why = std::string("it cannot be run: ") + std::strerror(error);
        return result;
    }
    in.close(0);
    out.close(1);
    std::string_view rest = input;
    const auto end = Clock::now() + timeout;
    int status = 0;
    while (::waitpid(child, &status, WNOHANG) == 0) {
        const bool late = Clock::now() >= end;
        if (late || give_up()) {
            ::kill(-child, SIGKILL);
            ::waitpid(child, &status, 0);
            result.why = late ? "it took longer than " + std::to_string(timeout.count()) + " ms"
                              : "the transition was called off";
            return result;
        }
        exchange(in, out, rest, result.output);
    }
    // What it wrote last; a process of its own that lives on may keep the pipe open.
    for (int more = 0; more < 10 && out.ends[0] >= 0; ++more) {
        exchange(in, out, rest, result.output);
    }
    result.good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!result.good) {
        result.why = WIFEXITED(status)
                         ? "it ended with status " + std::to_string(WEXITSTATUS(status))
                         : "it was ended by signal " + std::to_string(WTERMSIG(status));
    }
    return result;
}

HookRunner::~HookRunner() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) {
        thread_.join();
    }
}

void HookRunner::run(Job job) {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
    if (!thread_.joinable()) {
        thread_ = std::thread([this] { work(); });
    }
    wake_.notify_all();
}

void HookRunner::work() {
    std::unique_lock lock(mutex_);
    while (true) {
        wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
        if (stopping_) {
            return;
        }
        const Job job = std::move(jobs_.front());
        jobs_.pop_front();
        lock.unlock();
        job.done(run_hook(job.command, job.input, job.environment, job.timeout,
                          [this] { return stopping_.load(); }));
        lock.lock();
    }
}

}  // namespace banyan::router
