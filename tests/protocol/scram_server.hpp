// The server's half of SCRAM-SHA-256 (RFC 5802, 7677), for tests; written apart from the client's
// half, so that a common mistake does not hide.
#pragma once

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <string>
#include <string_view>

namespace banyan::test {

class ScramServer {
   public:
    ScramServer(std::string password, int iterations) : iterations_(iterations) {
        salted_.resize(32);
        PKCS5_PBKDF2_HMAC(password.data(), static_cast<int>(password.size()), bytes(salt_),
                          static_cast<int>(salt_.size()), iterations, EVP_sha256(), 32,
                          reinterpret_cast<unsigned char*>(salted_.data()));
    }

    /// server-first-message for a client-first-message ("n,,n=,r=...").
    std::string first(std::string_view client_first) {
        client_bare_ = client_first.substr(3);
        const auto nonce = client_bare_.substr(client_bare_.find("r=") + 2);
        first_ = "r=" + nonce + "SERVER,s=" + base64(salt_) + ",i=" + std::to_string(iterations_);
        return first_;
    }
    /// server-final-message if the proof is right; empty otherwise.
    std::string final_message(std::string_view client_final) {
        const auto proof_at = client_final.rfind(",p=");
        const std::string auth = client_bare_ + "," + first_ + "," +
                                 std::string(client_final.substr(0, proof_at));
        const std::string client_key = hmac(salted_, "Client Key");
        std::string proof = hmac(sha256(client_key), auth);
        for (std::size_t i = 0; i < proof.size(); ++i) {
            proof[i] = static_cast<char>(proof[i] ^ client_key[i]);
        }
        if (client_final.substr(proof_at + 3) != base64(proof)) {
            return {};
        }
        return "v=" + base64(hmac(hmac(salted_, "Server Key"), auth));
    }

    /// What the server keeps in pg_authid.
    std::string verifier() const {
        return "SCRAM-SHA-256$" + std::to_string(iterations_) + ":" + base64(salt_) + "$" +
               base64(sha256(hmac(salted_, "Client Key"))) + ":" +
               base64(hmac(salted_, "Server Key"));
    }

   private:
    static const unsigned char* bytes(const std::string& text) {
        return reinterpret_cast<const unsigned char*>(text.data());
    }
    static std::string hmac(const std::string& key, const std::string& data) {
        std::string out(32, '\0');
        HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), bytes(data), data.size(),
             reinterpret_cast<unsigned char*>(out.data()), nullptr);
        return out;
    }
    static std::string sha256(const std::string& data) {
        std::string out(32, '\0');
        EVP_Digest(data.data(), data.size(), reinterpret_cast<unsigned char*>(out.data()), nullptr,
                   EVP_sha256(), nullptr);
        return out;
    }
    static std::string base64(const std::string& data) {
        std::string out(4 * ((data.size() + 2) / 3) + 1, '\0');
        EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), bytes(data),
                        static_cast<int>(data.size()));
        out.pop_back();
        return out;
    }

    int iterations_;
    std::string salt_ = "sixteen bytes...";
    std::string salted_;
    std::string client_bare_;
    std::string first_;
};

}  // namespace banyan::test
