#include "router/session/session_machine.hpp"

#include <algorithm>
#include <iterator>

#include "protocol/message_limits.hpp"

namespace banyan::router {
namespace {

constexpr std::size_t keep_capacity = 16384;

void release(std::string& buffer) {
    if (buffer.capacity() > keep_capacity) {
        std::string().swap(buffer);
    } else {
        buffer.clear();
    }
}

}  // namespace

SessionMachine::SessionMachine(SessionPort& port, const Config& config, const Directive& directive)
    : port_(port),
      config_(config),
      phase_(directive.phase),
      primary_(primary_of(directive.phase)),
      held_(directive.hold),
      shadow_(directive.shadow),
      shadow_share_(directive.shadow_share),
      wanted_(directive),
      adopted_epoch_(directive.epoch),
      mirror_(MirrorLink::Events{
          [this] {
              port_.clear_deadline(Deadline::mirror_login);
              port_.breaker().logged_in();
          },
          [this](std::size_t write) {
              if (write < txn_.writes.size()) {
                  txn_.writes[write].dirty = true;
                  port_.counters().add(Counter::mirror_zero_row_deletes);
              }
          },
          [this](std::uint64_t txn, bool committed) { on_committed_on_mirror(txn, committed); },
          [this](const std::string& why) {
              mirror_lost_in_transaction(why);
              if (mirror_.begin_refused()) {
                  mirror_.end_group(mirror_out());  // what it runs, it runs now, while rows are locked
                  suspect_what_was_written();
              }
              if (const auto fault = mirror_.fault()) {
                  note_fault(*fault, why);
              }
          },
          [this] { derive_mirror_key(); }}) {}

SessionMachine::~SessionMachine() = default;

void SessionMachine::client_connected(bool local) {
    local_ = local;
    port_.set_deadline(Deadline::login, config_.limits.login_timeout);
}

const char* SessionMachine::state_name() const {
    if (stage_ != Stage::ready) {
        return stage_ == Stage::closed || stage_ == Stage::closing ? "closing" : "login";
    }
    if (at_boundary()) {
        return held_ ? "held" : "idle";
    }
    return replies_.empty() && steps_.empty() ? "in_transaction" : "active";
}

std::pair<std::uint32_t, std::uint32_t> SessionMachine::backend(Side side) const {
    if (side == primary_) {
        return primary_key_;
    }
    return {mirror_.process_id(), mirror_.secret_key()};
}

bool SessionMachine::busy() const {
    return stage_ == Stage::ready && (!replies_.empty() || replication_ != Replication::none);
}

bool SessionMachine::at_boundary() const {
    return stage_ == Stage::ready && status_ == 'I' && !in_block_ && !unsynced_ &&
           replies_.empty() && steps_.empty() && !commit_sent_ && client_stream_left_ == 0;
}

// --- the client's side ---

void SessionMachine::client_bytes(std::string_view bytes) {
    if (stage_ == Stage::closed || stage_ == Stage::closing) {
        return;
    }
    port_.counters().add(Counter::bytes_from_clients, bytes.size());
    client_in_.append(bytes);
    client_is_active();
    pump();
}

void SessionMachine::client_closed() {
    client_gone_ = true;
    finish_if_done();
    // Without its data a COPY cannot end.
    if (!commit_sent_ || replies_.copying_in()) {
        end_session();
    }
}

void SessionMachine::release_client_input() {
    if (client_at_ == client_in_.size()) {
        release(client_in_);
        client_at_ = 0;
    } else if (client_at_ > (std::size_t{1} << 18U)) {
        client_in_.erase(0, client_at_);
        client_at_ = 0;
    }
}

void SessionMachine::pump() {
    if (pumping_) {
        return;
    }
    pumping_ = true;
    client_message_incomplete_ = false;
    copy_stalled();
    while (stage_ != Stage::closed && stage_ != Stage::closing) {
        if (stage_ != Stage::ready) {
            const auto before = client_at_;
            const auto stage = stage_;
            read_startup();
            if (client_at_ == before && stage_ == stage) {
                break;
            }
            continue;
        }
        if (replication_ != Replication::none) {
            relay_replication();
            break;
        }
        // Copy data passes while a step waits for the end of the copy. No step may write into the
        // middle of a message of the client's.
        if (client_stream_left_ == 0 && !run_steps() && !(copy_ && replies_.copying_in())) {
            break;
        }
        if (client_gone_ && (!commit_sent_ || replies_.copying_in())) {
            end_session();
            break;
        }
        if (cancels_out_[static_cast<std::size_t>(primary_)] > 0 && replies_.empty()) {
            break;  // what was to be cancelled has ended: nothing else may be hit in its place
        }
        if (at_boundary()) {
            if (wanted_.epoch != adopted_epoch_) {
                begin_adoption();
                continue;
            }
            if (held_) {
                break;
            }
        }
        if (copy_stalled()) {
            break;
        }
        const std::string_view waiting = std::string_view(client_in_).substr(client_at_);
        if (client_stream_left_ > 0) {
            const auto part = waiting.substr(0, client_stream_left_);
            if (part.empty()) {
                break;
            }
            primary_out().append(part);
            tee_piece(part);
            client_stream_left_ -= part.size();
            client_at_ += part.size();
            continue;
        }
        if (replies_.copying_in() && pass_copy_data()) {
            continue;
        }
        if (!waiting.empty() && !protocol::is_client_message(waiting.front())) {
            handle_relay(waiting.front(), {}, {});  // refused before its length is believed
            break;
        }
        if (waiting.size() < protocol::header_size) {
            break;
        }
        const auto header =
            protocol::read_header(waiting.data(), protocol::max_client_body(
                                                      waiting[0], config_.limits.max_message_bytes));
        if (!header) {
            port_.counters().add(Counter::protocol_violations);
            fail_session("08P01", "invalid message length");
            break;
        }
        const bool copy_data = header->type == 'd' || header->type == 'c' ||
                               header->type == 'f' || header->type == 'H';
        const bool passes = copy_data || (replies_.copying_in() &&
                                          (header->type == 'S' || header->type == 'X'));
        if (mirrors(phase_) && replies_.copying_in() && !passes) {
            port_.counters().add(Counter::protocol_violations);
            fail_session("08P01", "unexpected message during COPY from stdin");
            break;
        }
        const bool syncs = header->type == 'S' && in_block_;  // behind Execute of COMMIT: no more than that
        if (commit_sent_ && !passes && !syncs) {
            break;  // how the transaction ended must be known first
        }
        if (wanted_.epoch != adopted_epoch_ && !unsynced_ && replies_.ready_pending() > 0 &&
            !copy_data && !replies_.copying_in()) {
            break;  // this may be a boundary: a client that always sends ahead would hide it
        }
        const bool runs = header->type == 'Q' || header->type == 'E' || header->type == 'F';
        if (mirrors(phase_) && runs && replies_.ready_pending() > 0) {
            break;  // so must whether a transaction is open, before anything is added to it
        }
        const std::size_t size = protocol::header_size + header->body_size;
        if (waiting.size() < size) {
            if (header->type != 'd') {
                client_message_incomplete_ = true;
                break;
            }
            // Copy data is passed on as it comes; nothing of it is ever looked at.
            primary_out().append(waiting);
            tee_piece(waiting.substr(protocol::header_size));
            client_stream_left_ = size - waiting.size();
            client_at_ += waiting.size();
            continue;
        }
        const auto whole = waiting.substr(0, size);
        const auto body = whole.substr(protocol::header_size);
        if (mirrors(phase_)) {
            const bool decides = header->type == 'P' || header->type == 'Q' ||
                                 header->type == 'B' || header->type == 'E';
            if (decides && settings_stale_ && status_ != 'E' && !replies_.skipping()) {
                sync_settings();
                continue;
            }
            handle_client(header->type, body, whole);
        } else {
            handle_relay(header->type, body, whole);
        }
        client_at_ += size;
        check_mirror_backlog();
    }
    release_client_input();
    watch_idle();
    pumping_ = false;
}

// Steps that a step leaves run before those that stood behind it.
bool SessionMachine::run_steps() {
    while (!steps_.empty() && stage_ == Stage::ready) {
        Step step = std::move(steps_.front());
        steps_.pop_front();
        std::deque<Step> rest;
        rest.swap(steps_);
        const bool done = step();
        if (!done) {
            steps_.push_back(std::move(step));
        }
        steps_.insert(steps_.end(), std::make_move_iterator(rest.begin()),
                      std::make_move_iterator(rest.end()));
        if (!done) {
            return false;
        }
    }
    return steps_.empty();
}

void SessionMachine::send_primary(std::string_view whole, Expect expect, ReplyHandler handler) {
    primary_out().append(whole);
    switch (expect) {
        case Expect::sync:
            unsynced_ = unsynced_ && replies_.copying_in();
            break;
        case Expect::query:
        case Expect::function_call:
            unsynced_ = false;
            break;
        case Expect::copy_end:
            break;
        default:
            unsynced_ = true;
    }
    replies_.push(expect, std::move(handler));
}

void SessionMachine::wait_primary() {
    then([this, flushed = false]() mutable {
        // In copy-in mode the server answers when the client has sent its data.
        if (replies_.empty() || replies_.copying_in()) {
            return true;
        }
        if (!flushed && unsynced_) {
            protocol::encode_flush(primary_out());
        }
        flushed = true;
        return false;
    });
}

// Plain relay: INITIAL and COMPLETE. Replies are tracked by header alone.
void SessionMachine::handle_relay(char type, std::string_view body, std::string_view whole) {
    switch (type) {
        case 'Q':
            port_.counters().add(Counter::queries);
            relay_unnamed_.clear();
            note_relayed(body);
            send_primary(whole, Expect::query);
            break;
        case 'P':
            if (!body.empty() && body.front() == '\0') {
                relay_unnamed_.assign(body);
            }
            note_relayed(body.substr(std::min(body.find('\0'), body.size() - 1) + 1));
            send_primary(whole, Expect::parse);
            break;
        case 'B':
            send_primary(whole, Expect::bind);
            break;
        case 'D':
            send_primary(whole, !body.empty() && body.front() == 'S' ? Expect::describe_statement
                                                                    : Expect::describe_portal);
            break;
        case 'E':
            port_.counters().add(Counter::queries);
            send_primary(whole, Expect::execute);
            break;
        case 'C':
            send_primary(whole, Expect::close);
            break;
        case 'S':
            send_primary(whole, Expect::sync);
            break;
        case 'F':
            send_primary(whole, Expect::function_call);
            break;
        case 'c':
        case 'f':
            send_primary(whole, Expect::copy_end);
            break;
        case 'H':
        case 'd':
            primary_out().append(whole);
            break;
        case 'X':
            end_session();
            break;
        default:
            port_.counters().add(Counter::protocol_violations);
            fail_session("08P01", std::string("invalid frontend message type ") +
                                      std::to_string(static_cast<unsigned char>(type)));
    }
}

void SessionMachine::handle_client(char type, std::string_view body, std::string_view whole) {
    // After an error in the extended protocol the server ignores everything up to Sync.
    if (replies_.skipping() && type != 'S' && type != 'X') {
        return;
    }
    switch (type) {
        case 'Q':
            on_query(body, whole);
            break;
        case 'P':
            on_parse(body, whole);
            break;
        case 'B':
            on_bind(body, whole);
            break;
        case 'D':
            on_describe(body, whole);
            break;
        case 'E':
            on_execute(body, whole);
            break;
        case 'C':
            on_close(body, whole);
            break;
        case 'S':
            on_sync(whole);
            break;
        case 'F':
            note_ran(false);
            settings_stale_ = true;
            on_function_call(whole);
            break;
        case 'c':
        case 'f':
            on_copy_end(type, whole);
            break;
        default:
            handle_relay(type, body, whole);
    }
}

// --- the primary's side ---

void SessionMachine::server_bytes(Side side, std::string_view bytes) {
    if (stage_ == Stage::closed) {
        return;
    }
    consume_server(side, bytes);
    check_mirror_backlog();
    pump();
    finish_if_done();
}

void SessionMachine::consume_server(Side side, std::string_view bytes) {
    std::string& pending = server_in_[static_cast<std::size_t>(side)];
    std::string joined;
    if (!pending.empty()) {
        pending.append(bytes);
        joined.swap(pending);
        bytes = joined;
    }
    while (!bytes.empty() && stage_ != Stage::closed) {
        // The side's role may change between two messages, never within one.
        const bool from_primary = side == primary_;
        auto& stream_left = server_stream_left_[static_cast<std::size_t>(side)];
        if (stream_left > 0) {
            const auto part = bytes.substr(0, stream_left);
            to_client_.append(part);
            stream_left -= part.size();
            bytes.remove_prefix(part.size());
            continue;
        }
        if (bytes.size() < protocol::header_size) {
            break;
        }
        const bool logged_in = from_primary ? stage_ == Stage::ready : mirror_.ready();
        const auto header =
            protocol::read_header(bytes.data(), protocol::max_server_body(bytes[0], logged_in));
        if (!header) {
            constexpr const char* what = "a message with an impossible length";
            if (from_primary) {
                violation(what);
            } else {
                on_mirror_lost(what, MirrorFault::broken);
            }
            return;
        }
        const std::size_t size = protocol::header_size + header->body_size;
        if (bytes.size() < size) {
            const bool data = header->type == 'D' || header->type == 'd';
            const bool plain = replies_.front_is_plain() || replication_ != Replication::none;
            if (from_primary && data && stage_ == Stage::ready && plain) {
                to_client_.append(bytes);
                stream_left = size - bytes.size();
                bytes = {};
            }
            break;
        }
        const auto whole = bytes.substr(0, size);
        const auto body = whole.substr(protocol::header_size);
        bytes.remove_prefix(size);
        if (from_primary) {
            on_primary_message(header->type, body, whole);
        } else if (header->type == 'A' && listens_on_mirror_) {
            to_client_.append(whole);  // at a boundary: nothing is half sent
        } else if (const auto error =
                       mirror_.on_message(header->type, body, out(side))) {
            on_mirror_lost(*error, mirror_.fault());
            return;
        }
    }
    if (joined.empty()) {
        pending.assign(bytes);
    } else {
        // The rest of a large message that comes in pieces is kept, not copied each time.
        joined.erase(0, joined.size() - bytes.size());
        pending = std::move(joined);
    }
    if (pending.empty()) {
        release(pending);
    }
}

void SessionMachine::on_primary_message(char type, std::string_view body, std::string_view whole) {
    if (stage_ == Stage::closing) {
        return;
    }
    if (stage_ != Stage::ready) {
        on_login_message(type, body, whole);
        return;
    }
    if (replication_ != Replication::none) {
        replication_message(type, body, whole);
        return;
    }
    if (type == 'D' && replies_.front_is_plain()) {
        to_client_.append(whole);  // the hot path: rows of a plain query
        return;
    }
    const auto explained = replies_.explain(type);
    if (explained.verdict == ReplyQueue::Verdict::violation) {
        violation(std::string("an unexpected message '") + type + "'");
        return;
    }
    if (type == 'E') {
        statement_failed_ = true;
        note_fatal(body);
    }
    if (type == 'N' && firing_deferred_ &&
        protocol::error_field(protocol::decode_error(body), 'C') == "25P01") {
        return;  // "SET CONSTRAINTS can only be used in transaction blocks": it fires them all the same
    }
    if (type == 'Z') {
        on_ready_for_query(body.empty() ? 'I' : body.front());
    }
    if (explained.handler) {
        explained.handler->reply(type, body, whole);
    } else {
        to_client_.append(whole);
    }
    if (type == 'Z') {
        if (status_ == 'I' && !commit_sent_) {
            release_guard(statement_failed_);
        }
        statement_failed_ = false;
        if (status_ == 'I' && !commit_sent_) {
            transaction_ended();
        }
    }
}

void SessionMachine::note_fatal(std::string_view error) {
    const auto severity = protocol::error_field(protocol::decode_error(error), 'V');
    fatal_seen_ = fatal_seen_ || severity == "FATAL" || severity == "PANIC";
}

void SessionMachine::on_ready_for_query(char status) {
    status_ = status;
    in_block_ = status != 'I';
    if (status == 'I') {
        port_.counters().add(Counter::transactions);
        if (replies_.empty() && !unsynced_) {
            portals_.clear();
        }
    }
}

void SessionMachine::directive(const Directive& directive) {
    wanted_ = directive;
    if (directive.lost) {
        end_superseded();
        pump();
        return;
    }
    if (replication_ != Replication::none) {
        replication_directive(directive);
        return;
    }
    if (stage_ == Stage::startup || stage_ == Stage::held_login || stage_ == Stage::connecting ||
        stage_ == Stage::authenticating) {
        // No transaction can be open: followed at once. A login under way keeps its database; a
        // session that finds itself on the wrong one moves over when the login is done.
        adopt(directive);
    }
    pump();
}

void SessionMachine::poll() { pump(); }

}  // namespace banyan::router
