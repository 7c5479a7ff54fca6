// The first bytes of a connection, whatever they are: nothing but a whole, well-formed startup
// message reaches a server, at most one does, and how the bytes are cut changes nothing.
#include <cstdlib>
#include <string>

#include "tests/fuzz/input.hpp"
#include "tests/router/session/scene.hpp"

using namespace banyan::test;

namespace {

void require(bool holds) {
    if (!holds) {
        std::abort();
    }
}

struct Outcome {
    std::string client;
    std::string source;
    bool closed = false;

    friend bool operator==(const Outcome&, const Outcome&) = default;
};

Outcome run(std::string_view bytes, std::size_t chunk, bool password) {
    Scene scene(Phase::initial);
    scene.source.wants_password = password;
    scene.client_chunk = chunk;
    scene.send(bytes);
    return {scene.client_total(), scene.source.total(), scene.machine.closed()};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input(data, size);
    const bool password = input.yes();
    const std::size_t chunk = 1 + input.number(30);
    const std::string_view bytes = input.rest();
    const auto whole = run(bytes, std::string::npos, password);
    // Bytes behind an SSLRequest are refused only if they came with it: there the cut matters.
    const bool negotiates = bytes.size() >= 8 && (bytes.substr(4, 4) == "\x04\xD2\x16\x2F" ||
                                                  bytes.substr(4, 4) == "\x04\xD2\x16\x30");
    if (!negotiates) {
        require(run(bytes, chunk, password) == whole);
    }
    if (!whole.source.empty()) {
        const auto length = banyan::protocol::get_int32(whole.source.data());
        require(
            whole.source.size() >= length &&
            banyan::protocol::decode_startup(banyan::protocol::get_int32(whole.source.data() + 4),
                                             std::string_view(whole.source).substr(8, length - 8)));
    }
    return 0;
}
