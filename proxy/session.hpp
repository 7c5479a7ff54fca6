// The driver of one session: performs with sockets and timers what the session machine asks for. It
// decides nothing. Lives on one event loop from accept to close; only snapshot() may be called from
// other threads.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <new>
#include <optional>
#include <string>

#include "proxy/channel.hpp"
#include "proxy/connector.hpp"
#include "proxy/context.hpp"
#include "proxy/drain.hpp"
#include "proxy/event_loop.hpp"
#include "proxy/listener.hpp"
#include "router/session/session_machine.hpp"

namespace banyan::proxy {

class Session : public std::enable_shared_from_this<Session>, private router::SessionPort {
   public:
    Session(Context& context, EventLoop& loop, const Accepted& accepted, std::uint64_t id);
    ~Session() override;

    /// Its place among the clients; before start().
    void set_ticket(std::shared_ptr<Admission::Ticket> ticket) {
        ticket_ = std::move(ticket);
    }
    void set_place(std::shared_ptr<EventLoop::Place> place) { place_ = std::move(place); }
    void start();
    void on_directive(const router::Directive& directive);
    void on_catalog();
    /// A CancelRequest with this session's key has come. `done` is called, on this session's loop,
    /// when the server has it, or at once if there is nothing to cancel.
    void cancel(const std::function<void()>& done);
    /// What it has open to this side goes to a server that is no longer the database.
    void server_replaced(router::Side side);
    /// Ends the session with 57P01 if `drain` says so.
    void drain(const Drain& drain);

    // --- from any thread ---
    std::uint64_t adopted_epoch() const { return adopted_epoch_.load(); }
    bool mirror_ready() const { return mirror_ready_.load(); }
    bool logged_in() const { return logged_in_.load(); }
    bool blocked() const { return blocked_.load(); }
    bool over() const { return over_.load(); }
    /// Since when a transaction has been open, in milliseconds of the steady clock; 0: none.
    std::int64_t transaction_since() const { return transaction_since_.load(); }
    std::int32_t process_id(router::Side side) const {
        return process_ids_[static_cast<std::size_t>(side)].load();
    }

    /// On the loop's thread.
    router::SessionInfo info() const;

   private:
    struct Peer {
        explicit Peer(EventLoop& loop) : channel(loop.reactor()) {}
        Channel channel;
        std::shared_ptr<Connector> connector;  ///< while the connection is being made
        std::size_t sent = 0;                  ///< bytes of the machine's output already written
        bool connected = false;
        bool reading = false;          ///< a wait for readability is out
        bool writing = false;          ///< a wait for writability is out
        bool ended = false;            ///< end of file was seen
        bool asked = false;            ///< of a server: bytes went there, and none has come since
        /// When the first of these went, if in an event that is timed.
        std::chrono::steady_clock::time_point asked_at{};
    };

    /// How far a client's connection has come.
    enum class Entry {
        proxy_header,  ///< a PROXY protocol header must come first
        first_byte,    ///< may be the first of a TLS handshake
        tls_wanted,    ///< what is to be sent first is not out yet
        tls,           ///< the handshake is on
        open,
    };

    // SessionPort
    bool offers_tls() override;
    void start_client_tls() override { entry_ = Entry::tls_wanted; }
    void connect(router::Side side) override;
    void close_server(router::Side side) override;
    void close_client() override;
    void session_over() override;
    bool admit_client() override { return ticket_->admit(); }
    bool admit_user(const std::string& user) override { return ticket_->authenticated(user); }
    std::uint32_t cancel_key(std::uint32_t process_id) override;
    void send_cancel(router::Side side, std::uint32_t process_id,
                     std::uint32_t secret_key) override;
    router::TxnId begin_commit(router::CommitIntent intent) override;
    void finish(router::TxnId txn, router::CommitOutcome outcome) override;
    bool may_commit() override;
    void lose(router::TxnId txn, std::vector<router::LimboBackend> backends) override;
    void mark_suspect(std::vector<router::SuspectMark> marks) override;
    std::chrono::steady_clock::time_point now() override {
        return std::chrono::steady_clock::now();
    }
    void set_deadline(router::Deadline kind, std::chrono::milliseconds after) override;
    void clear_deadline(router::Deadline kind) override;
    std::shared_ptr<const router::Catalog> catalog() override { return loop_.catalog; }
    void request_catalog_reload() override { context_.request_catalog_reload(); }
    std::shared_ptr<const router::ParsedQuery> parse(std::string_view sql) override {
        return loop_.parse(sql);
    }
    router::Breaker& breaker() override { return context_.breaker; }
    router::PreparedTransactions& prepared_transactions() override { return context_.prepared; }
    router::Counters& counters() override { return loop_.counters(); }
    void report_discrepancy(router::PendingDiscrepancy pending) override;
    void offer_rerun(router::PendingDiscrepancy read) override;
    std::string nonce() override;
    void request_verifiers(const std::string& user, std::optional<router::Side> only) override;
    void derive_key(std::uint64_t ticket, const protocol::Secret& password, const std::string& salt,
                    std::uint32_t iterations) override;
    double random() override;
    void adopted() override;
    void log(int level, const std::string& message) override;

    /// The last step of session_over().
    void leave();
    void out_of_memory();

    template <class F>
    void event(F function);
    void after_event();
    void publish_facts();
    // session_entry.cpp
    void enter();
    bool read_proxy_header();
    void shake_hands();
    Peer& peer(router::Side side) { return side == router::Side::source ? source_ : target_; }
    void read_client();
    void on_client_readable();
    void on_client_end();
    void on_client_encrypted();
    void read_server(router::Side side);
    void on_server_readable(router::Side side);
    /// event(), with the time it takes noted for one read in timed_share.
    template <class F>
    void read_event(F function);
    void note_asked(Peer& server);
    void on_server_end(router::Side side, const std::string& why);
    /// Writes what the socket takes now. False if the connection is broken.
    bool flush(Peer& peer, std::string& out);
    bool flush_server(router::Side side);
    void wait_writable(Peer& peer);
    void close_now(Peer& peer);

    Context& context_;
    EventLoop& loop_;
    const std::uint64_t id_;
    std::string client_name_;
    const bool local_;
    Entry entry_;
    std::string proxy_header_;  ///< what of it has come
    bool direct_tls_ = false;
    const std::chrono::system_clock::time_point connected_at_;
    Peer client_;
    Peer source_;
    Peer target_;
    std::array<std::unique_ptr<Timer>,
               static_cast<std::size_t>(router::Deadline::count_)>
        deadlines_;
    std::optional<std::pair<std::uint32_t, std::uint32_t>> registered_;
    std::optional<std::chrono::steady_clock::time_point> held_since_;
    std::shared_ptr<Admission::Ticket> ticket_;
    std::shared_ptr<EventLoop::Place> place_;
    bool client_closing_ = false;
    std::function<void()> cancel_done_;  ///< of cancel(), until send_cancel() takes it
    bool in_event_ = false;
    bool timing_ = false;  ///< the event is timed
    bool primary_spoke_ = false;  ///< since the client did
    bool served_ = false;  ///< has had a transaction
    bool broken_ = false;  ///< memory has run out in it
    router::SessionMachine machine_;

    std::atomic<std::uint64_t> adopted_epoch_{0};
    std::atomic<bool> over_{false};
    std::atomic<bool> logged_in_{false};
    std::atomic<bool> mirror_ready_{false};
    std::atomic<bool> blocked_{false};  ///< stored before the epoch: read behind it
    std::atomic<std::int64_t> transaction_since_{0};
    std::array<std::atomic<std::int32_t>, 2> process_ids_{};
};

// Runs a machine event, then performs what came of it.
template <class F>
void Session::event(F function) {
    if (over_ || in_event_) {
        return;
    }
    const auto self = shared_from_this();
    try {
        in_event_ = true;
        function();
        in_event_ = false;
        after_event();
    } catch (const std::bad_alloc&) {
        in_event_ = false;
        out_of_memory();
    }
}

}  // namespace banyan::proxy
