#include "protocol/login.hpp"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <array>
#include <charconv>
#include <vector>

namespace banyan::protocol {
namespace {

constexpr std::uint32_t min_iterations = 4096;
// PostgreSQL's default is 4096; a hostile server must not buy seconds of our time.
constexpr std::uint32_t max_iterations = 1'000'000;
constexpr std::size_t max_scram_message = 1024;

const unsigned char* unsigned_bytes(std::string_view text) {
    return reinterpret_cast<const unsigned char*>(text.data());
}

std::string hmac_sha256(std::string_view key, std::string_view data) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int size = 0;
    HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), unsigned_bytes(data), data.size(),
         digest.data(), &size);
    return {reinterpret_cast<const char*>(digest.data()), size};
}

std::string hash(const EVP_MD* kind, std::string_view data) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int size = 0;
    EVP_Digest(data.data(), data.size(), digest.data(), &size, kind, nullptr);
    return {reinterpret_cast<const char*>(digest.data()), size};
}

std::string hex(std::string_view data) {
    static constexpr std::string_view digits = "0123456789abcdef";
    std::string out;
    for (const char c : data) {
        const auto byte = static_cast<unsigned char>(c);
        out.push_back(digits[byte >> 4U]);
        out.push_back(digits[byte & 15U]);
    }
    return out;
}

std::string base64(std::string_view data) {
    std::string out(4 * ((data.size() + 2) / 3) + 1, '\0');
    const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                     unsigned_bytes(data), static_cast<int>(data.size()));
    out.resize(static_cast<std::size_t>(size));
    return out;
}

std::string unbase64(std::string_view text) {
    if (text.empty() || text.size() % 4 != 0) {
        return {};
    }
    std::string out(text.size() / 4 * 3, '\0');
    if (EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()), unsigned_bytes(text),
                        static_cast<int>(text.size())) < 0) {
        return {};
    }
    const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
    out.resize(out.size() - padding);
    return out;
}

/// The value of "x=..." in a comma-separated SCRAM message; empty if absent.
std::string_view attribute(std::string_view message, char name) {
    while (!message.empty()) {
        const auto comma = message.find(',');
        const auto part = message.substr(0, comma);
        if (part.size() >= 2 && part[0] == name && part[1] == '=') {
            return part.substr(2);
        }
        if (comma == std::string_view::npos) {
            break;
        }
        message.remove_prefix(comma + 1);
    }
    return {};
}

}  // namespace

Login::Login(std::string user, std::string password, std::string nonce)
    : user_(std::move(user)), password_(std::move(password)), nonce_(std::move(nonce)) {}

Login::State Login::fail(std::string why) {
    error_ = std::move(why);
    return State::failed;
}

Login::State Login::on_message(char type, std::string_view body, std::string& out) {
    switch (type) {
        case 'R':
            return authenticate(body, out);
        case 'E': {
            const auto fields = decode_error(body);
            sqlstate_ = error_field(fields, 'C');
            return fail(std::string(error_field(fields, 'M')));
        }
        case 'K': {
            Reader reader(body);
            process_id_ = reader.int32();
            secret_key_ = reader.int32();
            return reader.ok() ? State::working : fail("malformed BackendKeyData");
        }
        case 'S':
        case 'N':
        case 'v':
            return State::working;
        case 'Z':
            return authenticated_ ? State::ready : fail("the server skipped authentication");
        default:
            return fail(std::string("unexpected message '") + type + "' during login");
    }
}

Login::State Login::authenticate(std::string_view body, std::string& out) {
    Reader reader(body);
    const auto method = reader.int32();
    if (!reader.ok()) {
        return fail("malformed Authentication message");
    }
    const bool asks = method == 3 || method == 5 || method == 10;
    if (asks && (exchange_ != Exchange::none || authenticated_)) {
        return fail("the server asks for a second authentication");
    }
    switch (method) {
        case 0:  // AuthenticationOk
            if (exchange_ == Exchange::first_sent || exchange_ == Exchange::proof_sent) {
                return fail("the server skipped the proof of its own SCRAM key");
            }
            authenticated_ = true;
            return State::working;
        case 3:  // AuthenticationCleartextPassword
            encode_password(out, password_);
            return State::working;
        case 5: {  // AuthenticationMD5Password
            const auto salt = reader.bytes(4);
            if (!reader.ok()) {
                return fail("malformed AuthenticationMD5Password");
            }
            const auto inner = hex(hash(EVP_md5(), password_ + user_));
            encode_password(out, "md5" + hex(hash(EVP_md5(), inner + std::string(salt))));
            return State::working;
        }
        case 10: {  // AuthenticationSASL
            bool offered = false;
            while (reader.ok()) {
                const auto mechanism = reader.string();
                if (!reader.ok() || mechanism.empty()) {
                    break;
                }
                offered = offered || mechanism == "SCRAM-SHA-256";
            }
            if (!offered) {
                return fail("the server offers no SASL mechanism known here");
            }
            client_first_bare_ = "n=,r=" + nonce_;
            const std::string first = "n,," + client_first_bare_;
            exchange_ = Exchange::first_sent;
            Message(out, 'p').string("SCRAM-SHA-256").int32(
                static_cast<std::uint32_t>(first.size())).bytes(first);
            return State::working;
        }
        case 11:  // AuthenticationSASLContinue
            return scram_continue(reader.rest(), out);
        case 12:  // AuthenticationSASLFinal
            return scram_final(reader.rest());
        default:
            return fail("the server wants authentication method " + std::to_string(method) +
                        ", which is not supported for mirror logins");
    }
}

// RFC 5802, with the empty user name PostgreSQL expects.
Login::State Login::scram_continue(std::string_view data, std::string& out) {
    if (data.size() > max_scram_message || exchange_ != Exchange::first_sent ||
        data.starts_with("m=")) {  // m=: an extension that must be understood
        return fail("unexpected SCRAM message");
    }
    const auto nonce = attribute(data, 'r');
    const auto salt = unbase64(attribute(data, 's'));
    const auto count = attribute(data, 'i');
    std::uint32_t iterations = 0;
    const auto read = std::from_chars(count.data(), count.data() + count.size(), iterations);
    if (read.ec != std::errc() || read.ptr != count.data() + count.size()) {
        iterations = 0;
    }
    if (!nonce.starts_with(nonce_) || nonce.size() == nonce_.size() || salt.empty()) {
        return fail("malformed SCRAM challenge");
    }
    if (iterations < min_iterations || iterations > max_iterations) {
        return fail("the server asks for " + std::to_string(iterations) +
                    " SCRAM iterations, outside of what is accepted");
    }
    std::string salted(32, '\0');
    PKCS5_PBKDF2_HMAC(password_.data(), static_cast<int>(password_.size()), unsigned_bytes(salt),
                      static_cast<int>(salt.size()), static_cast<int>(iterations), EVP_sha256(),
                      32, reinterpret_cast<unsigned char*>(salted.data()));
    const auto client_key = hmac_sha256(salted, "Client Key");
    const std::string without_proof = "c=biws,r=" + std::string(nonce);
    const std::string auth_message =
        client_first_bare_ + "," + std::string(data) + "," + without_proof;
    const auto signature = hmac_sha256(hash(EVP_sha256(), client_key), auth_message);
    std::string proof = client_key;
    for (std::size_t i = 0; i < proof.size(); ++i) {
        proof[i] = static_cast<char>(proof[i] ^ signature[i]);
    }
    server_signature_ = base64(hmac_sha256(hmac_sha256(salted, "Server Key"), auth_message));
    exchange_ = Exchange::proof_sent;
    Message(out, 'p').bytes(without_proof + ",p=" + base64(proof));
    return State::working;
}

Login::State Login::scram_final(std::string_view data) {
    const auto signature = attribute(data, 'v');
    if (exchange_ != Exchange::proof_sent || signature.size() != server_signature_.size() ||
        CRYPTO_memcmp(signature.data(), server_signature_.data(), signature.size()) != 0) {
        return fail("the server could not prove that it knows the password");
    }
    exchange_ = Exchange::done;
    return State::working;
}

}  // namespace banyan::protocol
