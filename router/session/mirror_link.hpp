// One session's connection to its mirror: logs in, then carries row images, savepoints, commits and
// shadow reads, in order, as pipelined groups that each end with a ReadyForQuery. No I/O: appends to
// an output string and is fed the server's messages.
//
// Invariants: groups are answered in the order sent; a failed group inside a mirror transaction
// fails that transaction (failed()) and nothing of it is committed; commit() is only sent for a
// transaction that has not failed.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "protocol/login.hpp"
#include "router/breaker/mirror_fault.hpp"
#include "router/catalog/catalog.hpp"
#include "router/model/types.hpp"

namespace banyan::router {

/// Receives the messages of one shadow read or internal query on the mirror.
using MirrorReader = std::function<void(char type, std::string_view body)>;

class MirrorLink {
   public:
    enum class State : std::uint8_t { down, connecting, login, ready };
    static constexpr std::size_t not_watched = static_cast<std::size_t>(-1);

    struct Events {
        /// Logged in and set up.
        std::function<void()> ready;
        /// An apply touched no row; `write` is the index given to erase() or upsert().
        std::function<void(std::size_t write)> zero_rows;
        /// The answer to commit(): committed or not.
        std::function<void(std::uint64_t txn, bool committed)> committed;
        /// The current mirror transaction failed (first failure only).
        std::function<void(const std::string& why)> failed;
        /// login()'s key must be derived; answered by derived().
        std::function<void()> derive;
    };

    explicit MirrorLink(Events events) : events_(std::move(events)) {}

    State state() const { return state_; }
    bool ready() const { return state_ == State::ready; }

    /// The connection is being opened.
    void connecting() { state_ = State::connecting; }
    /// The connection is open: sends the startup message.
    void connected(const protocol::Startup& startup, protocol::Credentials credentials,
                   std::string nonce, std::string& out);
    /// The login under way; nullptr if there is none.
    const protocol::Login* login() const { return login_ ? &*login_ : nullptr; }
    /// Ends Events::derive. Null: it cannot be derived; returns an error text as on_message().
    std::optional<std::string> derived(const protocol::Secret* salted, std::string& out);
    /// It was this login that failed, not the server: the role may not, or there is no password.
    /// Holds until reset().
    bool refused() const { return refused_; }
    /// What the error just reported, by an event or an error text, says about the mirror.
    std::optional<MirrorFault> fault() const { return fault_; }
    const std::string& error() const { return error_; }
    /// The same if the connection breaks now: the server may have said why.
    std::optional<MirrorFault> fault_if_lost() const;
    /// BEGIN itself has failed: rows that were sent behind it have been written outside of any
    /// transaction, and stay whatever becomes of the primary's.
    bool begin_refused() const { return begin_refused_; }
    /// Takes over a connection that is logged in and idle (after a flip).
    void adopt(std::uint32_t process_id, std::uint32_t secret_key);
    /// The connection is gone or given up. Unanswered commits are returned.
    std::vector<std::uint64_t> reset();
    /// One message. Returns an error text if the connection must be given up.
    std::optional<std::string> on_message(char type, std::string_view body, std::string& out);

    /// SQL run once after login, before anything else.
    void set_setup(std::string sql) { setup_ = std::move(sql); }
    /// The setup gives the session this authorization (SET SESSION AUTHORIZATION). Nothing else is sent
    /// before the server has reported it, and the connection is given up should it ever change.
    void set_authorization(std::string role) { authorization_ = std::move(role); }
    bool assumes_role() const { return !authorization_.empty(); }

    // --- the mirror transaction (everything below appends to `out`) ---

    bool in_transaction() const { return in_transaction_; }
    bool failed() const { return failed_; }
    void begin(const std::vector<std::string>& savepoints, std::string& out);
    /// A full-row image: values of image_columns(table.on_mirror()), `binary` per column.
    /// `write`: if a row is sure to be touched, not_watched; else as erase().
    void upsert(const Table& table, std::uint64_t catalog_version,
                const std::vector<std::optional<std::string_view>>& values, std::string& out,
                std::size_t write = not_watched);
    void erase(const Table& table, std::uint64_t catalog_version, std::string_view key,
               std::size_t write, std::string& out);
    /// Ends the current group of upserts and deletes with Sync.
    void end_group(std::string& out);
    /// Writes of the current group, BEGIN among them; 0 if none is open. Nobody waits for their answers
    /// yet: what has been appended to `out` for them may stay there.
    std::size_t open_writes() const { return group_open_ ? groups_.back().executes.size() : 0; }
    /// Nothing can be learned from the answers to this transaction but whether all of it has failed: it
    /// has only writes that are sure to touch a row, and they cannot have been run without its BEGIN.
    bool all_or_nothing() const;
    /// One statement as text, inside the transaction.
    void statement(std::string_view sql, std::string& out);
    /// A COPY ... FROM STDIN inside the transaction. Its data may follow at once: a server that has
    /// refused it ignores them. Everything but copy_data() ends it, by failing it.
    void copy_in(std::string_view sql, std::string& out);
    /// It still takes data: whole CopyData messages may be appended to `out`.
    bool copying_in() const { return copying_in_; }
    void copy_done(std::string& out);
    /// How it ended on the primary; ends it here, if nothing else has. Only then is an error here a
    /// failure: where the primary has failed too, a savepoint can be returned to on both sides.
    void copy_decided(bool succeeded, std::string& out);
    void commit(std::uint64_t txn, std::string& out);
    void rollback(std::string& out);
    /// Outside any transaction: settings and the like; failures are ignored.
    void query(std::string_view sql, std::string& out);
    /// The same; `reader` gets the answer's messages.
    void ask(std::string_view sql, MirrorReader reader, std::string& out);

    // --- shadow reads, outside of a mirror transaction only; may be asked for while the login is
    // still under way: they then follow it ---

    /// A simple Query.
    void shadow_query(std::string_view sql, MirrorReader reader, std::string& out);
    /// Parse (first use of `name`), Bind, Execute, Sync.
    void shadow_execute(const std::string& name, std::string_view sql,
                        const std::vector<std::uint32_t>& parameter_types,
                        const protocol::Bind& bind, MirrorReader reader, std::string& out);

    /// Groups sent and not answered yet.
    std::size_t outstanding() const { return groups_.size(); }
    std::size_t outstanding_shadows() const { return shadows_; }
    bool front_is_shadow() const;
    /// A COMMIT was sent and has not been answered.
    bool owes_commit() const;
    bool drained() const { return groups_.empty() && !group_open_; }
    std::uint32_t process_id() const { return process_id_; }
    std::uint32_t secret_key() const { return secret_key_; }

   private:
    enum class Kind : std::uint8_t {
        setup, begin, apply, statement, copy, commit, rollback, query, shadow
    };
    struct Group {
        Kind kind = Kind::apply;
        bool error = false;
        bool given_up = false;  ///< a copy that was failed on purpose
        std::uint64_t txn = 0;
        std::uint64_t transaction = 0;      ///< which of this link's mirror transactions
        std::vector<std::size_t> executes;  ///< per Execute: the write index of a delete, or npos
        bool begins = false;                ///< the first one is BEGIN
        std::size_t answered = 0;
        std::vector<std::string> prepares;  ///< statement names, in order, not yet confirmed
        MirrorReader reader;
        std::string tag;
        std::string message;
    };

    void send_query(Kind kind, std::string_view sql, std::string& out);
    std::string& shadow_out(std::string& out) { return ready() ? out : backlog_; }
    Group& open_group();
    void prepare(const std::string& name, const std::string& sql,
                 const std::vector<std::uint32_t>& types, Group& group, std::string& out);
    void execute(const protocol::Bind& bind, std::size_t write, Group& group, std::string& out);
    void on_group_message(char type, std::string_view body);
    std::optional<std::string> on_login_message(char type, std::string_view body, std::string& out);
    std::optional<std::string> on_parameter(std::string_view body);
    std::optional<std::string> finish_group(std::string& out);
    bool is_current(const Group& group) const {
        return in_transaction_ && group.transaction == transaction_;
    }
    void finish_copy(const Group& group);
    void fail(const Group& group);
    void judge(MirrorDoing doing, const std::string& error);
    void fail_copy(std::string& out);
    void forget_copy();

    Events events_;
    State state_ = State::down;
    std::optional<protocol::Login> login_;
    std::string setup_;
    std::string authorization_;           ///< empty: the connection is the client's role's own
    std::string reported_authorization_;  ///< by the server, last
    bool refused_ = false;
    std::optional<MirrorFault> fault_;
    std::string error_;
    std::string backlog_;  ///< shadow reads waiting for the login
    std::deque<Group> groups_;
    std::unordered_set<std::string> prepared_;
    std::uint32_t process_id_ = 0;
    std::uint32_t secret_key_ = 0;
    std::size_t shadows_ = 0;
    std::uint64_t transaction_ = 0;
    bool group_open_ = false;
    bool copying_in_ = false;
    bool copy_undecided_ = false;
    std::optional<std::string> copy_error_;  ///< of a copy undecided on the primary
    bool in_transaction_ = false;
    bool failed_ = false;
    bool begin_refused_ = false;
    bool begun_ = false;   ///< BEGIN was answered
    bool unsure_ = false;  ///< not all_or_nothing() any more
};

}  // namespace banyan::router
