#include "protocol/scram_relay.hpp"

#include <utility>

#include "protocol/wire.hpp"

namespace banyan::protocol {
namespace {

constexpr std::string_view mechanism = "SCRAM-SHA-256";
// base64 of the headers "y,," and "n,,": the last client message repeats which one it was.
constexpr std::string_view binding_y = "c=eSws";
constexpr std::string_view binding_n = "c=biws";

}  // namespace

std::optional<std::string> ScramRelay::mechanisms(std::string_view list) {
    Reader reader(list);
    std::string kept;
    while (true) {
        const auto name = reader.string();
        if (!reader.ok()) {
            return std::nullopt;
        }
        if (name.empty()) {
            break;
        }
        if (name.ends_with("-PLUS")) {
            plus_offered_ = true;
        } else {
            put_string(kept, name);
        }
    }
    if (kept.empty() || !reader.done()) {
        return std::nullopt;
    }
    kept.push_back('\0');
    state_ = State::offered;
    return kept;
}

std::optional<std::string> ScramRelay::from_client(std::string_view body) {
    if (state_ == State::offered) {
        state_ = State::first_sent;
        return first_from_client(body);
    }
    if (state_ == State::challenged) {
        return final_from_client(body);
    }
    return std::string(body);  // out of turn: the server says so
}

// SASLInitialResponse: String mechanism, Int32 length, gs2-header and client-first-message-bare.
std::string ScramRelay::first_from_client(std::string_view body) {
    std::string out(body);
    Reader reader(body);
    const auto name = reader.string();
    const auto size = reader.int32();
    const auto data = reader.rest();
    if (!reader.ok() || name != mechanism || size != data.size() ||
        data.size() > max_scram_message || (!data.starts_with("y,,") && !data.starts_with("n,,"))) {
        return out;
    }
    client_first_bare_ = data.substr(3);
    if (plus_offered_ && data.front() == 'y') {
        translating_ = true;
        out[body.size() - data.size()] = 'n';
    }
    return out;
}

void ScramRelay::challenge(std::string_view data) {
    if (state_ != State::first_sent) {
        return;
    }
    state_ = State::challenged;
    if (data.size() <= max_scram_message) {
        server_first_ = data;
    } else {
        client_first_bare_.clear();
    }
}

// client-final-message-without-proof, ",p=", proof.
std::optional<std::string> ScramRelay::final_from_client(std::string_view body) {
    state_ = State::proof_sent;
    const auto at = body.rfind(",p=");
    if (client_first_bare_.empty() || body.size() > max_scram_message ||
        at == std::string_view::npos) {
        translating_ = false;
        return std::string(body);
    }
    without_proof_ = body.substr(0, at);
    proof_ = Secret(body.substr(at + 3));
    evidence_.emplace(ScramEvidence{client_first_bare_ + "," + server_first_ + "," + without_proof_,
                                    proof_.copy()});
    if (translating_) {
        return std::nullopt;
    }
    return std::string(body);
}

std::string ScramRelay::with_verifier(const ScramVerifier* verifier) {
    std::string for_server = without_proof_;
    if (for_server.starts_with(binding_y)) {
        for_server.replace(0, binding_y.size(), binding_n);
    }
    server_auth_message_ = client_first_bare_ + "," + server_first_ + "," + for_server;
    Secret proof = std::move(proof_);
    if (verifier != nullptr && without_proof_.starts_with(binding_y)) {
        if (const auto client_key =
                recover_client_key(verifier->stored_key, evidence_->auth_message, proof)) {
            proof = scram_proof(*client_key, server_auth_message_);
            server_key_ = verifier->server_key.copy();
        }
    }
    return for_server.append(",p=").append(proof.reveal());
}

std::optional<std::string> ScramRelay::signature(std::string_view data) {
    if (state_ != State::proof_sent) {
        return translating_ ? std::nullopt : std::optional<std::string>(data);
    }
    state_ = State::done;
    if (!translating_) {
        return std::string(data);
    }
    if (!server_key_) {
        return std::nullopt;
    }
    const auto expected = scram_signature(*server_key_, server_auth_message_);
    const auto given = scram_attribute(data, 'v');
    if (given.size() != expected.size() ||
        CRYPTO_memcmp(given.data(), expected.data(), given.size()) != 0) {
        return std::nullopt;
    }
    auto made = "v=" + scram_signature(*server_key_, evidence_->auth_message);
    server_key_.reset();
    return made;
}

std::optional<ScramEvidence> ScramRelay::take_evidence() {
    auto taken = std::move(evidence_);
    const bool complete = state_ == State::done;
    *this = ScramRelay();
    return complete ? std::move(taken) : std::nullopt;
}

}  // namespace banyan::protocol
