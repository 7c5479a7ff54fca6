#include "router/migration/probe.hpp"

#include <poll.h>

#include <algorithm>
#include <cerrno>

#include "router/migration/clock.hpp"

namespace banyan::router {
namespace {

using namespace std::chrono_literals;

constexpr auto idle_interval = 3s;
constexpr auto answer_timeout = 2s;

// A server that is stopped rather than gone accepts the question and never answers.
Result<void> answers(Connection& connection) {
    PGconn* conn = connection.raw();
    if (PQsendQuery(conn, "SELECT 1") != 1) {
        return Error{PQerrorMessage(conn), ""};
    }
    const auto deadline = std::chrono::steady_clock::now() + answer_timeout;
    for (;;) {
        while (PQisBusy(conn) == 0) {
            PGresult* result = PQgetResult(conn);
            if (result == nullptr) {
                return {};
            }
            const bool good = PQresultStatus(result) == PGRES_TUPLES_OK;
            PQclear(result);
            if (!good) {
                return Error{PQerrorMessage(conn), ""};
            }
        }
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(
                              deadline - std::chrono::steady_clock::now())
                              .count();
        pollfd waiting{PQsocket(conn), POLLIN, 0};
        if (left <= 0 || (::poll(&waiting, 1, static_cast<int>(left)) < 0 && errno != EINTR)) {
            return Error{"connected, but no answer to SELECT 1 in time", ""};
        }
        if (PQconsumeInput(conn) != 1) {
            return Error{PQerrorMessage(conn), ""};
        }
    }
}

}  // namespace

Probe::Probe(Core& core) : core_(core) {}
Probe::~Probe() {
    stop();
}

void Probe::start() {
    thread_ = std::thread([this] { work(); });
}

void Probe::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) {
        thread_.join();
    }
}

void Probe::wake() {
    {
        const std::lock_guard lock(mutex_);
        woken_ = true;
    }
    wake_.notify_all();
}

Reachability Probe::of(Side side) const {
    const std::lock_guard lock(mutex_);
    return sides_.at(static_cast<std::size_t>(side));
}

Reachability Probe::ask(Side side) {
    Endpoint endpoint = core_.endpoint(side);
    endpoint.connect_timeout =
        std::min(endpoint.connect_timeout, core_.config.latest()->mirror.connect_timeout);
    auto connection = Connection::open(endpoint, "banyan-probe");
    Result<void> answer = connection ? answers(*connection) : Result<void>(connection.error());
    Reachability now;
    now.known = true;
    now.reachable = answer.has_value();
    now.error = answer ? "" : answer.error().message;
    now.checked_unix_ms = unix_ms();
    const std::lock_guard lock(mutex_);
    sides_.at(static_cast<std::size_t>(side)) = now;
    return now;
}

void Probe::work() {
    std::unique_lock lock(mutex_);
    auto both_at = std::chrono::steady_clock::now();
    while (!stopping_) {
        woken_ = false;
        lock.unlock();
        const Phase phase = core_.phase();
        const bool open = core_.breaker.state() == Breaker::State::open;
        if (mirrors(phase) && open && ask(mirror_of(phase)).reachable) {
            core_.breaker.close();
        }
        if (std::chrono::steady_clock::now() >= both_at) {
            ask(Side::source);
            ask(Side::target);
            both_at = std::chrono::steady_clock::now() + idle_interval;
        }
        lock.lock();
        const bool still_open = core_.breaker.state() == Breaker::State::open;
        wake_.wait_for(lock,
                       still_open ? core_.config.latest()->mirror.probe_interval
                                  : std::chrono::milliseconds(idle_interval),
                       [this] { return stopping_ || woken_; });
    }
}

}  // namespace banyan::router
