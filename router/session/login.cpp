// The start of a connection: the startup packets, authentication relayed to the primary, and the
// mirror's own login.

#include "router/session/session_machine.hpp"

namespace banyan::router {

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
        const auto header = protocol::read_header(waiting.data(), 65535);
        if (!header) {
            fail_session("08P01", "invalid message length during authentication");
            return;
        }
        const std::size_t size = protocol::header_size + header->body_size;
        if (header->type == 'X') {
            end_session();
        } else if (header->type == 'p' && waiting.size() >= size) {
            primary_out().append(waiting.substr(0, size));
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
    if (!startup || startup->get("user").empty()) {
        fail_session(startup ? "28000" : "08P01",
                     startup ? "no PostgreSQL user name specified in startup packet"
                             : "invalid startup packet layout: expected terminator as last byte");
        return;
    }
    startup_ = std::move(*startup);
    user_ = startup_.get("user");
    if (!transport_suffices()) {
        return;
    }
    database_ = startup_.get("database").empty() ? user_ : std::string(startup_.get("database"));
    if (database_ != config_.migration.database) {
        fail_session("3D000",
                     "database \"" + database_ + "\" is not part of this migration",
                     "Banyan serves the database \"" + config_.migration.database + "\".");
        return;
    }
    const auto replication = startup_.get("replication");
    if (!replication.empty() && replication != "false" && replication != "off" &&
        replication != "no" && replication != "0") {
        fail_session("0A000", "replication connections are not served by Banyan",
                     "Connect to the database server itself.");
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

void SessionMachine::server_connected(Side side) {
    if (stage_ == Stage::closed || (stage_ == Stage::closing && side == primary_)) {
        return;
    }
    const auto& database = endpoint(side).database;
    if (side == primary_ && stage_ == Stage::connecting) {
        stage_ = Stage::authenticating;
        if (database == database_) {
            primary_out().append(startup_bytes_);  // to the byte
        } else {
            auto startup = startup_;
            startup.set("database", database);
            protocol::encode_startup(primary_out(), startup);
        }
        std::string().swap(startup_bytes_);
    } else if (side != primary_) {
        auto startup = startup_;
        startup.version = protocol::protocol_3_0;
        startup.set("database", database);
        std::erase_if(startup.parameters,
                      [](const auto& parameter) { return parameter.first.starts_with("_pq_."); });
        const auto* login = config_.user(user_);
        const std::string password = login == nullptr         ? std::string()
                                     : side == Side::source ? login->source_password
                                                            : login->target_password;
        mirror_.set_setup(mirror_setup_sql());
        mirror_.connected(startup, user_, password, port_.nonce(), out(side));
    }
    pump();
}

// Row images carry final values: triggers and foreign keys of the mirror must not act on them
// again. The client's own timeouts must not cut the mirror's half, and a mirrored commit counts as
// durable once answered, whatever the client asked of its own.
std::string SessionMachine::mirror_setup_sql() const {
    return "SET session_replication_role = replica; SET lock_timeout = " +
           std::to_string(config_.mirror.lock_timeout.count()) +
           "; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; "
           "SET default_transaction_read_only = off; SET synchronous_commit = on";
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
    to_client_.append(whole);
    if (type == 'E') {
        port_.counters().add(Counter::logins_failed);
        end_session();
    } else if (type == 'Z') {
        login_done();
    }
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

void SessionMachine::connect_mirror() {
    if (mirror_.state() != MirrorLink::State::down || !port_.breaker().allows()) {
        return;
    }
    forget_mirror_state();
    mirror_.connecting();
    port_.set_deadline(Deadline::mirror_login, config_.mirror.connect_timeout);
    port_.connect(other(primary_));
}

void SessionMachine::on_mirror_lost(const std::string& why, bool count) {
    const Side side = other(primary_);
    const auto backend_id = static_cast<std::int32_t>(mirror_.process_id());
    if (mirror_.state() == MirrorLink::State::down) {
        return;
    }
    if (mirror_.in_transaction()) {
        mirror_lost_in_transaction(why);
    }
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
    if (stage_ == Stage::closing) {
        finish_session();
        return;
    }
    if (count) {
        port_.counters().add(Counter::mirror_failures);
        port_.log(3, "mirror connection of " + user_ + " lost: " + why);
        if (port_.breaker().failed()) {
            port_.log(4, "the mirror's breaker is open: keys are journaled only (" + why + ")");
        }
    }
}

}  // namespace banyan::router
