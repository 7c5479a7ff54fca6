#include "protocol/scram.hpp"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <charconv>

namespace banyan::protocol {
namespace {

constexpr std::size_t key_size = 32;

const unsigned char* unsigned_bytes(std::string_view text) {
    return reinterpret_cast<const unsigned char*>(text.data());
}

Secret hmac_sha256(const Secret& key, std::string_view data) {
    Secret digest(key_size);
    unsigned int size = 0;
    HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), unsigned_bytes(data), data.size(),
         digest.data(), &size);
    return digest;
}

Secret sha256(const Secret& data) {
    Secret digest(key_size);
    unsigned int size = 0;
    EVP_Digest(data.data(), data.size(), digest.data(), &size, EVP_sha256(), nullptr);
    return digest;
}

Secret exclusive_or(const Secret& a, const Secret& b) {
    Secret out(key_size);
    for (std::size_t i = 0; i < key_size; ++i) {
        out.data()[i] = static_cast<unsigned char>(a.data()[i] ^ b.data()[i]);
    }
    return out;
}

Secret base64_of(const Secret& data) {
    Secret out(4 * ((data.size() + 2) / 3) + 1);
    const int size = EVP_EncodeBlock(out.data(), data.data(), static_cast<int>(data.size()));
    return Secret(out.reveal().substr(0, static_cast<std::size_t>(size)));
}

/// 32 bytes from their base64; empty if they are not.
Secret key_of(std::string_view text) {
    if (text.size() != 44 || !text.ends_with("=") || text.ends_with("==")) {
        return {};
    }
    Secret out(text.size() / 4 * 3);
    if (EVP_DecodeBlock(out.data(), unsigned_bytes(text), static_cast<int>(text.size())) < 0) {
        return {};
    }
    return Secret(out.reveal().substr(0, key_size));
}

bool read_count(std::string_view text, std::uint32_t& out) {
    const auto read = std::from_chars(text.data(), text.data() + text.size(), out);
    return read.ec == std::errc() && read.ptr == text.data() + text.size();
}

/// The text up to `mark`, which is taken off with it; all of it if there is none.
std::string_view take(std::string_view& text, char mark) {
    const auto at = text.find(mark);
    const auto part = text.substr(0, at);
    text.remove_prefix(at == std::string_view::npos ? text.size() : at + 1);
    return part;
}

}  // namespace

std::optional<ScramVerifier> parse_scram_verifier(std::string_view text) {
    ScramVerifier verifier;
    if (take(text, '$') != "SCRAM-SHA-256" || !read_count(take(text, ':'), verifier.iterations) ||
        verifier.iterations == 0) {
        return std::nullopt;
    }
    verifier.salt = unbase64(take(text, '$'));
    verifier.stored_key = key_of(take(text, ':'));
    verifier.server_key = key_of(text);
    if (verifier.salt.empty() || verifier.stored_key.empty() || verifier.server_key.empty()) {
        return std::nullopt;
    }
    return verifier;
}

Secret salt_password(const Secret& password, std::string_view salt, std::uint32_t iterations) {
    Secret salted(key_size);
    PKCS5_PBKDF2_HMAC(password.reveal().data(), static_cast<int>(password.size()),
                      unsigned_bytes(salt), static_cast<int>(salt.size()),
                      static_cast<int>(iterations), EVP_sha256(), static_cast<int>(key_size),
                      salted.data());
    return salted;
}

ScramKeys scram_keys(const Secret& salted_password) {
    return {hmac_sha256(salted_password, "Client Key"), hmac_sha256(salted_password, "Server Key")};
}

Secret scram_proof(const Secret& client_key, std::string_view auth_message) {
    const auto signature = hmac_sha256(sha256(client_key), auth_message);
    return base64_of(exclusive_or(client_key, signature));
}

std::string scram_signature(const Secret& server_key, std::string_view auth_message) {
    return base64(hmac_sha256(server_key, auth_message).reveal());
}

std::optional<Secret> recover_client_key(const Secret& stored_key, std::string_view auth_message,
                                         const Secret& proof) {
    const auto bytes = key_of(proof.reveal());
    if (bytes.empty() || stored_key.size() != key_size) {
        return std::nullopt;
    }
    auto client_key = exclusive_or(bytes, hmac_sha256(stored_key, auth_message));
    if (!sha256(client_key).same(stored_key)) {
        return std::nullopt;
    }
    return client_key;
}

std::optional<ScramChallenge> parse_scram_challenge(std::string_view message) {
    ScramChallenge challenge;
    if (message.size() > max_scram_message ||
        message.starts_with("m=")) {  // m=: an extension that must be understood
        return std::nullopt;
    }
    challenge.nonce = scram_attribute(message, 'r');
    challenge.salt = unbase64(scram_attribute(message, 's'));
    if (challenge.nonce.empty() || challenge.salt.empty() ||
        !read_count(scram_attribute(message, 'i'), challenge.iterations)) {
        return std::nullopt;
    }
    return challenge;
}

std::string_view scram_attribute(std::string_view message, char name) {
    while (!message.empty()) {
        const auto part = take(message, ',');
        if (part.size() >= 2 && part[0] == name && part[1] == '=') {
            return part.substr(2);
        }
    }
    return {};
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

}  // namespace banyan::protocol
