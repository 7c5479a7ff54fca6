#include "proxy/proxy.hpp"

#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <future>
#include <thread>

#include "protocol/messages.hpp"
#include "proxy/log.hpp"
#include "proxy/session.hpp"

namespace banyan::proxy {
namespace {

constexpr std::chrono::seconds sweep_patience{2};

}  // namespace

Proxy::Proxy(Context& context, const router::Directive& directive)
    : context_(context), directive_(directive) {
    context.resolver = &resolver_;
    std::uint32_t threads = context.config.threads;
    if (threads == 0) {
        threads = std::max(1U, std::thread::hardware_concurrency());
    }
    for (std::uint32_t i = 0; i < threads; ++i) {
        loops_.push_back(std::make_unique<EventLoop>(context.config, directive));
    }
}

Proxy::~Proxy() {
    context_.key_deriver.stop();  // they answer to the loops
    context_.verifiers.stop();
    for (auto& loop : loops_) {
        loop->stop();
    }
}

void Proxy::start() {
    resolver_.watch(context_.config.source.host, context_.config.source.port);
    resolver_.watch(context_.config.target.host, context_.config.target.port);
    for (auto& loop : loops_) {
        loop->start();
    }
}

void Proxy::listen(ListenSockets sockets) {
    auto& first = *loops_.front();
    listener_ =
        std::make_unique<Listener>(first.reactor(), std::move(sockets),
                                   [this](Accepted accepted) { on_client(std::move(accepted)); });
    first.post([this] { listener_->accept(); });
    if (const auto& file = context_.config.listen.port_file; !file.empty()) {
        std::ofstream(file) << port() << '\n';
    }
}

// A loop that serves several sessions finds several ready when it wakes: a few sessions on one loop
// cost less than one each on several. So a loop gets a handful before the next one gets any, and from
// then on all fill evenly.
EventLoop& Proxy::emptiest_loop() {
    const std::size_t handful = context_.config.sessions_before_next_thread;
    EventLoop* best = loops_.front().get();
    for (const auto& loop : loops_) {
        if (loop->placed() / handful < best->placed() / handful) {
            best = loop.get();
        }
    }
    return *best;
}

// Runs on the first loop; the session then lives on the loop it is given to.
void Proxy::on_client(Accepted accepted) {
    const auto ticket = context_.admission.connect();
    if (!ticket) {
        loops_.front()->counters().add(router::Counter::client_connections_refused);
        std::string error;
        protocol::encode_error(error, "FATAL", "53300",
                               "sorry, too many connections that have not logged in yet",
                               "Raise [limits] max_unauthenticated in Banyan's configuration.");
        refuse_client(accepted.handle, error);
        return;
    }
    {
        const std::lock_guard lock(mutex_);
        std::erase_if(registry_, [](const auto& session) { return session.expired(); });
    }
    auto& loop = emptiest_loop();
    auto place = std::make_shared<EventLoop::Place>(loop);
    loop.post([this, &loop, place = std::move(place), accepted = std::move(accepted), ticket, id = ++next_id_] {
        auto session = std::make_shared<Session>(context_, loop, accepted, id);
        session->set_ticket(ticket);
        session->set_place(place);
        loop.sessions.insert(session);
        {
            const std::lock_guard lock(mutex_);
            registry_.push_back(session);
        }
        session->start();
    });
}

void Proxy::stop_listening(bool handover) {
    loops_.front()->post([this, handover] {
        if (handover) {
            listener_->pause();
        } else {
            listener_->close();
        }
    });
}

void Proxy::resume_listening() {
    loops_.front()->post([this] { listener_->accept(); });
}

void Proxy::sockets_given_away() {
    auto done = std::make_shared<std::promise<void>>();
    auto known = done->get_future();
    loops_.front()->post([this, done] {
        listener_->give_away();
        done->set_value();
    });
    known.wait_for(sweep_patience);  // the loop may be stopped next
}

// The first loop, which accepts, is asked before the others: whom it has given to one of them is
// there by the time that one answers.
std::size_t Proxy::drain(const Drain& drain) {
    std::size_t left = 0;
    for (auto& loop : loops_) {
        auto promise = std::make_shared<std::promise<std::size_t>>();
        auto answer = promise->get_future();
        loop->post([&loop = *loop, drain, promise] {
            const auto sessions = loop.sessions;
            for (const auto& session : sessions) {
                session->drain(drain);
            }
            promise->set_value(loop.sessions.size());
        });
        left += answer.wait_for(sweep_patience) == std::future_status::ready ? answer.get() : 1U;
    }
    return left;
}

void Proxy::stop() {
    for (auto& loop : loops_) {
        loop->stop();
    }
}

void Proxy::reconfigure(const router::Config& config) {
    context_.admission.set_limits(config.limits);
    for (auto& loop : loops_) {
        loop->post([&loop = *loop, limits = config.limits, mirror = config.mirror,
                    users = config.users] {
            loop.config.limits = limits;
            loop.config.mirror = mirror;
            loop.config.users = users;
        });
    }
}

void Proxy::publish(const router::Directive& directive) {
    {
        const std::lock_guard lock(mutex_);
        if (mirrors(directive.phase) != mirrors(directive_.phase) ||
            primary_of(directive.phase) != primary_of(directive_.phase)) {
            context_.prepared.clear();
        }
        directive_ = directive;
    }
    for (auto& loop : loops_) {
        loop->post([&loop = *loop, directive] {
            loop.directive = directive;
            const auto sessions = loop.sessions;
            for (const auto& session : sessions) {
                session->on_directive(directive);
            }
        });
    }
}

std::vector<std::shared_ptr<Session>> Proxy::live_sessions() {
    const std::lock_guard lock(mutex_);
    std::vector<std::shared_ptr<Session>> live;
    for (const auto& weak : registry_) {
        if (auto session = weak.lock()) {
            live.push_back(std::move(session));
        }
    }
    return live;
}

router::Adoption Proxy::adoption() {
    router::Adoption adoption;
    std::uint64_t epoch = 0;
    {
        const std::lock_guard lock(mutex_);
        epoch = directive_.epoch;
    }
    const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::steady_clock::now().time_since_epoch());  // as transaction_since()
    for (const auto& session : live_sessions()) {
        if (session->over()) {
            continue;
        }
        ++adoption.sessions;
        if (session->adopted_epoch() >= epoch) {
            ++adoption.adopted;
            adoption.blocked += session->blocked() ? 1U : 0U;
            if (!session->mirror_ready() && session->logged_in()) {
                ++adoption.without_mirror;
            }
        } else if (const auto since = session->transaction_since(); since != 0) {
            adoption.oldest_transaction =
                std::max(adoption.oldest_transaction, now - std::chrono::milliseconds(since));
        }
    }
    return adoption;
}

std::vector<router::SessionInfo> Proxy::sessions() {
    std::vector<std::future<std::vector<router::SessionInfo>>> answers;
    for (auto& loop : loops_) {
        auto promise = std::make_shared<std::promise<std::vector<router::SessionInfo>>>();
        answers.push_back(promise->get_future());
        loop->post([&loop = *loop, promise] {
            std::vector<router::SessionInfo> infos;
            for (const auto& session : loop.sessions) {
                infos.push_back(session->info());
            }
            promise->set_value(std::move(infos));
        });
    }
    std::vector<router::SessionInfo> all;
    for (auto& answer : answers) {
        if (answer.wait_for(std::chrono::seconds(1)) == std::future_status::ready) {
            auto infos = answer.get();
            all.insert(all.end(), std::make_move_iterator(infos.begin()),
                       std::make_move_iterator(infos.end()));
        }
    }
    return all;
}

void Proxy::wake() {
    for (auto& loop : loops_) {
        loop->post([&loop = *loop] {
            const auto sessions = loop.sessions;
            for (const auto& session : sessions) {
                session->on_catalog();
            }
        });
    }
}

void Proxy::set_catalog(std::shared_ptr<const router::Catalog> catalog) {
    for (auto& loop : loops_) {
        loop->post([&loop = *loop, catalog] {
            loop.catalog = catalog;
            const auto sessions = loop.sessions;
            for (const auto& session : sessions) {
                session->on_catalog();
            }
        });
    }
}

std::chrono::microseconds Proxy::longest_hold() {
    return std::chrono::microseconds(context_.longest_hold_us.load());
}

void Proxy::reset_longest_hold() {
    context_.longest_hold_us.store(0);
}

std::vector<std::int32_t> Proxy::backends(router::Side side) {
    std::vector<std::int32_t> ids;
    for (const auto& session : live_sessions()) {
        if (const auto id = session->process_id(side); id != 0) {
            ids.push_back(id);
        }
    }
    return ids;
}

void Proxy::server_replaced(router::Side side) {
    resolver_.refresh();
    for (auto& loop : loops_) {
        loop->post([&loop = *loop, side] {
            const auto sessions = loop.sessions;
            for (const auto& session : sessions) {
                session->server_replaced(side);
            }
        });
    }
}

std::vector<router::TableId> Proxy::written_since(std::chrono::steady_clock::time_point since) {
    return context_.recent_writes.since(since);
}

std::uint64_t Proxy::counter_total(router::Counter counter) {
    std::uint64_t total = 0;
    for (const auto& loop : loops_) {
        total += loop->counters().get(counter);
    }
    return total;
}

std::chrono::microseconds Proxy::loop_lag() {
    std::chrono::microseconds slowest(0);
    for (const auto& loop : loops_) {
        slowest = std::max(slowest, loop->lag());
    }
    return slowest;
}

std::vector<const router::Counters*> Proxy::counters() {
    std::vector<const router::Counters*> all;
    for (const auto& loop : loops_) {
        all.push_back(&loop->counters());
    }
    return all;
}

std::vector<const router::Timings*> Proxy::timings() {
    std::vector<const router::Timings*> all;
    for (const auto& loop : loops_) {
        all.push_back(&loop->timings());
    }
    return all;
}

std::vector<router::Sample> Proxy::samples() {
    auto samples = log_samples();
    auto ends = context_.tls.certificates_end();
    if (const auto& file = context_.config.admin.ssl_cert_file; !file.empty()) {
        if (const auto end = certificate_ends(file)) {
            ends.emplace_back("operators", *end);
        }
    }
    for (const auto& [shown_to, end] : ends) {
        samples.push_back({"certificate_end_time_seconds",
                           {{"shown_to", shown_to}},
                           static_cast<double>(end),
                           false,
                           "When the certificate that Banyan shows ends, Unix time."});
    }
    return samples;
}

}  // namespace banyan::proxy
