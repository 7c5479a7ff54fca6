#include "protocol/login.hpp"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <array>

namespace banyan::protocol {
namespace {

/// The MD5 digest in hexadecimal.
Secret md5_hex(std::string_view first, std::string_view second) {
    static constexpr std::string_view digits = "0123456789abcdef";
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int size = 0;
    EVP_MD_CTX* context = EVP_MD_CTX_new();
    EVP_DigestInit_ex(context, EVP_md5(), nullptr);
    EVP_DigestUpdate(context, first.data(), first.size());
    EVP_DigestUpdate(context, second.data(), second.size());
    EVP_DigestFinal_ex(context, digest.data(), &size);
    EVP_MD_CTX_free(context);
    Secret out(std::size_t{size} * 2);
    for (std::size_t i = 0; i < size; ++i) {
        out.data()[2 * i] = static_cast<unsigned char>(digits[digest[i] >> 4U]);
        out.data()[2 * i + 1] = static_cast<unsigned char>(digits[digest[i] & 15U]);
    }
    OPENSSL_cleanse(digest.data(), digest.size());
    return out;
}

}  // namespace

Login::Login(Credentials credentials, std::string nonce)
    : credentials_(std::move(credentials)), nonce_(std::move(nonce)) {}

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
            if (exchange_ != Exchange::none && exchange_ != Exchange::done) {
                return fail("the server skipped the proof of its own SCRAM key");
            }
            authenticated_ = true;
            return State::working;
        case 3:  // AuthenticationCleartextPassword
            return send_password(credentials_.allow_cleartext, "in clear text",
                                 credentials_.password ? credentials_.password->copy() : Secret(),
                                 out);
        case 5: {  // AuthenticationMD5Password
            const auto salt = reader.bytes(4);
            if (!reader.ok()) {
                return fail("malformed AuthenticationMD5Password");
            }
            Secret answer;
            if (credentials_.password) {
                const auto inner = md5_hex(credentials_.password->reveal(), credentials_.user);
                answer = Secret("md5" + std::string(md5_hex(inner.reveal(), salt).reveal()));
            }
            return send_password(credentials_.allow_md5, "as an MD5 hash", answer, out);
        }
        case 10:  // AuthenticationSASL
            return scram_first(reader, out);
        case 11:  // AuthenticationSASLContinue
            return scram_continue(reader.rest(), out);
        case 12:  // AuthenticationSASLFinal
            return scram_final(reader.rest());
        default:
            return fail("the server wants authentication method " + std::to_string(method) +
                        ", which is not supported for mirror logins");
    }
}

Login::State Login::send_password(bool allowed, const char* method, const Secret& answer,
                                  std::string& out) {
    if (!credentials_.password) {
        return fail("the server asks \"" + credentials_.user +
                    "\" for a password, and there is none here for it");
    }
    if (!allowed) {
        return fail("the server asks for the password of \"" + credentials_.user + "\" " + method +
                    ", which is not allowed here");
    }
    encode_password(out, answer.reveal());
    return State::working;
}

// RFC 5802, with the empty user name PostgreSQL expects.
Login::State Login::scram_first(Reader& reader, std::string& out) {
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
    if (!credentials_.password && !credentials_.keys) {
        return fail("the server asks \"" + credentials_.user +
                    "\" for a password, and there is none here for it");
    }
    client_first_bare_ = "n=,r=" + nonce_;
    const std::string first = "n,," + client_first_bare_;
    exchange_ = Exchange::first_sent;
    Message(out, 'p')
        .string("SCRAM-SHA-256")
        .int32(static_cast<std::uint32_t>(first.size()))
        .bytes(first);
    return State::working;
}

Login::State Login::scram_continue(std::string_view data, std::string& out) {
    if (exchange_ != Exchange::first_sent) {
        return fail("unexpected SCRAM message");
    }
    auto challenge = parse_scram_challenge(data);
    if (!challenge || !challenge->nonce.starts_with(nonce_) ||
        challenge->nonce.size() == nonce_.size()) {
        return fail("malformed SCRAM challenge");
    }
    if (challenge->iterations < min_scram_iterations ||
        challenge->iterations > max_scram_iterations) {
        return fail("the server asks for " + std::to_string(challenge->iterations) +
                    " SCRAM iterations, outside of what is accepted");
    }
    challenge_ = std::move(*challenge);
    server_first_ = data;
    if (credentials_.keys) {
        return scram_proof_with(*credentials_.keys, out);
    }
    exchange_ = Exchange::deriving;
    return State::derive;
}

Login::State Login::derived(const Secret& salted_password, std::string& out) {
    if (exchange_ != Exchange::deriving) {
        return State::working;
    }
    return scram_proof_with(scram_keys(salted_password), out);
}

Login::State Login::scram_proof_with(const ScramKeys& keys, std::string& out) {
    const std::string without_proof = "c=biws,r=" + challenge_.nonce;
    const std::string signed_text = client_first_bare_ + "," + server_first_ + "," + without_proof;
    server_signature_ = scram_signature(keys.server_key, signed_text);
    exchange_ = Exchange::proof_sent;
    Message(out, 'p')
        .bytes(without_proof)
        .bytes(",p=")
        .bytes(scram_proof(keys.client_key, signed_text).reveal());
    return State::working;
}

Login::State Login::scram_final(std::string_view data) {
    const auto signature = scram_attribute(data, 'v');
    if (exchange_ != Exchange::proof_sent || signature.size() != server_signature_.size() ||
        CRYPTO_memcmp(signature.data(), server_signature_.data(), signature.size()) != 0) {
        return fail("the server could not prove that it knows the password");
    }
    exchange_ = Exchange::done;
    return State::working;
}

}  // namespace banyan::protocol
