#include "router/migration/watchdog.hpp"

#include <sys/socket.h>

namespace banyan::router {

Watchdog::Watchdog(Clock::time_point deadline, const std::atomic<bool>& cancelled,
                   std::vector<int> sockets, std::function<void()> release)
    : deadline_(deadline),
      cancelled_(cancelled),
      sockets_(std::move(sockets)),
      release_(std::move(release)),
      thread_([this] { watch(); }) {}

Watchdog::~Watchdog() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    thread_.join();
}

bool Watchdog::commit() {
    State expected = State::armed;
    return state_.compare_exchange_strong(expected, State::committed);
}

void Watchdog::watch() {
    using namespace std::chrono_literals;
    std::unique_lock lock(mutex_);
    while (!stopping_ && state_ == State::armed) {
        if (Clock::now() >= deadline_ || cancelled_) {
            State expected = State::armed;
            if (state_.compare_exchange_strong(expected, State::released)) {
                release_();
                for (const int socket : sockets_) {
                    ::shutdown(socket, SHUT_RDWR);
                }
            }
            return;
        }
        wake_.wait_for(lock, 5ms);
    }
}

}  // namespace banyan::router
