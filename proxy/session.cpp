#include "proxy/session.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/rand.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <boost/asio/error.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <cstring>

#include "proxy/resolve.hpp"

namespace banyan::proxy {
namespace {

// Above this much unsent output, what would add to it is not read any more.
constexpr std::size_t backlog_limit = std::size_t{1} << 20U;
constexpr std::size_t keep_capacity = 16384;

std::int64_t unix_ms(std::chrono::system_clock::time_point time) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

void tune(Socket& socket) {
    const int on = 1;
    // Fails on Unix sockets, where there is nothing to tune.
    ::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ::setsockopt(socket.native_handle(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    boost::system::error_code ignored;
    socket.non_blocking(true, ignored);
}

}  // namespace

void CancelRegistry::add(std::uint32_t process_id, std::uint32_t key, Target target) {
    const std::lock_guard lock(mutex_);
    targets_[(std::uint64_t{process_id} << 32U) | key] = std::move(target);
}

void CancelRegistry::remove(std::uint32_t process_id, std::uint32_t key) {
    const std::lock_guard lock(mutex_);
    targets_.erase((std::uint64_t{process_id} << 32U) | key);
}

CancelRegistry::Target CancelRegistry::find(std::uint32_t process_id, std::uint32_t key) const {
    const std::lock_guard lock(mutex_);
    const auto found = targets_.find((std::uint64_t{process_id} << 32U) | key);
    return found == targets_.end() ? Target{} : found->second;
}

Session::Session(Context& context, EventLoop& loop, Socket client, std::string client_name,
                 std::uint64_t id)
    : context_(context),
      loop_(loop),
      id_(id),
      client_name_(std::move(client_name)),
      connected_at_(std::chrono::system_clock::now()),
      client_(loop),
      source_(loop),
      target_(loop),
      machine_(*this, context.config, loop.directive) {
    client_.socket = std::move(client);
    client_.connected = true;
    tune(client_.socket);
    adopted_epoch_.store(machine_.adopted_epoch());
}

Session::~Session() {
    if (registered_) {
        context_.cancels.remove(registered_->first, registered_->second);
    }
}

void Session::start() {
    loop_.counters().add(router::Counter::client_connections);
    event([this] { machine_.client_connected(); });
}

const router::Endpoint& Session::endpoint(router::Side side) const {
    return side == router::Side::source ? context_.config.source : context_.config.target;
}

// Runs a machine event, then performs what came of it.
template <class F>
void Session::event(F function) {
    if (over_ || in_event_) {
        return;
    }
    const auto self = shared_from_this();
    in_event_ = true;
    function();
    in_event_ = false;
    after_event();
}

// Wraps a completion handler: keeps the session alive, drops late calls of a closed connection.
template <class F>
auto Session::guarded(Peer& peer, F function) {
    return [self = shared_from_this(), &peer, generation = peer.generation,
            function = std::move(function)](const boost::system::error_code& error) {
        if (peer.generation == generation && error != boost::asio::error::operation_aborted) {
            function(error);
        }
    };
}

void Session::after_event() {
    if (over_) {
        return;
    }
    for (const auto side : {router::Side::source, router::Side::target}) {
        auto& server = peer(side);
        if (server.connected && !flush(server, machine_.to_server(side))) {
            on_server_end(side, "the connection broke");
            if (over_) {
                return;
            }
        }
    }
    if (client_.connected && !flush(client_, machine_.to_client())) {
        close_now(client_);
        event([this] { machine_.client_closed(); });
        return;
    }
    if (client_closing_ && client_.connected && machine_.to_client().empty()) {
        close_now(client_);
    }
    publish_facts();
    if (machine_.closed() && !client_.connected) {
        session_over();
    }
    if (over_) {
        loop_.sessions.erase(shared_from_this());
        return;
    }
    read_client();
    read_server(router::Side::source);
    read_server(router::Side::target);
}

void Session::publish_facts() {
    adopted_epoch_.store(machine_.adopted_epoch(), std::memory_order_relaxed);
    mirror_ready_.store(machine_.mirror_ready(), std::memory_order_relaxed);
    logged_in_.store(machine_.logged_in(), std::memory_order_relaxed);
    for (const auto side : {router::Side::source, router::Side::target}) {
        process_ids_[static_cast<std::size_t>(side)].store(
            static_cast<std::int32_t>(machine_.backend(side).first), std::memory_order_relaxed);
    }
    // The clock is read once per transaction that outlives an event, not per message.
    const bool open = machine_.in_transaction();
    if (open && transaction_since_.load(std::memory_order_relaxed) == 0) {
        transaction_since_.store(unix_ms(std::chrono::system_clock::now()),
                                 std::memory_order_relaxed);
    } else if (!open) {
        transaction_since_.store(0, std::memory_order_relaxed);
    }
    if (held_since_ && !machine_.held()) {
        const auto waited = std::chrono::duration_cast<std::chrono::microseconds>(
                                std::chrono::steady_clock::now() - *held_since_)
                                .count();
        held_since_.reset();
        auto longest = context_.longest_hold_us.load();
        while (waited > longest &&
               !context_.longest_hold_us.compare_exchange_weak(longest, waited)) {
        }
    }
}

// --- reading ---

void Session::read_client() {
    if (!client_.connected || client_.reading || client_.ended || client_closing_ ||
        !machine_.wants_client_bytes() ||
        machine_.to_server(machine_.primary()).size() > backlog_limit) {
        return;
    }
    client_.reading = true;
    client_.socket.async_wait(
        Socket::wait_read, guarded(client_, [this](const boost::system::error_code&) {
            client_.reading = false;
            auto& buffer = loop_.read_buffer();
            const auto got = ::recv(client_.socket.native_handle(), buffer.data(), buffer.size(), 0);
            if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
                read_client();
                return;
            }
            if (got <= 0) {
                client_.ended = true;
                close_now(client_);
                event([this] { machine_.client_closed(); });
                return;
            }
            if (machine_.held() && !held_since_) {
                held_since_ = std::chrono::steady_clock::now();
            }
            event([this, &buffer, got] {
                machine_.client_bytes({buffer.data(), static_cast<std::size_t>(got)});
            });
        }));
}

void Session::read_server(router::Side side) {
    auto& server = peer(side);
    const bool blocked =
        side == machine_.primary() && machine_.to_client().size() > backlog_limit;
    if (!server.connected || server.reading || server.ended || blocked) {
        return;
    }
    server.reading = true;
    server.socket.async_wait(
        Socket::wait_read, guarded(server, [this, side](const boost::system::error_code&) {
            auto& from = peer(side);
            from.reading = false;
            auto& buffer = loop_.read_buffer();
            const auto got = ::recv(from.socket.native_handle(), buffer.data(), buffer.size(), 0);
            if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
                read_server(side);
                return;
            }
            if (got <= 0) {
                from.ended = true;
                on_server_end(side, got == 0 ? "the server closed the connection"
                                             : std::strerror(errno));
                return;
            }
            event([this, side, &buffer, got] {
                machine_.server_bytes(side, {buffer.data(), static_cast<std::size_t>(got)});
            });
        }));
}

void Session::on_server_end(router::Side side, const std::string& why) {
    close_now(peer(side));
    event([this, side, why] { machine_.server_lost(side, why); });
}

// --- writing ---

bool Session::flush(Peer& to, std::string& out) {
    while (to.sent < out.size()) {
        if (to.writing) {
            return true;
        }
        const auto sent = ::send(to.socket.native_handle(), out.data() + to.sent,
                                 out.size() - to.sent, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EINTR) {
                continue;
            }
            if (errno != EAGAIN) {
                return false;
            }
            wait_writable(to);
            break;
        }
        if (&to == &client_) {
            loop_.counters().add(router::Counter::bytes_to_clients,
                                 static_cast<std::uint64_t>(sent));
        }
        to.sent += static_cast<std::size_t>(sent);
    }
    if (to.sent == out.size()) {
        if (out.capacity() > keep_capacity) {
            std::string().swap(out);
        } else {
            out.clear();
        }
        to.sent = 0;
    } else if (to.sent > backlog_limit) {
        out.erase(0, to.sent);
        to.sent = 0;
    }
    return true;
}

void Session::wait_writable(Peer& to) {
    to.writing = true;
    to.socket.async_wait(Socket::wait_write,
                         guarded(to, [this, &to](const boost::system::error_code&) {
                             to.writing = false;
                             after_event();
                         }));
}

void Session::close_now(Peer& which) {
    boost::system::error_code ignored;
    ++which.generation;
    which.socket.close(ignored);
    which.connected = which.reading = which.writing = which.ended = false;
    which.sent = 0;
}

// --- SessionPort ---

void Session::connect(router::Side side) {
    close_now(peer(side));
    machine_.to_server(side).clear();
    try_endpoint(side, 0);
}

void Session::try_endpoint(router::Side side, std::size_t index) {
    auto& server = peer(side);
    const auto addresses = resolve(endpoint(side));
    const auto generation = server.generation;
    if (index >= addresses.size()) {
        loop_.post([self = shared_from_this(), this, side, generation] {
            if (peer(side).generation == generation) {
                event([this, side] {
                    machine_.server_lost(side, "cannot resolve " + endpoint(side).host);
                });
            }
        });
        return;
    }
    const bool last = index + 1 == addresses.size();
    server.socket.async_connect(
        addresses[index],
        guarded(server, [this, side, index, last](const boost::system::error_code& error) {
            auto& to = peer(side);
            if (!error) {
                to.connected = true;
                tune(to.socket);
                event([this, side] { machine_.server_connected(side); });
                return;
            }
            close_now(to);
            if (last) {
                event([this, side, why = error.message()] { machine_.server_lost(side, why); });
            } else {
                try_endpoint(side, index + 1);
            }
        }));
}

void Session::close_server(router::Side side) {
    auto& server = peer(side);
    if (server.connected) {
        flush(server, machine_.to_server(side));  // a last Terminate, if it goes out at once
    }
    close_now(server);
    machine_.to_server(side).clear();
}

void Session::close_client() { client_closing_ = true; }

void Session::session_over() {
    over_ = true;
    for (auto& timer : deadlines_) {
        timer.reset();
    }
    if (client_.connected) {
        flush(client_, machine_.to_client());
    }
    if (const auto request = machine_.cancel_request()) {
        const auto target = context_.cancels.find(request->first, request->second);
        if (target.loop != nullptr) {
            target.loop->post([weak = target.session] {
                if (const auto session = weak.lock()) {
                    session->cancel();
                }
            });
        }
        loop_.counters().add(router::Counter::cancels);
    }
    close_now(client_);
    close_now(source_);
    close_now(target_);
    loop_.post([self = shared_from_this()] { self->loop_.sessions.erase(self); });
}

std::uint32_t Session::cancel_key(std::uint32_t process_id) {
    std::uint32_t key = 0;
    RAND_bytes(reinterpret_cast<unsigned char*>(&key), sizeof key);
    registered_ = {process_id, key};
    context_.cancels.add(process_id, key, {&loop_, weak_from_this()});
    return key;
}

void Session::cancel() {
    if (!over_ && machine_.busy()) {
        const auto [process_id, key] = machine_.backend(machine_.primary());
        send_cancel(machine_.primary(), process_id, key);
    }
}

void Session::send_cancel(router::Side side, std::uint32_t process_id, std::uint32_t secret_key) {
    const auto addresses = resolve(endpoint(side));
    if (addresses.empty()) {
        return;
    }
    auto socket = std::make_shared<Socket>(loop_.io());
    socket->async_connect(
        addresses.front(),
        [socket, process_id, secret_key](const boost::system::error_code& error) {
            if (!error) {
                std::string request;
                protocol::encode_cancel_request(request, process_id, secret_key);
                ::send(socket->native_handle(), request.data(), request.size(), MSG_NOSIGNAL);
            }
        });
}

router::TxnId Session::begin_commit(router::CommitIntent intent) {
    // The answer may come, on another thread, before the number is known here.
    auto number = std::make_shared<std::atomic<router::TxnId>>(0);
    const auto txn = context_.ledger.begin_commit(
        std::move(intent), [self = shared_from_this(), number](bool durable) {
            self->loop_.post([self, number, durable] {
                self->event([&] { self->machine_.journaled(number->load(), durable); });
            });
        });
    number->store(txn);
    return txn;
}

void Session::finish(router::TxnId txn, router::CommitOutcome outcome) {
    context_.ledger.finish(txn, outcome);
}

void Session::lose(router::TxnId txn, std::vector<router::LimboBackend> backends) {
    context_.ledger.lose(txn, std::move(backends));
}

void Session::mark_suspect(std::vector<router::SuspectMark> marks) {
    context_.ledger.mark_suspect(marks);
}

void Session::set_deadline(router::Deadline kind, std::chrono::milliseconds after) {
    auto& timer = deadlines_[static_cast<std::size_t>(kind)];
    timer = std::make_unique<boost::asio::steady_timer>(loop_.io(), after);
    timer->async_wait([weak = weak_from_this(), kind](const boost::system::error_code& error) {
        const auto self = weak.lock();
        if (!error && self) {
            self->event([&] { self->machine_.deadline(kind); });
        }
    });
}

void Session::clear_deadline(router::Deadline kind) {
    deadlines_[static_cast<std::size_t>(kind)].reset();
}

void Session::report_discrepancy(router::PendingDiscrepancy pending) {
    context_.report_discrepancy(std::move(pending));
}

std::string Session::nonce() {
    static constexpr std::string_view alphabet =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::array<unsigned char, 24> bytes{};
    RAND_bytes(bytes.data(), static_cast<int>(bytes.size()));
    std::string out;
    for (const auto byte : bytes) {
        out.push_back(alphabet[byte % alphabet.size()]);
    }
    return out;
}

double Session::random() { return std::uniform_real_distribution<double>(0, 1)(loop_.random()); }

void Session::adopted() { adopted_epoch_.store(machine_.adopted_epoch()); }

void Session::log(int level, const std::string& message) {
    spdlog::log(static_cast<spdlog::level::level_enum>(level), "session {}: {}", id_, message);
}

// --- events from the fleet ---

void Session::on_directive(const router::Directive& directive) {
    event([this, &directive] { machine_.directive(directive); });
}

void Session::on_catalog() {
    event([this] { machine_.poll(); });
}

void Session::terminate() {
    event([this] { machine_.terminate(); });
}

router::SessionInfo Session::info() const {
    router::SessionInfo info;
    info.id = id_;
    info.user = machine_.user();
    info.database = machine_.database();
    info.application = machine_.application();
    info.client = client_name_;
    info.state = machine_.state_name();
    info.phase = machine_.phase();
    info.mirror_ready = machine_.mirror_ready();
    info.connected_unix_ms = unix_ms(connected_at_);
    const auto since = transaction_since_.load();
    info.transaction_age_ms =
        since == 0 ? 0 : unix_ms(std::chrono::system_clock::now()) - since;
    info.source_process_id = process_id(router::Side::source);
    info.target_process_id = process_id(router::Side::target);
    return info;
}

}  // namespace banyan::proxy
