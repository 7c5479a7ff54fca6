// A client's SCRAM exchange on its way through: both ends are input. Nobody without the password gets
// a proof or a signature made, and no mechanism with channel binding is ever shown.
#include <algorithm>
#include <cstdlib>
#include <string>

#include "protocol/scram_relay.hpp"

using namespace banyan::protocol;

namespace {

void require(bool holds) {
    if (!holds) {
        std::abort();
    }
}

/// One byte of length, then as many.
std::string_view next(std::string_view& bytes) {
    if (bytes.empty()) {
        return {};
    }
    const auto size =
        std::min<std::size_t>(static_cast<unsigned char>(bytes.front()), bytes.size() - 1);
    const auto part = bytes.substr(1, size);
    bytes.remove_prefix(1 + size);
    return part;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string_view bytes(reinterpret_cast<const char*>(data), size);
    parse_scram_verifier(bytes);
    parse_scram_challenge(bytes);
    const auto decoded = unbase64(bytes);
    require(decoded.empty() || unbase64(base64(decoded)) == decoded);

    static const ScramKeys keys = scram_keys(salt_password(Secret("secret"), "a salt", 4096));
    ScramVerifier verifier;
    verifier.stored_key = keys.server_key.copy();  // of no password
    verifier.server_key = keys.server_key.copy();
    ScramRelay relay;
    if (const auto shown = relay.mechanisms(next(bytes))) {
        require(shown->find(std::string_view("-PLUS\0", 6)) == std::string::npos);
    }
    bool translated = false;
    while (!bytes.empty()) {
        const bool from_client = (bytes.front() & 1) == 0;
        const auto message = next(bytes);
        if (from_client && relay.under_way()) {
            if (!relay.from_client(message)) {
                relay.with_verifier(&verifier);
                translated = true;
            }
        } else if (relay.under_way()) {
            relay.challenge(message);
            const auto signature = message.size() % 2 == 0 ? std::nullopt : relay.signature(message);
            require(!translated || !signature);
        }
    }
    relay.take_evidence();
    return 0;
}
