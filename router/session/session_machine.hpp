// One client session as a machine without I/O: fed events, it appends bytes for its peers, and asks
// its SessionPort for all else. States, invariants and failure cases: README.md in this folder.
//
// The client's messages are handled strictly in order. A message that needs something first (a
// commit that waits for the mirror and the journal, a catalogue, a phase change) leaves *steps*:
// callables polled on every event, and until they are done no further client message is looked at.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "protocol/messages.hpp"
#include "protocol/scram_relay.hpp"
#include "router/auth/role_verifiers.hpp"
#include "router/config/config.hpp"
#include "router/migration/fleet.hpp"
#include "router/model/mutant.hpp"
#include "router/session/belongings.hpp"
#include "router/session/mirror_link.hpp"
#include "router/session/mirror_patience.hpp"
#include "router/session/port.hpp"
#include "router/session/replication.hpp"
#include "router/session/reply_queue.hpp"
#include "router/session/route.hpp"
#include "router/session/running_capture.hpp"
#include "router/session/running_transaction.hpp"
#include "router/shadow/digest.hpp"

namespace banyan::router {

struct CapturedRecord;

class SessionMachine {
   public:
    SessionMachine(SessionPort& port, const Config& config, const Directive& directive);
    ~SessionMachine();
    SessionMachine(const SessionMachine&) = delete;
    SessionMachine& operator=(const SessionMachine&) = delete;

    // --- events ---

    /// `local`: over a Unix socket, where TLS is never demanded.
    void client_connected(bool local = false);
    /// The TLS handshake is done; the common name of the client's verified certificate, if it has
    /// shown one.
    void client_encrypted(std::optional<std::string> common_name);
    void client_bytes(std::string_view bytes);
    void client_closed();
    /// After close_client(): the client has everything it was owed, and its connection is closed.
    void client_drained();
    /// `encrypted`: nobody can listen: TLS, or a Unix socket.
    void server_connected(Side side, bool encrypted = false);
    void server_bytes(Side side, std::string_view bytes);
    /// The connection could not be made, or is gone. `sqlstate`: "53300" if for lack of a descriptor.
    void server_lost(Side side, const std::string& why, const std::string& sqlstate = "08001");
    void journaled(TxnId txn, bool durable);
    void deadline(Deadline kind);
    void directive(const Directive& directive);
    /// Answers request_verifiers().
    void verifiers(const RoleVerifiers& answer);
    /// Answers derive_key(). Null: it could not be.
    void key_derived(std::uint64_t ticket, const protocol::Secret* salted);
    /// Something a step may wait for has changed (a new catalogue).
    void poll();
    /// A CancelRequest with this session's key has come.
    void cancel();
    /// What SessionPort::send_cancel() began on this side has ended, whatever came of it.
    void cancel_done(Side side);
    /// The operator or a shutdown ends the session: 57P01.
    void terminate();

    // --- output, taken by the driver after each event ---

    std::string& to_client() { return to_client_; }
    std::string& to_server(Side side) { return out(side); }

    // --- facts ---

    /// False: stop reading from the client (too much is waiting already).
    bool wants_client_bytes() const {
        return !copy_stalled_ &&
               (client_message_incomplete_ || client_in_.size() - client_at_ < (1U << 20U));
    }
    /// Copy data waits for the mirror to read: poll() when it has been sent what is in to_server().
    bool waits_for_mirror() const { return copy_stalled_; }
    bool held() const { return held_; }
    bool logged_in() const { return stage_ == Stage::ready; }
    bool closed() const { return stage_ == Stage::closed; }
    std::uint64_t adopted_epoch() const { return adopted_epoch_; }
    bool mirror_ready() const { return mirror_.ready(); }
    /// Nothing but shadow reads is on its way to the mirror: the client may come first.
    bool mirror_can_wait() const;
    /// Nothing but rows whose transaction goes on: they may stay until they are waited for, or many.
    bool rows_can_wait() const;
    /// How the mirror's connection was logged in, or will be: "users", "scram_keys", "service_role",
    /// "trust"; "client" if it was the client's own before a flip; empty if there is none.
    std::string_view mirror_login() const;
    Phase phase() const { return phase_; }
    const char* state_name() const;
    const std::string& user() const { return user_; }
    const std::string& database() const { return database_; }
    std::string application() const { return std::string(startup_.get("application_name")); }
    bool in_transaction() const { return !at_boundary(); }
    /// What a flip could not bring along, by name; as known when the session was last asked.
    std::vector<std::string> blocking() const;
    bool blocked() const;
    const std::vector<AdvisoryLock>& locks() const { return belongings_.locks; }
    /// A request of the client is being worked on: a CancelRequest may go out.
    bool busy() const;
    /// Process id and secret key of the backend on a side; {0, 0} if none.
    std::pair<std::uint32_t, std::uint32_t> backend(Side side) const;
    Side primary() const { return primary_; }
    /// The request is a CancelRequest; the session ends after it. Process id and key as sent.
    std::optional<std::pair<std::uint32_t, std::uint32_t>> cancel_request() const {
        return cancel_request_;
    }

   private:
    enum class Stage : std::uint8_t {
        startup,         ///< waiting for the startup message
        held_login,      ///< startup message read; a hold is on
        connecting,      ///< to the primary
        authenticating,  ///< relayed
        ready,
        closing,  ///< the mirror still owes answers to commits
        closed,
    };

    /// A prepared statement of the client's.
    struct Prepared {
        std::string sql;
        std::vector<std::uint32_t> types;
        std::shared_ptr<const ParsedQuery> parsed;
        Decision decision;
        std::uint64_t decided_generation = 0;  ///< see decision_generation_; 0: not decided
        enum class Form : std::uint8_t { none, plain, captured };
        Form form = Form::none;       ///< as it stands on the primary now
        std::uint64_t form_generation = 0;
        std::optional<std::size_t> client_columns;  ///< of a captured statement with RETURNING
        std::optional<std::vector<std::uint32_t>> described_types;
        std::string result;           ///< names and types of client_columns when first described
        bool result_changed = false;  ///< they are others now: see refuse_changed_result
        std::string shadow_name;      ///< its name on the mirror; empty: not used there yet
    };
    using PreparedPtr = std::shared_ptr<Prepared>;

    struct Portal {
        PreparedPtr prepared;
        std::shared_ptr<HeldRows> held;
        std::string bind;  ///< body of the client's Bind, if it will be needed again
    };

    using Transaction = RunningTransaction;
    using Capture = RunningCapture;
    struct ShadowRead;
    struct Script;

    using Step = std::function<bool()>;

    // --- session_machine.cpp ---
    void pump();
    bool run_steps();
    bool at_boundary() const;
    void handle_client(char type, std::string_view body, std::string_view whole);
    void handle_relay(char type, std::string_view body, std::string_view whole);
    void on_primary_message(char type, std::string_view body, std::string_view whole);
    void consume_server(Side side, std::string_view bytes);
    void on_ready_for_query(char status);
    void note_fatal(std::string_view error);
    void then(Step step) { steps_.push_back(std::move(step)); }
    void release_client_input();
    void send_primary(std::string_view whole, Expect expect, ReplyHandler handler = nullptr);
    void wait_primary();  ///< a step: everything sent to the primary was answered
    std::string& out(Side side) { return to_server_[static_cast<std::size_t>(side)]; }
    std::string& primary_out() { return out(primary_); }
#ifdef BANYAN_MUTANTS
    std::string kept_images_;  ///< by the mutant images_applied_after_commit
    std::string& mirror_out() {
        const bool keep = mutant("images_applied_after_commit") && mirror_.in_transaction();
        return keep ? kept_images_ : out(other(primary_));
    }
    void release_kept_images() { out(other(primary_)).append(std::exchange(kept_images_, {})); }
#else
    std::string& mirror_out() { return out(other(primary_)); }
    void release_kept_images() {}
#endif
    std::chrono::milliseconds mirror_timeout() const { return config_.mirror.commit_timeout; }

    // --- ending.cpp ---
    void violation(const std::string& what);
    void fail_session(std::string_view sqlstate, std::string_view message,
                      std::string_view hint = {});
    void end_session();
    void end_superseded();
    void finish_session();
    void finish_mirror();
    void cancel_backend(Side side);
    void cancel_mirror();
    void finish_if_done();

    // --- mirror_wait.cpp ---
    void await_mirror(std::function<bool()> over, std::chrono::milliseconds longest = {});
    void mirror_timed_out();
    void note_fault(MirrorFault fault, const std::string& why);
    void watch_owed_commits();

    // --- reject.cpp ---
    bool rejects() const { return config_.mirror.on_failure == "reject" && mirrors(phase_); }
    bool mirror_takes_part();
    bool refuses_now(const Decision& decision);
    void refuse_write(std::function<void()> refused);
    void reject_unmirrored();
    void reject_unjournaled();
    void reject_commit(std::string error);

    // --- limits.cpp ---
    // A mirror further behind than this is given up for the transaction: its keys turn dirty.
    static constexpr std::uint64_t max_mirror_backlog = std::uint64_t{64} << 20U;
    void watch_idle();
    void client_is_active();
    bool too_many_statements(const std::string& name) const;
    void refuse_parse();
    std::size_t note_write(const Table& table, KeyWrite write);  ///< its number for MirrorLink
    void collapse(TableId table);
    void take_writes(CommitIntent& intent);
    void keep_row(HeldRows& held, const protocol::SplitRow& row);
    void check_mirror_backlog();

    // --- login.cpp ---
    void read_startup();
    void relay_password(std::string_view body, std::string_view whole);
    void on_authentication(std::string_view body, std::string_view whole);
    void translate_login(const RoleVerifiers& answer);
    void on_startup_packet(std::uint32_t code, std::string_view body, std::string_view whole);
    /// False if the client was refused for how it is connected.
    bool transport_suffices();
    void connect_primary();
    void on_login_message(char type, std::string_view body, std::string_view whole);
    void check_room(std::string_view body);
    void login_done();
    void on_mirror_lost(const std::string& why, std::optional<MirrorFault> fault,
                        bool wanted = false);
    const Endpoint& endpoint(Side side) const {
        return side == Side::source ? config_.source : config_.target;
    }
    std::string mirror_setup_sql() const;

    // --- mirror_login.cpp ---
    void connect_mirror();
    void choose_mirror_login(const RoleVerifiers& answer);
    void open_mirror();
    void log_in_to_mirror(Side side, bool encrypted);
    protocol::Credentials mirror_credentials(Side side, bool encrypted);
    void derive_mirror_key();
    bool service_role_possible() const;

    // --- two_phase.cpp ---
    void prepare_barrier(std::function<void()> send);
    void note_prepared(const std::string& gid);
    void commit_prepared(const std::string& gid, const Decision& decision,
                         std::function<void(ReplyHandler)> send);
    void on_function_call(std::string_view whole);
    ReplyHandler function_call_end();

    // --- replication.cpp ---
    bool accept_replication();
    void relay_replication();
    void replication_message(char type, std::string_view body, std::string_view whole);
    void replication_directive(const Directive& directive);

    // --- extended.cpp ---
    void on_parse(std::string_view body, std::string_view whole);
    void on_bind(std::string_view body, std::string_view whole);
    void on_describe(std::string_view body, std::string_view whole);
    void on_execute(std::string_view body, std::string_view whole);
    void on_close(std::string_view body, std::string_view whole);
    void on_sync(std::string_view whole);
    bool commits_at_sync() const;
    bool sync_follows() const;
    RouteContext route_context(const std::shared_ptr<const Catalog>& catalog) const;
    void decide(Prepared& prepared);
    void ensure_form(const std::string& name, const PreparedPtr& prepared);
    void describe_unseen(const std::string& name, const PreparedPtr& prepared);
    void send_bind(const protocol::Bind& bind, const PreparedPtr& prepared, std::string_view whole);
    void execute_captured(Portal& portal, std::string_view name, std::uint32_t max_rows);
    void emit_held(HeldRows& held, std::uint32_t max_rows);
    ReplyHandler absorb();
    ReplyHandler unseen();
    ReplyHandler column_stripper(const PreparedPtr& prepared, bool to_client);
    ReplyHandler row_stripper(std::shared_ptr<Capture> capture);
    bool client_returning(const Prepared& prepared) const;

    // --- before_queries.cpp ---
    void run_before_queries(const std::shared_ptr<Capture>& capture, const PreparedPtr& prepared,
                            const std::string& bind_body);
    ReplyHandler before_rows(const std::shared_ptr<Capture>& capture, std::size_t i);

    // --- changed_result.cpp ---
    static std::string result_shape(std::string_view row_description);
    void refuse_changed_result();

    // --- refusal.cpp ---
    void refuse_schema_change(std::function<void()> refused);

    // --- simple.cpp ---
    void on_query(std::string_view body, std::string_view whole);
    void forward_query(const Decision& decision, const std::shared_ptr<const ParsedQuery>& parsed,
                       std::string_view whole);
    Decision decide_statement(const ParsedQuery& query, const Statement& statement);
    void start_script(std::shared_ptr<const ParsedQuery> parsed);
    bool script_next(const std::shared_ptr<Script>& script);
    void script_statement(const std::shared_ptr<Script>& script, const Statement& statement);
    void script_end(const std::shared_ptr<Script>& script);
    ReplyHandler script_error(const std::shared_ptr<Script>& script, std::size_t shift);
    ReplyHandler script_columns(const std::shared_ptr<Script>& script,
                                const PreparedPtr& prepared, bool streams);
    ReplyHandler script_reply(const std::shared_ptr<Script>& script, const PreparedPtr& prepared,
                              const std::shared_ptr<Capture>& capture, std::size_t shift);

    // --- copy.cpp ---
    // A mirror further behind than this keeps the client's copy data waiting.
    static constexpr std::uint64_t max_copy_backlog = std::uint64_t{2} << 20U;
    std::shared_ptr<CopyIn> prepare_copy(const Decision& decision);
    ReplyHandler copy_watch(std::shared_ptr<CopyIn> copy, ReplyHandler next);
    void begin_tee(CopyIn& copy);
    void execute_copy(const Prepared& prepared, std::string_view whole);
    bool pass_copy_data();
    void tee_piece(std::string_view data);
    void on_copy_end(char type, std::string_view whole);
    bool copy_stalled();

    // --- transaction.cpp ---
    void count_route(const Decision& decision);
    bool mirror_usable();
    void begin_mirror();
    void rollback_mirror();
    bool mirror_is_coming();
    void wait_mirror_login();
    void apply_row(Capture& capture, const protocol::SplitRow& row);
    void apply_image(Capture& capture, const CapturedImage& image, const std::string& key,
                     const protocol::SplitRow& row);
    void suspect_table(const std::shared_ptr<const Table>& table, const std::string& reason);
    void capture_done(Capture& capture);
    void mirror_statement(std::string_view sql);
    void mirror_lost_in_transaction(const std::string& why);
    /// The mirror may have rows of this transaction that the primary has not.
    void suspect_what_was_written();
    void note_suspects(const Decision& decision);
    void forget_measured(const std::vector<TableWrite>& tables);
    void note_schema_change();
    void note_hidden_ddl();
    void prepare_uncaptured(const Decision& decision);
    ReplyHandler statement_watch(const Decision& decision,
                                 std::shared_ptr<const ParsedQuery> parsed, std::size_t index);
    void after_statement(const Decision& decision, const std::string& sql,
                         const ParsedQuery& parsed, std::size_t index, std::string_view tag);
    void savepoint_ended(const Statement& statement, bool released);
    void commit_barrier(std::function<void()> send);
    void wait_mirror_applied();
    bool answers_change_nothing() const;
    bool prepares_can_wait() const;
    void commit_once_safe(std::function<void()> send);
    void journal();
    void journal_then(std::function<void()> send);
    ReplyHandler commit_on_ready();
    ReplyHandler commit_on_tag(bool chain = false);
    void commit_decided(bool committed);
    void transaction_ended();
    void reset_transaction();
    void on_committed_on_mirror(std::uint64_t txn, bool committed);
    void wait_for_catalog();

    // --- measure.cpp ---
    void take_baseline(const std::string& reason, bool deep = false);
    void measure_changes();
    void note_unmeasured(const Catalog* catalog);
    void note_locked(const Catalog* catalog, Oid relation);

    // --- deep_capture.cpp ---
    struct TakenRows;
    using RowView = std::vector<std::optional<std::string_view>>;
    std::string ask_capture_sql();
    void start_capture();
    void take_captured();
    void apply_captured(TakenRows& taken, const RowView& row);
    void captured_key(TakenRows& taken, const Table& table, const std::string& key,
                      const CapturedRecord* image, bool ended);
    void fire_deferred();
    void measure_before_the_end();
    void roll_back_refused();
    void guard_own_commits(const std::string& reason);
    void release_guard(bool failed);

    // --- own_query.cpp ---
    /// A query of Banyan's own on the primary.
    struct OwnQuery {
        std::string sql;
        bool keep_open = true;  ///< in the client's implicit transaction, or the one about to begin
        bool binary = false;    ///< the format of its rows
        std::function<void(const RowView&)> row;  ///< may be null
        std::function<void(bool ok)> done;
        std::string refusal = {};  ///< an ErrorResponse to tell the client instead of the server's
    };
    void own_query(OwnQuery query);
    using Row = std::vector<std::optional<std::string>>;
    using RowsHandler = std::function<void(bool ok, const std::vector<Row>& rows)>;
    /// Leaves steps that run `sql` on the primary, unseen by the client, and call `handler`.
    /// `keep_open`: inside the client's implicit transaction, or the one about to begin.
    void internal_query(std::string sql, bool keep_open, RowsHandler handler);

    // --- transition.cpp ---
    void begin_adoption();
    void adopt(const Directive& directive);
    void wait_mirror_drained();
    void import_prepared();
    void restore_plain_statements();
    void flip();
    void trade_places();
    void become_primary(const std::string& sql);
    std::string become_primary_sql() const;
    static bool is_protected_setting(std::string_view name);
    static std::string set_config_sql(const std::string& name, const std::string& value);

    // --- crossing.cpp ---
    void note_ran(bool leaves_nothing);
    void note_relayed(std::string_view sql);
    std::string settings_sql() const;
    void sync_settings();
    void ask_belongings();
    void end_blocked();
    void apply_settings(const std::vector<Row>& rows);
    void set_on_mirror(const std::string& name, const std::string& sql);
    void push_mirror_settings();
    void leave_identity_on_mirror();
    std::vector<std::pair<std::string, std::string>> identity_sql() const;
    void carry();
    void release_carried();
    void forget_mirror_state();
    std::vector<std::string> named_in_sql(const ParsedQuery& query) const;
    void stand_plain(const std::vector<std::string>& names);
    static bool leaves_traces(const Statement& statement);
    ReplyHandler trace_watch(const Prepared& prepared);

    // --- shadow.cpp ---
    std::shared_ptr<ShadowRead> start_shadow(const ParsedQuery& query, const Statement& statement);
    void shadow_simple(const std::shared_ptr<ShadowRead>& shadow);
    void shadow_extended(const std::shared_ptr<ShadowRead>& shadow, Prepared& prepared,
                         const std::string& bind_body);
    ReplyHandler shadow_tap(const std::shared_ptr<ShadowRead>& shadow);
    MirrorReader shadow_reader(const std::shared_ptr<ShadowRead>& shadow);
    void compare_shadow(const std::shared_ptr<ShadowRead>& shadow);
    void skip_shadow(const std::string& reason);
    void note_unshadowed(const Decision& decision);

    SessionPort& port_;
    const Config& config_;
    Stage stage_ = Stage::startup;
    Phase phase_;
    Side primary_;
    bool held_ = false;
    bool shadow_ = false;
    double shadow_share_ = 1.0;
    Directive wanted_;
    std::uint64_t adopted_epoch_ = 0;

    // bytes
    std::string client_in_;
    std::size_t client_at_ = 0;
    bool client_message_incomplete_ = false;  ///< the one at the front is not all there yet
    std::uint64_t client_stream_left_ = 0;  ///< rest of a client message that is passed through
    std::string server_in_[2];
    std::uint64_t server_stream_left_[2] = {0, 0};
    std::string to_client_;
    std::string to_server_[2];

    // login
    protocol::Startup startup_;
    std::string startup_bytes_;
    std::string user_;
    std::string database_;
    bool local_ = false;
    bool ssl_asked_ = false;
    bool encrypted_ = false;  ///< between the client and us
    std::optional<std::string> common_name_;
    bool gss_asked_ = false;
    bool sasl_ = false;  ///< the server asked for it last
    Replication replication_ = Replication::none;
    std::pair<std::uint32_t, std::uint32_t> primary_key_{0, 0};
    std::optional<std::pair<std::uint32_t, std::uint32_t>> cancel_request_;
    std::unique_ptr<protocol::ScramRelay> scram_;  ///< until the login is done

    // the mirror's login
    enum class MirrorLogin : std::uint8_t { none, users, scram_keys, service_role, trust, client };
    MirrorLogin mirror_login_ = MirrorLogin::none;
    std::unique_ptr<protocol::ScramEvidence> evidence_;  ///< of the client's own login
    std::unique_ptr<protocol::ScramKeys> mirror_keys_;   ///< for the attempt under way
    bool verifiers_asked_ = false;  ///< the attempt under way, or the client's login, waits for them
    bool mirror_refused_ = false;   ///< not tried again before Deadline::mirror_retry or a directive
    bool keys_refused_ = false;     ///< the mirror did not take the recovered keys
    std::uint64_t login_ticket_ = 0;

    // the primary
    ReplyQueue replies_;
    char status_ = 'I';       ///< of the last ReadyForQuery
    bool in_block_ = false;   ///< an explicit transaction block is open
    bool unsynced_ = false;   ///< extended messages sent since the last Sync
    bool fatal_seen_ = false;
    bool statement_failed_ = false;  ///< an ErrorResponse came since the last ReadyForQuery
    std::string held_tail_;   ///< CommandComplete kept back until the commit is known

    // statements
    std::unordered_map<std::string, PreparedPtr> statements_;
    std::unordered_map<std::string, Portal> portals_;
    std::uint64_t decision_generation_ = 1;  ///< rises when settings or temporary tables change
    std::uint64_t decided_catalog_version_ = 0;
    std::string relay_unnamed_;  ///< body of the last unnamed Parse while relaying
    std::uint64_t shadow_names_ = 0;

    // session state on the primary
    bool settings_stale_ = true;
    bool query_left_ = false;  ///< an internal query failed: its statement still stands
    std::map<std::string, std::string> settings_;         ///< set by the session, on the primary
    std::set<std::string> custom_settings_;  ///< names the client may have set; no view lists them
    std::map<std::string, std::string> mirror_settings_;  ///< as last applied to the mirror
    std::map<std::string, std::string> settings_before_mirror_;  ///< its transaction began
    std::vector<std::string> search_path_;
    std::vector<std::string> temporary_tables_;  ///< those that hide other relations
    std::string role_;
    std::string session_user_;         ///< empty: the login role
    std::string mirror_session_user_;  ///< as last applied to the mirror

    // crossing to another primary
    Belongings belongings_;
    bool belongings_stale_ = true;  ///< something ran since they were read
    bool locks_stale_ = true;       ///< something that may have taken or released a lock
    bool carried_ = false;          ///< brought to the mirror
    bool listens_on_mirror_ = false;  ///< the mirror's notifications are the client's
    std::map<std::string, std::string> unsettable_;  ///< settings the mirror refused, and why
    std::vector<std::string> refused_statements_;
    std::vector<std::string> refused_locks_;

    // transaction and mirror
    Transaction txn_;
    MirrorLink mirror_;
    bool wrote_ = false;          ///< a captured statement was sent in this implicit transaction
    std::shared_ptr<CopyIn> copy_;  ///< the server reads its data
    bool copy_stalled_ = false;
    MirrorPatience patience_;
    bool awaiting_mirror_ = false;   ///< the client waits, under Deadline::mirror
    bool await_timed_out_ = false;
    bool last_wait_slow_ = false;
    bool client_gone_ = false;
    bool idle_watched_ = false;
    std::uint32_t cancels_out_[2] = {0, 0};  ///< under way, by side
    std::optional<TxnId> commit_txn_;      ///< journaled, COMMIT not answered by the primary yet
    bool journal_waiting_ = false;
    bool journal_refused_ = false;  ///< it failed, and reject mode is on
    bool commit_sent_ = false;
    bool ending_block_ = false;    ///< asking what must be known before COMMIT or PREPARE TRANSACTION
    bool commit_refused_ = false;  ///< one of those queries failed, which the client was told: the
                                   ///< block must end without another word
    bool in_script_ = false;       ///< a Query runs as extended messages, up to a Sync of our own
    bool firing_deferred_ = false;
    std::optional<TxnId> guard_txn_;  ///< see guard_own_commits()
    bool guard_waiting_ = false;
    std::string capture_token_;       ///< this session's records in deep capture
    bool catalog_deadline_passed_ = false;

    std::deque<Step> steps_;
    bool pumping_ = false;
};

}  // namespace banyan::router
