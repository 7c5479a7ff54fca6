// How a session ends: a violation of the protocol, a lost connection, a deadline, the operator. What
// the mirror was already told to commit is waited for; everything else is undone.

#include <utility>

#include "router/session/session_machine.hpp"

namespace banyan::router {
namespace {

// The longest a session waits for a client to take what it is still owed.
constexpr std::chrono::milliseconds close_timeout{5000};

}  // namespace

void SessionMachine::violation(const std::string& what) {
    port_.counters().add(Counter::protocol_violations);
    port_.log(4, "protocol violation: " + what + " from the " + std::string(to_string(primary_)));
    fail_session("08P01", "the database server sent " + what,
                 "Banyan closed the session rather than guess. See its log.");
}

void SessionMachine::fail_session(std::string_view sqlstate, std::string_view message,
                                  std::string_view hint) {
    if (stage_ == Stage::closed || stage_ == Stage::closing) {
        return;
    }
    // Inside a message of the server's that is passed on as it comes, it would be read as part of it.
    if (server_stream_left_[static_cast<std::size_t>(primary_)] == 0) {
        protocol::encode_error(to_client_, "FATAL", sqlstate, message, hint);
    }
    end_session();
}

// The client or the primary is gone, or must go. What the mirror was already told to commit is
// waited for; everything else is undone.
void SessionMachine::end_session() {
    if (stage_ == Stage::closed || stage_ == Stage::closing) {
        return;
    }
    const bool had_primary = stage_ != Stage::startup && stage_ != Stage::held_login;
    stage_ = Stage::closing;
    steps_.clear();
    copy_.reset();
    if (std::exchange(copy_stalled_, false)) {
        port_.clear_deadline(Deadline::mirror);
    }
    if (commit_txn_) {
        if (commit_sent_) {
            std::vector<LimboBackend> backends;
            backends.push_back({primary_, static_cast<std::int32_t>(primary_key_.first)});
            port_.lose(*commit_txn_, std::move(backends));
        } else {
            port_.finish(*commit_txn_, CommitOutcome::rolled_back);
        }
        commit_txn_.reset();
        commit_sent_ = false;
    }
    if (guard_txn_) {
        port_.lose(*guard_txn_, {{primary_, static_cast<std::int32_t>(primary_key_.first)}});
        guard_txn_.reset();
    }
    // A read that only the mirror still works on may be compared yet, until the deadline below.
    if (!replies_.empty() || mirror_.outstanding() != mirror_.outstanding_shadows()) {
        cancel_mirror();
    }
    if (mirror_.in_transaction()) {
        rollback_mirror();
    }
    if (had_primary) {
        if (!replies_.empty()) {
            cancel_backend(primary_);
        }
        protocol::encode_terminate(primary_out());
        port_.close_server(primary_);
    }
    if (!client_gone_) {
        port_.close_client();
        port_.set_deadline(Deadline::closing, close_timeout);
    }
    if (mirror_.state() != MirrorLink::State::down && !mirror_.drained()) {
        port_.set_deadline(Deadline::mirror, mirror_timeout());
    }
    finish_if_done();
}

void SessionMachine::client_drained() {
    client_gone_ = true;
    finish_if_done();
}

void SessionMachine::finish_if_done() {
    if (stage_ == Stage::closing && client_gone_ &&
        (mirror_.state() == MirrorLink::State::down || mirror_.drained())) {
        finish_session();
    }
}

void SessionMachine::finish_session() {
    if (stage_ == Stage::closed) {
        return;
    }
    stage_ = Stage::closed;
    finish_mirror();
    port_.session_over();
}

void SessionMachine::finish_mirror() {
    if (mirror_.ready()) {
        protocol::encode_terminate(mirror_out());
    }
    const auto backend_id = static_cast<std::int32_t>(mirror_.process_id());
    for (const auto txn : mirror_.reset()) {
        port_.lose(txn, {{other(primary_), backend_id}});
    }
    port_.close_server(other(primary_));
}

void SessionMachine::server_lost(Side side, const std::string& why, const std::string& sqlstate) {
    if (stage_ == Stage::closed) {
        return;
    }
    if (side != primary_) {
        on_mirror_lost(why, mirror_.fault_if_lost());
        pump();  // nobody waits for it any more
        return;
    }
    if (stage_ == Stage::closing) {
        return;
    }
    if (stage_ == Stage::connecting && sqlstate == "53300") {
        fail_session("53300", "sorry, too many clients already");
    } else if (stage_ == Stage::connecting) {
        fail_session("08001", "could not connect to the " + std::string(to_string(side)) +
                                  " database: " + why);
    } else if (fatal_seen_ || commit_sent_) {
        end_session();  // the server said why; or the commit's outcome is unknown: say nothing
    } else {
        fail_session("57P01", "the connection to the database server was lost: " + why);
    }
}

void SessionMachine::deadline(Deadline kind) {
    switch (kind) {
        case Deadline::login:
            if (stage_ != Stage::ready) {
                fail_session("08006", "the login took too long");
            }
            break;
        case Deadline::mirror:
            mirror_timed_out();
            break;
        case Deadline::mirror_commit:
            if (stage_ != Stage::closing && mirror_.owes_commit()) {
                on_mirror_lost("the mirror did not answer a COMMIT in time",
                               MirrorFault::timed_out);
            }
            break;
        case Deadline::mirror_login:
            if (mirror_.state() == MirrorLink::State::connecting ||
                mirror_.state() == MirrorLink::State::login) {
                on_mirror_lost("the mirror's login took too long", MirrorFault::timed_out);
            }
            break;
        case Deadline::mirror_retry:
            mirror_refused_ = false;
            break;
        case Deadline::shadow_yield:
            if (mirror_.front_is_shadow()) {
                cancel_backend(other(primary_));
            }
            break;
        case Deadline::catalog:
            catalog_deadline_passed_ = true;
            break;
        case Deadline::idle_in_transaction:
            if (idle_watched_) {
                idle_watched_ = false;
                fail_session("25P03", "terminating connection due to idle-in-transaction timeout");
            }
            break;
        case Deadline::closing:
            if (stage_ == Stage::closing) {
                finish_session();
            }
            break;
        case Deadline::count_:
            break;
    }
    pump();
}

// --- cancel ---

void SessionMachine::cancel() {
    if (busy()) {
        cancel_backend(primary_);
    }
}

void SessionMachine::cancel_backend(Side side) {
    const auto [process_id, key] = backend(side);
    if (process_id != 0) {
        ++cancels_out_[static_cast<std::size_t>(side)];
        port_.send_cancel(side, process_id, key);
    }
}

// A mirror that is given up must not go on working, or wait for a lock, for nobody. A commit it was
// told is left alone.
void SessionMachine::cancel_mirror() {
    if (mirror_.ready() && !mirror_.drained() && !mirror_.owes_commit()) {
        cancel_backend(other(primary_));
    }
}

void SessionMachine::cancel_done(Side side) {
    auto& count = cancels_out_[static_cast<std::size_t>(side)];
    count -= count > 0 ? 1U : 0U;
    pump();
}

void SessionMachine::end_superseded() {
    fail_session("57P01",
                 "terminating connection: another Banyan is in charge of this migration",
                 "Connect to that one. This one has lost its lease; see its log.");
}

void SessionMachine::terminate() {
    fail_session("57P01", "terminating connection due to administrator command");
}

}  // namespace banyan::router
