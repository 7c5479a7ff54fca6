#include "router/migration/probe.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "router/migration/clock.hpp"
#include "router/migration/heartbeat.hpp"
#include "router/pg/answer.hpp"
#include "router/pg/lifelines.hpp"

namespace banyan::router {
namespace {

using namespace std::chrono_literals;

constexpr auto idle_interval = 3s;
constexpr auto answer_timeout = 2s;

// A server that is stopped rather than gone accepts connections and never answers.
constexpr int looks_before_cut = 2;

}  // namespace

Probe::Probe(Core& core, LineageWatch& lineage) : core_(core), lineage_(lineage) {}
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
    auto answer = connection ? lineage_.look(side, *connection, answer_timeout)
                             : Result<ServerChange>(connection.error());
    Reachability now;
    now.known = true;
    now.reachable = answer.has_value();
    now.error = answer ? "" : answer.error().message;
    now.checked_unix_ms = unix_ms();
    now.checked_at = std::chrono::steady_clock::now();
    const auto index = static_cast<std::size_t>(side);
    bool cut = false;
    {
        const std::lock_guard lock(mutex_);
        sides_.at(index) = now;
        const bool silent = !answer && answer.error().sqlstate == no_answer;
        unanswered_.at(index) = silent ? unanswered_.at(index) + 1 : 0;
        cut = unanswered_.at(index) >= looks_before_cut;
    }
    if (cut) {
        if (const auto freed = Lifelines::all().cut(endpoint.host, endpoint.port); freed > 0) {
            spdlog::warn("the {} does not answer: {} connections of Banyan's own are given up",
                         to_string(side), freed);
        }
    }
    return now;
}

// Half open: this thread alone tries the mirror.
void Probe::try_mirror() {
    Breaker& breaker = core_.breaker;
    if (!mirrors(core_.phase()) || !breaker.begin_probe()) {
        return;
    }
    const Side side = mirror_of(core_.phase());
    Endpoint endpoint = core_.endpoint(side);
    const auto config = core_.config.latest()->mirror;
    endpoint.connect_timeout = std::min(endpoint.connect_timeout, config.connect_timeout);
    const auto before = breaker.report().fault;
    const auto limit = std::clamp<std::chrono::milliseconds>(config.commit_timeout, 100ms, 10s);
    const WriteProof proof = prove_writes(endpoint, before, limit, config.commit_timeout / 4);
    if (!proof.fault) {
        // Before sessions rely on it: is it still the same server, with all that it had?
        if (const auto seen = ask(side); !seen.reachable) {
            breaker.probe_failed(MirrorFault::unreachable, seen.error);
            return;
        }
        breaker.probe_succeeded();
        spdlog::warn("the mirror takes writes again: the breaker is closed");
    } else if (mirrors(core_.phase())) {
        breaker.probe_failed(*proof.fault, proof.detail);
    } else {
        breaker.probe_given_up();
    }
}

void Probe::work() {
    std::unique_lock lock(mutex_);
    auto both_at = std::chrono::steady_clock::now();
    while (!stopping_) {
        woken_ = false;
        lock.unlock();
        try_mirror();
        if (std::chrono::steady_clock::now() >= both_at) {
            ask(Side::source);
            ask(Side::target);
            both_at = std::chrono::steady_clock::now() + idle_interval;
        }
        lock.lock();
        // A session may open the breaker meanwhile: looked at often enough to be there in time.
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(
            both_at - std::chrono::steady_clock::now());
        const auto wait = std::min({left, core_.config.latest()->mirror.probe_interval,
                                    std::max(core_.breaker.until_probe().value_or(left), 1ms)});
        wake_.wait_for(lock, std::max(wait, 1ms), [this] { return stopping_ || woken_; });
    }
}

}  // namespace banyan::router
