// SCRAM-SHA-256 (RFC 5802, RFC 7677) as PostgreSQL speaks it: the arithmetic and the texts, without
// an exchange around them. Salts are raw bytes; proofs and signatures are base64, as on the wire.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "protocol/secret.hpp"

namespace banyan::protocol {

constexpr std::uint32_t min_scram_iterations = 4096;
/// PostgreSQL's default is 4096; a hostile server must not buy seconds of our time.
constexpr std::uint32_t max_scram_iterations = 1'000'000;
constexpr std::size_t max_scram_message = 1024;

/// What a server keeps of a password: pg_authid.rolpassword.
struct ScramVerifier {
    std::uint32_t iterations = 0;
    std::string salt;
    Secret stored_key;
    Secret server_key;
};

/// "SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey"; nullopt for anything else (md5, empty).
std::optional<ScramVerifier> parse_scram_verifier(std::string_view text);

/// What logs in to every server that has the same verifier, without the password.
struct ScramKeys {
    Secret client_key;
    Secret server_key;
    ScramKeys copy() const { return {client_key.copy(), server_key.copy()}; }
};

/// What a login that was watched gives away: with the role's StoredKey, its ClientKey.
struct ScramEvidence {
    std::string auth_message;  ///< RFC 5802's AuthMessage
    Secret proof;              ///< base64
};

/// PBKDF2: milliseconds to seconds of work, so never on an event loop.
Secret salt_password(const Secret& password, std::string_view salt, std::uint32_t iterations);
ScramKeys scram_keys(const Secret& salted_password);

Secret scram_proof(const Secret& client_key, std::string_view auth_message);
std::string scram_signature(const Secret& server_key, std::string_view auth_message);
/// nullopt: the proof was not made with the password behind StoredKey.
std::optional<Secret> recover_client_key(const Secret& stored_key, std::string_view auth_message,
                                         const Secret& proof);

struct ScramChallenge {
    std::string nonce;
    std::string salt;
    std::uint32_t iterations = 0;  ///< as the server says: see the bounds above
};
/// A server-first-message; nullopt if malformed.
std::optional<ScramChallenge> parse_scram_challenge(std::string_view message);

/// The value of "x=..." in a comma-separated SCRAM message; empty if absent.
std::string_view scram_attribute(std::string_view message, char name);
std::string base64(std::string_view data);
/// Empty if malformed.
std::string unbase64(std::string_view text);

}  // namespace banyan::protocol
