// What a session machine asks of the world. The driver in proxy/ does it with sockets and timers;
// tests script it. No call re-enters the machine: answers come later as events.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/secret.hpp"
#include "router/catalog/catalog.hpp"
#include "router/metrics/counters.hpp"
#include "router/breaker/breaker.hpp"
#include "router/model/types.hpp"
#include "router/shadow/discrepancy.hpp"
#include "router/sql/statement.hpp"
#include "router/state/ledger.hpp"
#include "router/state/prepared_transactions.hpp"

namespace banyan::router {

/// What a deadline is for; one of each kind may be set at a time.
enum class Deadline : std::uint8_t {
    login,                ///< the whole of a client's login
    mirror,               ///< the mirror must answer: commit barrier, statement, or drain
    mirror_commit,        ///< the mirror must answer a COMMIT that nobody waits for
    mirror_login,         ///< connecting and logging in to the mirror
    mirror_retry,         ///< a refused login to the mirror may be tried again
    shadow_yield,         ///< a shadow read stands in the way of a write
    catalog,              ///< waiting for the catalogue after DDL
    idle_in_transaction,  ///< the client's next message
    closing,              ///< a client that does not read what it is still owed
    count_                ///< not a deadline
};

class SessionPort {
   public:
    virtual ~SessionPort() = default;

    /// Opens a connection; answered by server_connected() or server_lost().
    virtual void connect(Side side) = 0;
    /// Closes it; no further event of it arrives. Bytes not yet sent are dropped.
    virtual void close_server(Side side) = 0;
    /// The client may have TLS: there is a certificate, and it came over TCP.
    virtual bool offers_tls() = 0;
    /// Sends what is in to_client(), then shakes hands; answered by client_encrypted() or
    /// client_closed(). No client_bytes() in between.
    virtual void start_client_tls() = 0;
    /// Sends what is in to_client() and closes; the session ends.
    virtual void close_client() = 0;
    /// Nothing more will come from this session; the driver may destroy it.
    virtual void session_over() = 0;
    /// The startup message has come. False: there are too many clients already.
    virtual bool admit_client() = 0;
    /// The primary has let the client in. False: the role has too many clients already.
    virtual bool admit_user(const std::string& user) = 0;
    /// A key for the client's BackendKeyData, under which a CancelRequest finds this session.
    virtual std::uint32_t cancel_key(std::uint32_t process_id) = 0;
    /// Sends a CancelRequest to a backend of our own; answered by cancel_done() when the server has
    /// closed that connection (the signal has been sent by then), or after a while.
    virtual void send_cancel(Side side, std::uint32_t process_id, std::uint32_t secret_key) = 0;

    /// Ledger::begin_commit(); answered by journaled().
    virtual TxnId begin_commit(CommitIntent intent) = 0;
    virtual void finish(TxnId txn, CommitOutcome outcome) = 0;
    virtual void lose(TxnId txn, std::vector<LimboBackend> backends) = 0;
    virtual void mark_suspect(std::vector<SuspectMark> marks) = 0;

    virtual std::chrono::steady_clock::time_point now() = 0;
    virtual void set_deadline(Deadline kind, std::chrono::milliseconds after) = 0;
    virtual void clear_deadline(Deadline kind) = 0;

    virtual std::shared_ptr<const Catalog> catalog() = 0;
    virtual void request_catalog_reload() = 0;
    /// parse_query() through a cache shared by the sessions of one event loop.
    virtual std::shared_ptr<const ParsedQuery> parse(std::string_view sql) = 0;
    virtual Breaker& breaker() = 0;
    virtual PreparedTransactions& prepared_transactions() = 0;
    virtual Counters& counters() = 0;
    virtual void report_discrepancy(PendingDiscrepancy pending) = 0;
    /// A read whose answers were equal: it may be run again (router/shadow/rerun.hpp).
    virtual void offer_rerun(PendingDiscrepancy read) = 0;
    /// At least 18 printable random characters.
    virtual std::string nonce() = 0;
    /// What the servers keep of a role's password; answered by verifiers(). `only`: the other side
    /// is not asked.
    virtual void request_verifiers(const std::string& user, std::optional<Side> only) = 0;
    /// protocol::salt_password(), elsewhere; answered by key_derived() with the same ticket.
    virtual void derive_key(std::uint64_t ticket, const protocol::Secret& password,
                            const std::string& salt, std::uint32_t iterations) = 0;
    /// Uniform in [0, 1).
    virtual double random() = 0;
    /// adopted_epoch() changed.
    virtual void adopted() = 0;
    virtual void log(int level, const std::string& message) = 0;  ///< spdlog's level numbers
    /// Banyan's lease holds: a mirrored commit may be sent. poll() comes when it does again.
    virtual bool may_commit() { return true; }
};

}  // namespace banyan::router
