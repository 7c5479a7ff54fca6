// The start of a connection: the startup packets, and authentication relayed to the primary.

#include "protocol/message_limits.hpp"
#include "router/session/session_machine.hpp"

namespace banyan::router {
namespace {

constexpr auto mirror_retry = std::chrono::seconds(5);

}  // namespace

void SessionMachine::read_startup() {
    const std::string_view waiting = std::string_view(client_in_).substr(client_at_);
    if (stage_ == Stage::held_login) {
        if (!held_) {
            connect_primary();
        }
        return;
    }
    if (stage_ == Stage::authenticating) {
        // Password messages go to the server as they are; nothing else may come before the login
        // is done, and what does come waits.
        if (waiting.size() < protocol::header_size) {
            return;
        }
        const auto header = protocol::read_header(
            waiting.data(), sasl_ ? protocol::max_sasl_body : protocol::max_authentication_body);
        if (!header) {
            fail_session("08P01", "invalid message length during authentication");
            return;
        }
        const std::size_t size = protocol::header_size + header->body_size;
        if (header->type == 'X') {
            end_session();
        } else if (header->type == 'p' && waiting.size() >= size && !verifiers_asked_) {
            relay_password(waiting.substr(protocol::header_size, header->body_size),
                           waiting.substr(0, size));
            client_at_ += size;
        }
        return;
    }
    if (stage_ != Stage::startup || waiting.size() < 8) {
        return;
    }
    const auto length = protocol::get_int32(waiting.data());
    if (length < 8 || length > protocol::max_startup_bytes) {
        port_.counters().add(Counter::protocol_violations);
        end_session();  // not PostgreSQL's protocol: no answer is better than a wrong one
        return;
    }
    if (waiting.size() < length) {
        return;
    }
    const auto whole = std::string(waiting.substr(0, length));
    client_at_ += length;
    on_startup_packet(protocol::get_int32(whole.data() + 4), std::string_view(whole).substr(8),
                      whole);
}

void SessionMachine::on_startup_packet(std::uint32_t code, std::string_view body,
                                       std::string_view whole) {
    if (code == protocol::cancel_request_code) {
        if (body.size() == 8) {
            cancel_request_ = {protocol::get_int32(body.data()),
                               protocol::get_int32(body.data() + 4)};
        }
        client_gone_ = true;  // it is owed nothing; the driver closes it when the server has acted
        end_session();
        return;
    }
    const bool ssl = code == protocol::ssl_request_code;
    if (ssl || code == protocol::gssenc_request_code) {
        bool& asked = ssl ? ssl_asked_ : gss_asked_;
        // Bytes behind the request were sent before the answer: they could have been injected
        // ahead of an encrypted channel (CVE-2021-23214).
        if (asked || client_at_ < client_in_.size()) {
            port_.counters().add(Counter::protocol_violations);
            end_session();
            return;
        }
        asked = true;
        if (ssl && port_.offers_tls()) {
            to_client_.push_back('S');
            port_.start_client_tls();
        } else {
            to_client_.push_back('N');
        }
        return;
    }
    if (code >> 16U != 3) {
        fail_session("0A000", "unsupported frontend protocol " + std::to_string(code >> 16U) +
                                  "." + std::to_string(code & 0xFFFFU) + ": Banyan supports 3.x");
        return;
    }
    auto startup = protocol::decode_startup(code, body);
    if (!startup) {
        fail_session("08P01", "invalid startup packet layout: expected terminator as last byte");
        return;
    }
    if (startup->get("user").empty()) {
        fail_session("28000", "no PostgreSQL user name specified in startup packet");
        return;
    }
    startup_ = std::move(*startup);
    user_ = startup_.get("user");
    if (!transport_suffices()) {
        return;
    }
    database_ = startup_.get("database").empty() ? user_ : std::string(startup_.get("database"));
    const auto replication = replication_of(startup_.get("replication"));
    if (database_ != config_.migration.database && replication != Replication::physical) {
        fail_session("3D000",
                     "database \"" + database_ + "\" is not part of this migration",
                     "Banyan serves the database \"" + config_.migration.database + "\".");
        return;
    }
    replication_ = replication;
    if (!accept_replication()) {
        return;
    }
    if (!port_.admit_client()) {
        port_.counters().add(Counter::client_connections_refused);
        fail_session("53300", "sorry, too many clients already",
                     "Raise [limits] max_clients in Banyan's configuration.");
        return;
    }
    if (wanted_.lost) {
        end_superseded();
        return;
    }
    startup_bytes_ = whole;
    stage_ = Stage::held_login;
}

void SessionMachine::client_encrypted(std::optional<std::string> common_name) {
    encrypted_ = ssl_asked_ = true;
    common_name_ = std::move(common_name);
}

bool SessionMachine::transport_suffices() {
    const auto& listen = config_.listen;
    if (local_ || !listen.tls_required()) {
        return true;
    }
    if (!encrypted_) {
        fail_session("28000", "connection to Banyan requires TLS for user \"" + user_ + "\"",
                     "Connect with sslmode=require or stricter.");
    } else if (listen.client_certificate_required() && !common_name_) {
        fail_session("28000", "connection requires a valid client certificate",
                     "Connect with sslcert and sslkey of a certificate that Banyan's ssl_ca_file "
                     "has signed.");
    } else if (listen.sslmode == "verify-full" && *common_name_ != user_) {
        fail_session("28000", "certificate authentication failed for user \"" + user_ + "\"",
                     "The client certificate's common name must be the user's name.");
    } else {
        return true;
    }
    return false;
}

void SessionMachine::connect_primary() {
    primary_ = primary_of(phase_);
    stage_ = Stage::connecting;
    port_.connect(primary_);
}

void SessionMachine::server_connected(Side side, bool encrypted) {
    if (stage_ == Stage::closed || (stage_ == Stage::closing && side == primary_)) {
        return;
    }
    const auto& database = endpoint(side).database;
    if (side == primary_ && stage_ == Stage::connecting) {
        stage_ = Stage::authenticating;
        if (database == database_ || replication_ == Replication::physical) {
            primary_out().append(startup_bytes_);  // to the byte
        } else {
            auto startup = startup_;
            startup.set("database", database);
            protocol::encode_startup(primary_out(), startup);
        }
        std::string().swap(startup_bytes_);
    } else if (side != primary_) {
        log_in_to_mirror(side, encrypted);
    }
    pump();
}

// Row images carry final values: triggers and foreign keys of the mirror must not act on them
// again. The client's own timeouts must not cut the mirror's half. The next transaction's rows wait
// behind the mirror's COMMIT, and with them its own: unless told otherwise, that does not wait for the
// disk. What a crash of the mirror takes with it is verified then (router/migration/README.md).
std::string SessionMachine::mirror_setup_sql() const {
    const std::string role =
        mutant("mirror_triggers_fire") ? "" : "SET session_replication_role = replica; ";
    return role + "SET lock_timeout = " +
           std::to_string(config_.mirror.lock_timeout.count()) +
           "; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; "
           "SET default_transaction_read_only = off; SET synchronous_commit = " +
           config_.mirror.synchronous_commit;
}

// The client's answer to the server's challenge, as it is; a SCRAM exchange is watched, and translated
// where it must be (router/auth/README.md).
void SessionMachine::relay_password(std::string_view body, std::string_view whole) {
    if (!scram_ || !scram_->under_way()) {
        primary_out().append(whole);
    } else if (const auto for_server = scram_->from_client(body)) {
        protocol::Message(primary_out(), 'p').bytes(*for_server);
    } else {
        verifiers_asked_ = true;
        port_.request_verifiers(user_, primary_);
    }
}

void SessionMachine::translate_login(const RoleVerifiers& answer) {
    verifiers_asked_ = false;
    const auto& side = answer.of(primary_);
    if (!side.readable) {
        port_.counters().add(Counter::logins_failed);
        fail_session("28000",
                     "SCRAM authentication over TLS cannot be passed on: the verifiers of the " +
                         std::string(to_string(primary_)) + " cannot be read: " + side.error,
                     "Connect with channel_binding=disable, or let Banyan's role there read "
                     "pg_authid.");
        return;
    }
    const auto verifier = answer.scram(primary_);
    protocol::Message(primary_out(), 'p').bytes(
        scram_->with_verifier(verifier ? &*verifier : nullptr));
}

void SessionMachine::on_authentication(std::string_view body, std::string_view whole) {
    constexpr std::size_t method_size = 4;
    const auto method = body.size() < method_size ? 0 : protocol::get_int32(body.data());
    const auto data = body.size() < method_size ? body : body.substr(method_size);
    std::optional<std::string> for_client;
    switch (method) {
        case 10: {  // AuthenticationSASL
            scram_ = std::make_unique<protocol::ScramRelay>();
            for_client = scram_->mechanisms(data);
            if (!for_client) {
                violation("no SASL mechanism that works through a proxy");
                return;
            }
            break;
        }
        case 11:  // AuthenticationSASLContinue
            if (scram_) {
                scram_->challenge(data);
            }
            break;
        case 12:  // AuthenticationSASLFinal
            if (scram_) {
                for_client = scram_->signature(data);
                if (!for_client) {
                    violation("no proof that it knows the password");
                    return;
                }
            }
            break;
        case 0:  // AuthenticationOk
            if (scram_) {
                if (auto evidence = scram_->take_evidence()) {
                    evidence_ = std::make_unique<protocol::ScramEvidence>(std::move(*evidence));
                }
                scram_.reset();
            }
            break;
        default:
            break;
    }
    if (for_client) {
        protocol::Message(to_client_, 'R').int32(method).bytes(*for_client);
    } else {
        to_client_.append(whole);
    }
}

void SessionMachine::on_login_message(char type, std::string_view body, std::string_view whole) {
    if (type == 'K') {
        protocol::Reader reader(body);
        primary_key_.first = reader.int32();
        primary_key_.second = reader.int32();
        if (!reader.ok()) {
            violation("a malformed BackendKeyData");
            return;
        }
        protocol::encode_backend_key_data(to_client_, primary_key_.first,
                                          port_.cancel_key(primary_key_.first));
        return;
    }
    if (type == 'R') {
        on_authentication(body, whole);
        check_room(body);
        return;
    }
    to_client_.append(whole);
    if (type == 'E') {
        port_.counters().add(Counter::logins_failed);
        end_session();
    } else if (type == 'Z') {
        login_done();
    }
}

// At AuthenticationOk, where the server too counts a role's connections.
void SessionMachine::check_room(std::string_view body) {
    protocol::Reader reader(body);
    const auto method = reader.int32();
    sasl_ = method >= 10 && method <= 12;
    if (!reader.ok() || method != 0 || stage_ != Stage::authenticating ||
        port_.admit_user(user_)) {
        return;
    }
    port_.counters().add(Counter::client_connections_refused);
    fail_session("53300", "too many connections for role \"" + user_ + "\"",
                 "Raise [limits] max_clients_per_user in Banyan's configuration.");
}

void SessionMachine::login_done() {
    port_.clear_deadline(Deadline::login);
    stage_ = Stage::ready;
    role_ = user_;
    if (primary_ != primary_of(phase_)) {
        flip();  // the flip happened while this login was under way
    } else if (mirrors(phase_)) {
        connect_mirror();
    }
}

// `fault`: what it says about the mirror, if anything. `wanted`: the connection is not needed any more.
void SessionMachine::on_mirror_lost(const std::string& why, std::optional<MirrorFault> fault,
                                    bool wanted) {
    const Side side = other(primary_);
    const auto backend_id = static_cast<std::int32_t>(mirror_.process_id());
    if (mirror_.state() == MirrorLink::State::down) {
        return;
    }
    if (mirror_.in_transaction()) {
        mirror_lost_in_transaction(why);
    }
    const bool refused = mirror_.refused();
    if (refused && mirror_login_ == MirrorLogin::scram_keys) {
        keys_refused_ = true;  // another way is tried at once
    } else if (refused) {
        mirror_refused_ = true;
        port_.set_deadline(Deadline::mirror_retry, mirror_retry);
    }
    mirror_keys_.reset();
    verifiers_asked_ = false;
    const auto unanswered = mirror_.reset();
    for (const auto txn : unanswered) {
        port_.lose(txn, {{side, backend_id}});
    }
    out(side).clear();
    server_in_[static_cast<std::size_t>(side)].clear();
    for (auto& [name, prepared] : statements_) {
        prepared->shadow_name.clear();
    }
    port_.close_server(side);
    port_.clear_deadline(Deadline::mirror_commit);
    if (stage_ == Stage::closing) {
        finish_if_done();
        return;
    }
    if (!wanted) {
        port_.counters().add(Counter::mirror_failures);
        port_.log(3, "mirror connection of " + user_ + " lost: " + why);
        // A role that may not log in says nothing about the mirror: the others are not cut off.
        if (!refused && fault) {
            note_fault(*fault, why);
        }
    }
}

}  // namespace banyan::router
