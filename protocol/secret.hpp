// Bytes that must not leak: passwords, keys, proofs. Cannot be printed, compared or copied by
// accident, and are wiped when they go.
#pragma once

#include <openssl/crypto.h>

#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

namespace banyan::protocol {

class Secret {
   public:
    Secret() = default;
    explicit Secret(std::string_view bytes) : bytes_(bytes.begin(), bytes.end()) {}
    explicit Secret(std::size_t size) : bytes_(size) {}
    ~Secret() { wipe(); }
    Secret(Secret&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
    Secret& operator=(Secret&& other) noexcept {
        if (this != &other) {
            wipe();
            bytes_ = std::exchange(other.bytes_, {});
        }
        return *this;
    }
    Secret(const Secret&) = delete;
    Secret& operator=(const Secret&) = delete;

    /// Copies are made on purpose.
    Secret copy() const { return Secret(reveal()); }
    /// The bytes, for as long as this lives. Only for code that computes or sends.
    std::string_view reveal() const {
        return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()};
    }
    unsigned char* data() { return bytes_.data(); }
    const unsigned char* data() const { return bytes_.data(); }
    std::size_t size() const { return bytes_.size(); }
    bool empty() const { return bytes_.empty(); }

    /// In constant time.
    bool same(const Secret& other) const {
        return size() == other.size() && CRYPTO_memcmp(data(), other.data(), size()) == 0;
    }

    template <class Stream>
    friend Stream& operator<<(Stream&, const Secret&) = delete;

   private:
    void wipe() {
        if (!bytes_.empty()) {
            OPENSSL_cleanse(bytes_.data(), bytes_.size());
        }
    }
    std::vector<unsigned char> bytes_;  // never grows: no copy is left behind by a reallocation
};

}  // namespace banyan::protocol
