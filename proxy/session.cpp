#include "proxy/session.hpp"

#include <openssl/rand.h>
#include <spdlog/spdlog.h>
#include <time.h>

#include "proxy/cancel_call.hpp"
#include "router/model/sync_point.hpp"

namespace banyan::proxy {
namespace {

// Above this much unsent output, what would add to it is not read any more.
constexpr std::size_t backlog_limit = std::size_t{1} << 20U;
constexpr std::size_t keep_capacity = 16384;

// Ages are of this clock: the wall clock may jump. As exact as the kernel's tick, which costs a
// fraction of std::chrono::steady_clock.
std::int64_t steady_ms() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

std::int64_t unix_ms(std::chrono::system_clock::time_point time) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

}  // namespace

Session::Session(Context& context, EventLoop& loop, const Accepted& accepted, std::uint64_t id)
    : context_(context),
      loop_(loop),
      id_(id),
      client_name_(accepted.peer),
      local_(accepted.local),
      entry_(local_                                 ? Entry::open
             : context.config.listen.proxy_protocol ? Entry::proxy_header
             : context.config.listen.tls()          ? Entry::first_byte
                                                    : Entry::open),
      connected_at_(std::chrono::system_clock::now()),
      client_(loop),
      source_(loop),
      target_(loop),
      machine_(*this, loop.config, loop.directive) {
    client_.channel.open(Descriptor(accepted.handle));
    client_.channel.tune(context.config.tcp);
    client_.connected = true;
    adopted_epoch_.store(machine_.adopted_epoch());
}

Session::~Session() {
    if (registered_) {
        context_.cancels.remove(registered_->first, registered_->second);
    }
}

void Session::start() {
    loop_.counters().add(router::Counter::client_connections);
    event([this] { machine_.client_connected(local_); });
}

void Session::after_event() {
    if (over_) {
        return;
    }
    // Shadow reads go to the mirror when the primary has had a head start, and behind its answer to
    // the client: on machines that the two servers share they would delay it.
    const bool client_first = machine_.mirror_can_wait();
    const bool mirror_waits = client_first || machine_.rows_can_wait();
    for (const auto side : {router::Side::source, router::Side::target}) {
        if (!(mirror_waits && side != machine_.primary()) && !flush_server(side)) {
            return;
        }
    }
    router::sync_points_due({router::SyncPoint::commit_sent, router::SyncPoint::mirror_commit_sent});
    const bool shaking = entry_ == Entry::tls;  // nothing else may be written then
    if (client_.connected && !shaking && !flush(client_, machine_.to_client())) {
        close_now(client_);
        event([this] { machine_.client_closed(); });
        return;
    }
    router::sync_points_due({router::SyncPoint::client_told});
    if (client_closing_ && client_.connected && (shaking || machine_.to_client().empty())) {
        close_now(client_);
        event([this] { machine_.client_drained(); });
        return;
    }
    if (entry_ == Entry::tls_wanted && client_.connected && machine_.to_client().empty()) {
        entry_ = Entry::tls;
        client_.channel.start_tls(context_.tls.accept());
    }
    if (client_first && (primary_spoke_ || !machine_.busy()) &&
        !flush_server(router::other(machine_.primary()))) {
        return;
    }
    publish_facts();
    if (machine_.closed() && !client_.connected) {
        session_over();
    }
    if (over_) {
        return;
    }
    if (machine_.waits_for_mirror() && !peer(router::other(machine_.primary())).writing) {
        event([this] { machine_.poll(); });
        return;
    }
    read_client();
    read_server(router::Side::source);
    read_server(router::Side::target);
}

void Session::publish_facts() {
    adopted();
    mirror_ready_.store(machine_.mirror_ready(), std::memory_order_relaxed);
    logged_in_.store(machine_.logged_in(), std::memory_order_relaxed);
    for (const auto side : {router::Side::source, router::Side::target}) {
        process_ids_[static_cast<std::size_t>(side)].store(
            static_cast<std::int32_t>(machine_.backend(side).first), std::memory_order_relaxed);
    }
    // The clock is read once per transaction that outlives an event, not per message.
    const bool open = machine_.in_transaction();
    served_ = served_ || (open && machine_.logged_in());
    if (open && transaction_since_.load(std::memory_order_relaxed) == 0) {
        transaction_since_.store(steady_ms(), std::memory_order_relaxed);
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

template <class F>
void Session::read_event(F function) {
    if (!loop_.timed()) {
        event(function);
        return;
    }
    const auto begun = now();
    timing_ = true;
    event(function);
    timing_ = false;
    loop_.timings().add(router::Timing::overhead, now() - begun);
}

void Session::read_client() {
    if (!client_.connected || client_.reading || client_.ended || client_closing_ ||
        entry_ == Entry::tls_wanted || !machine_.wants_client_bytes() ||
        machine_.to_server(machine_.primary()).size() > backlog_limit) {
        return;
    }
    client_.reading = true;
    client_.channel.when_readable([this] {
        client_.reading = false;
        if (entry_ == Entry::open) {
            on_client_readable();
        } else {
            enter();
        }
    });
}

void Session::on_client_readable() {
    auto& buffer = loop_.read_buffer();
    std::size_t got = 0;
    switch (client_.channel.read(buffer.data(), buffer.size(), got)) {
        case Channel::Outcome::done:
            break;
        case Channel::Outcome::wait:
            read_client();
            return;
        default:
            on_client_end();
            return;
    }
    if (machine_.held() && !held_since_) {
        held_since_ = std::chrono::steady_clock::now();
    }
    primary_spoke_ = false;
    read_event([this, &buffer, got] { machine_.client_bytes({buffer.data(), got}); });
}

void Session::on_client_end() {
    client_.ended = true;
    close_now(client_);
    event([this] { machine_.client_closed(); });
}

void Session::on_client_encrypted() {
    event([this] { machine_.client_encrypted(peer_common_name(client_.channel.ssl())); });
}

void Session::read_server(router::Side side) {
    auto& server = peer(side);
    const bool blocked = side == machine_.primary() && machine_.to_client().size() > backlog_limit;
    if (!server.connected || server.reading || server.ended || blocked) {
        return;
    }
    server.reading = true;
    server.channel.when_readable([this, side] { on_server_readable(side); });
}

void Session::on_server_readable(router::Side side) {
    auto& from = peer(side);
    from.reading = false;
    auto& buffer = loop_.read_buffer();
    std::size_t got = 0;
    switch (from.channel.read(buffer.data(), buffer.size(), got)) {
        case Channel::Outcome::done:
            from.asked = false;
            if (from.asked_at != std::chrono::steady_clock::time_point()) {
                loop_.timings().add(side == router::Side::source ? router::Timing::source_response
                                                                 : router::Timing::target_response,
                                    now() - std::exchange(from.asked_at, {}));
            }
            primary_spoke_ = primary_spoke_ || side == machine_.primary();
            read_event([this, side, &buffer, got] {
                machine_.server_bytes(side, {buffer.data(), got});
            });
            break;
        case Channel::Outcome::wait:
            read_server(side);
            break;
        case Channel::Outcome::ended:
            from.ended = true;
            on_server_end(side, "the server closed the connection");
            break;
        case Channel::Outcome::failed:
            from.ended = true;
            on_server_end(side, from.channel.error());
            break;
    }
}

void Session::on_server_end(router::Side side, const std::string& why) {
    close_now(peer(side));
    event([this, side, why] { machine_.server_lost(side, why); });
}

// --- writing ---

// False: the session is over.
bool Session::flush_server(router::Side side) {
    auto& server = peer(side);
    if (server.connected && !flush(server, machine_.to_server(side))) {
        on_server_end(side, "the connection broke");
    }
    return !over_;
}

bool Session::flush(Peer& to, std::string& out) {
    while (to.sent < out.size()) {
        if (to.writing) {
            return true;
        }
        std::size_t sent = 0;
        const auto outcome = to.channel.write(out.data() + to.sent, out.size() - to.sent, sent);
        if (outcome == Channel::Outcome::wait) {
            wait_writable(to);
            break;
        }
        if (outcome != Channel::Outcome::done) {
            return false;
        }
        if (&to == &client_) {
            loop_.counters().add(router::Counter::bytes_to_clients, sent);
        } else {
            note_asked(to);
        }
        to.sent += sent;
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

// Of what is sent before the answer to something else has come the answer could not be told.
void Session::note_asked(Peer& server) {
    if (timing_ && !server.asked) {
        server.asked_at = now();
    }
    server.asked = true;
}

void Session::wait_writable(Peer& to) {
    to.writing = true;
    to.channel.when_writable([this, &to] {
        const auto self = shared_from_this();
        to.writing = false;
        after_event();
    });
}

void Session::close_now(Peer& which) {
    which.channel.close();
    if (which.connector) {
        which.connector->cancel();
        which.connector.reset();
    }
    which.connected = which.reading = which.writing = which.ended = false;
    which.asked = false;
    which.asked_at = {};
    which.sent = 0;
}

// --- SessionPort ---

void Session::connect(router::Side side) {
    close_now(peer(side));
    machine_.to_server(side).clear();
    auto& server = peer(side);
    server.connector = std::make_shared<Connector>(context_, loop_, side);
    server.connector->start([self = shared_from_this(), this, side](Result<Channel> connected) {
        auto& to = peer(side);
        to.connector.reset();
        if (!connected) {
            event([this, side, &connected] {
                const auto& error = connected.error();
                machine_.server_lost(side, error.message, error.sqlstate);
            });
            return;
        }
        to.channel = std::move(*connected);
        to.connected = true;
        const auto& config = context_.config;
        const auto& host = (side == router::Side::source ? config.source : config.target).host;
        const bool encrypted = to.channel.encrypted() || host.starts_with('/');
        event([this, side, encrypted] { machine_.server_connected(side, encrypted); });
    });
}

void Session::close_server(router::Side side) {
    auto& server = peer(side);
    if (server.connected) {
        flush(server, machine_.to_server(side));  // a last Terminate, if it goes out at once
    }
    close_now(server);
    machine_.to_server(side).clear();
}

void Session::close_client() {
    client_closing_ = true;
}

void Session::session_over() {
    if (over_) {
        return;
    }
    over_ = true;
    for (auto& timer : deadlines_) {
        timer.reset();
    }
    if (client_.connected) {
        flush(client_, machine_.to_client());
    }
    close_now(source_);
    close_now(target_);
    const auto request = machine_.cancel_request();
    if (!request) {
        leave();
        return;
    }
    loop_.counters().add(router::Counter::cancels);
    const auto found = context_.cancels.find(request->first, request->second);
    if (found.loop == nullptr) {
        leave();
        return;
    }
    // The client's connection stays open until the server has closed the one that brought it the
    // request, as the server's own would: once that is closed, no later query can be hit.
    const auto done = [&loop = loop_, weak = weak_from_this()] {
        loop.post([weak] {
            if (const auto self = weak.lock()) {
                self->leave();
            }
        });
    };
    found.loop->post([target = found.session, done] {
        if (const auto session = target.lock()) {
            session->cancel(done);
        } else {
            done();
        }
    });
}

void Session::leave() {
    close_now(client_);
    loop_.post([self = shared_from_this()] { self->loop_.sessions.erase(self); });
}

std::uint32_t Session::cancel_key(std::uint32_t process_id) {
    std::uint32_t key = 0;
    RAND_bytes(reinterpret_cast<unsigned char*>(&key), sizeof key);
    registered_ = {process_id, key};
    context_.cancels.add(process_id, key, {&loop_, weak_from_this()});
    return key;
}

void Session::cancel(const std::function<void()>& done) {
    cancel_done_ = done;
    event([this] { machine_.cancel(); });
    if (cancel_done_) {
        std::exchange(cancel_done_, nullptr)();  // nothing was running
    }
}

void Session::send_cancel(router::Side side, std::uint32_t process_id, std::uint32_t secret_key) {
    std::make_shared<CancelCall>(context_, loop_, side)
        ->start(process_id, secret_key,
                [weak = weak_from_this(), side, done = std::exchange(cancel_done_, nullptr)] {
                    if (const auto self = weak.lock()) {
                        self->event([&] { self->machine_.cancel_done(side); });
                    }
                    if (done) {
                        done();
                    }
                });
}

router::TxnId Session::begin_commit(router::CommitIntent intent) {
    // The answer may come, on another thread, before the number is known here.
    auto number = std::make_shared<std::atomic<router::TxnId>>(0);
    context_.recent_writes.note(intent);
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

bool Session::may_commit() {
    return context_.lease == nullptr || context_.lease->may_commit();
}

void Session::lose(router::TxnId txn, std::vector<router::LimboBackend> backends) {
    context_.ledger.lose(txn, std::move(backends));
}

void Session::mark_suspect(std::vector<router::SuspectMark> marks) {
    context_.ledger.mark_suspect(marks);
}

void Session::set_deadline(router::Deadline kind, std::chrono::milliseconds after) {
    auto& timer = deadlines_[static_cast<std::size_t>(kind)];
    if (!timer) {
        timer = std::make_unique<Timer>(loop_.reactor());
    }
    timer->after(after, [this, kind] {
        const auto self = shared_from_this();
        event([&] { machine_.deadline(kind); });
    });
}

void Session::clear_deadline(router::Deadline kind) {
    deadlines_[static_cast<std::size_t>(kind)].reset();
}

void Session::report_discrepancy(router::PendingDiscrepancy pending) {
    context_.report_discrepancy(std::move(pending));
}

void Session::offer_rerun(router::PendingDiscrepancy read) {
    context_.offer_rerun(std::move(read));
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

// Answers come on other threads, and the session may be gone by then.
void Session::request_verifiers(const std::string& user, std::optional<router::Side> only) {
    context_.verifiers.request(user, only, [&loop = loop_, weak = weak_from_this()](auto answer) {
        loop.post([weak, answer = std::move(answer)] {
            if (const auto self = weak.lock()) {
                self->event([&] { self->machine_.verifiers(*answer); });
            }
        });
    });
}

void Session::derive_key(std::uint64_t ticket, const protocol::Secret& password,
                         const std::string& salt, std::uint32_t iterations) {
    context_.key_deriver.derive(
        password, salt, iterations, [&loop = loop_, weak = weak_from_this(), ticket](auto key) {
            loop.post([weak, ticket, key = std::move(key)] {
                if (const auto self = weak.lock()) {
                    self->event([&] { self->machine_.key_derived(ticket, key.get()); });
                }
            });
        });
}

double Session::random() {
    return std::uniform_real_distribution<double>(0, 1)(loop_.random());
}

// Mostly nothing is new, and a store that others must see in order costs more than a look.
void Session::adopted() {
    const auto blocked = machine_.blocked();
    const auto epoch = machine_.adopted_epoch();
    if (blocked_.load(std::memory_order_relaxed) != blocked ||
        adopted_epoch_.load(std::memory_order_relaxed) != epoch) {
        blocked_.store(blocked);
        adopted_epoch_.store(epoch);
    }
}

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
    info.mirror_login = machine_.mirror_login();
    info.connected_unix_ms = unix_ms(connected_at_);
    const auto since = transaction_since_.load();
    info.transaction_age_ms = since == 0 ? 0 : steady_ms() - since;
    info.source_process_id = process_id(router::Side::source);
    info.target_process_id = process_id(router::Side::target);
    info.blocking = machine_.blocking();
    info.locks = machine_.locks();
    return info;
}

}  // namespace banyan::proxy
