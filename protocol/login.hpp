// Logging in to a PostgreSQL server with credentials of our own: the frontend half of
// authentication (trust, password, md5, SCRAM-SHA-256), without I/O. Feed it the server's messages
// until it is done; it appends what must be sent.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "protocol/messages.hpp"
#include "protocol/scram.hpp"

namespace banyan::protocol {

/// What a login may use. With neither password nor keys the server must trust.
struct Credentials {
    std::string user;
    std::optional<Secret> password;
    std::optional<ScramKeys> keys;  ///< instead of a password: SCRAM only
    bool allow_md5 = true;
    bool allow_cleartext = true;
};

class Login {
   public:
    /// `nonce`: at least 18 random bytes, base64 or other printable ASCII without commas.
    Login(Credentials credentials, std::string nonce);

    enum class State : std::uint8_t {
        working,
        derive,  ///< salt_password() must be called elsewhere, and derived() with its result
        ready,
        failed
    };

    /// One server message. Appends any answer to `out`.
    State on_message(char type, std::string_view body, std::string& out);

    /// After `derive`: what to derive from.
    const Secret& password() const { return *credentials_.password; }
    const std::string& salt() const { return challenge_.salt; }
    std::uint32_t iterations() const { return challenge_.iterations; }
    /// Ends a `derive`. Ignored at any other time.
    State derived(const Secret& salted_password, std::string& out);

    /// After `failed`: why, and the server's SQLSTATE if it sent one.
    const std::string& error() const { return error_; }
    const std::string& sqlstate() const { return sqlstate_; }
    std::uint32_t process_id() const { return process_id_; }
    std::uint32_t secret_key() const { return secret_key_; }

   private:
    /// How far the exchange of proofs has come; RFC 5802 allows no step to be left out.
    enum class Exchange : std::uint8_t { none, first_sent, deriving, proof_sent, done };

    State authenticate(std::string_view body, std::string& out);
    State send_password(bool allowed, const char* method, const Secret& answer, std::string& out);
    State scram_first(Reader& reader, std::string& out);
    State scram_continue(std::string_view data, std::string& out);
    State scram_proof_with(const ScramKeys& keys, std::string& out);
    State scram_final(std::string_view data);
    State fail(std::string why);

    Credentials credentials_;
    std::string nonce_;
    std::string client_first_bare_;
    std::string server_first_;
    ScramChallenge challenge_;
    std::string server_signature_;
    std::string error_;
    std::string sqlstate_;
    std::uint32_t process_id_ = 0;
    std::uint32_t secret_key_ = 0;
    Exchange exchange_ = Exchange::none;
    bool authenticated_ = false;
};

}  // namespace banyan::protocol
