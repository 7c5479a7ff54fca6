#include "proxy/event_loop.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <new>

#include "proxy/session.hpp"

namespace banyan::proxy {
namespace {

// Distinct statement texts remembered per loop. Applications that write literals into their SQL would
// fill any cache; it is emptied rather than kept in order, which costs one parse per live text.
constexpr std::size_t max_cached_statements = 4096;
constexpr std::size_t max_cached_text = 16384;

}  // namespace

EventLoop::EventLoop(const router::Config& c, const router::Directive& d)
    : config(c), directive(d), random_(std::random_device{}()) {}

EventLoop::~EventLoop() { stop(); }

void EventLoop::start() {
    thread_ = std::thread([this] { run(); });
}

// A session that runs out of memory ends itself; what is left is a handler of no session.
void EventLoop::run() {
    while (true) {
        try {
            reactor_.run();
            return;
        } catch (const std::bad_alloc&) {
            spdlog::error("out of memory outside of any session");
        }
    }
}

void EventLoop::stop() {
    reactor_.stop();
    if (thread_.joinable()) {
        thread_.join();
    }
    reactor_.forget_everything();
    sessions.clear();
}

std::chrono::microseconds EventLoop::lag() {
    const auto since = [this] {
        return std::chrono::duration_cast<std::chrono::microseconds>(
            std::chrono::steady_clock::now() - asked_at_);
    };
    const std::lock_guard lock(lag_mutex_);
    if (asked_) {
        return std::max(lag_, since());
    }
    asked_ = true;
    asked_at_ = std::chrono::steady_clock::now();
    post([this, since] {
        const std::lock_guard answered(lag_mutex_);
        lag_ = since();
        asked_ = false;
    });
    return lag_;
}

std::shared_ptr<const router::ParsedQuery> EventLoop::parse(std::string_view sql) {
    const auto found = statements_.find(sql);
    if (found != statements_.end()) {
        return found->second;
    }
    auto parsed = router::parse_query(sql);
    if (sql.size() <= max_cached_text) {
        if (statements_.size() >= max_cached_statements) {
            statements_.clear();
        }
        statements_.emplace(sql, parsed);
    }
    return parsed;
}

}  // namespace banyan::proxy
