// How the mirror's connection is logged in, in the client's name: with what is configured for its
// role, with the SCRAM keys of its own login, or through Banyan's service role
// (router/auth/README.md).

#include "router/session/session_machine.hpp"

namespace banyan::router {

std::string_view SessionMachine::mirror_login() const {
    if (mirror_.state() == MirrorLink::State::down) {
        return "";
    }
    switch (mirror_login_) {
        case MirrorLogin::none:
            return "";
        case MirrorLogin::users:
            return "users";
        case MirrorLogin::scram_keys:
            return "scram_keys";
        case MirrorLogin::service_role:
            return "service_role";
        case MirrorLogin::trust:
            return "trust";
        case MirrorLogin::client:
            return "client";
    }
    return "";
}

/// Such a session's settings are read more broadly: the service role has other defaults.
bool SessionMachine::service_role_possible() const {
    return config_.mirror.login("service_role") &&
           !(config_.mirror.login("users") && config_.user(user_) != nullptr);
}

void SessionMachine::connect_mirror() {
    if (mirror_.state() != MirrorLink::State::down || mirror_refused_ ||
        !port_.breaker().allows_login(port_.now())) {
        return;
    }
    forget_mirror_state();
    mirror_.connecting();
    mirror_login_ = MirrorLogin::none;
    ++login_ticket_;
    port_.set_deadline(Deadline::mirror_login, config_.mirror.connect_timeout);
    if (config_.mirror.login("users") && config_.user(user_) != nullptr) {
        mirror_login_ = MirrorLogin::users;
    } else if (config_.mirror.login("scram_keys") && evidence_ && !keys_refused_) {
        verifiers_asked_ = true;
        port_.request_verifiers(user_, std::nullopt);
        return;
    }
    open_mirror();
}

void SessionMachine::open_mirror() {
    if (mirror_login_ == MirrorLogin::none) {
        mirror_login_ =
            config_.mirror.login("service_role") ? MirrorLogin::service_role : MirrorLogin::trust;
    }
    port_.connect(other(primary_));
}

void SessionMachine::verifiers(const RoleVerifiers& answer) {
    if (!verifiers_asked_) {
        return;  // of a login that was given up
    }
    if (stage_ == Stage::authenticating) {
        translate_login(answer);
    } else if (mirror_.state() == MirrorLink::State::connecting) {
        verifiers_asked_ = false;
        choose_mirror_login(answer);
        open_mirror();
    }
    pump();
}

// The key fits the mirror only if the mirror has the very same verifier; and it is there only if
// the role's password is still the one of the client's login.
void SessionMachine::choose_mirror_login(const RoleVerifiers& answer) {
    const auto verifier = answer.scram(primary_);
    if (!verifier || !answer.identical()) {
        return;
    }
    auto client_key = protocol::recover_client_key(verifier->stored_key, evidence_->auth_message,
                                                   evidence_->proof);
    if (client_key) {
        mirror_login_ = MirrorLogin::scram_keys;
        mirror_keys_ = std::make_unique<protocol::ScramKeys>(
            protocol::ScramKeys{std::move(*client_key), verifier->server_key.copy()});
    }
}

protocol::Credentials SessionMachine::mirror_credentials(Side side, bool encrypted) {
    protocol::Credentials credentials;
    credentials.user = user_;
    credentials.allow_md5 = config_.mirror.allow_md5;
    credentials.allow_cleartext = config_.mirror.allow_cleartext == "always" ||
                                  (config_.mirror.allow_cleartext == "encrypted" && encrypted);
    std::string_view password;
    switch (mirror_login_) {
        case MirrorLogin::users:
            if (const auto* login = config_.user(user_)) {
                password = side == Side::source ? login->source_password : login->target_password;
            }
            break;
        case MirrorLogin::scram_keys:
            credentials.keys = std::move(*mirror_keys_);
            mirror_keys_.reset();
            break;
        case MirrorLogin::service_role:
            credentials.user = endpoint(side).user;
            password = endpoint(side).password;
            break;
        case MirrorLogin::none:
        case MirrorLogin::trust:
        case MirrorLogin::client:
            break;
    }
    if (!password.empty()) {
        credentials.password.emplace(password);
    }
    return credentials;
}

void SessionMachine::log_in_to_mirror(Side side, bool encrypted) {
    auto startup = startup_;
    startup.version = protocol::protocol_3_0;
    startup.set("database", endpoint(side).database);
    std::string setup = mirror_setup_sql();
    if (mirror_login_ == MirrorLogin::service_role) {
        // What the client asked for in its startup message is set later, as the client's role.
        std::erase_if(startup.parameters, [](const auto& parameter) {
            return parameter.first != "database" && parameter.first != "application_name" &&
                   parameter.first != "client_encoding";
        });
        startup.set("user", endpoint(side).user);
        setup += "; SET SESSION AUTHORIZATION " + quote_literal(user_);
        mirror_.set_authorization(user_);
    } else {
        std::erase_if(startup.parameters,
                      [](const auto& parameter) { return parameter.first.starts_with("_pq_."); });
    }
    mirror_.set_setup(std::move(setup));
    mirror_.connected(startup, mirror_credentials(side, encrypted), port_.nonce(), out(side));
}

void SessionMachine::derive_mirror_key() {
    const auto& login = *mirror_.login();
    port_.derive_key(login_ticket_, login.password(), login.salt(), login.iterations());
}

void SessionMachine::key_derived(std::uint64_t ticket, const protocol::Secret* salted) {
    if (stage_ == Stage::closed || ticket != login_ticket_) {
        return;
    }
    if (const auto error = mirror_.derived(salted, mirror_out())) {
        on_mirror_lost(*error, std::nullopt);
    }
    pump();
}

}  // namespace banyan::router
