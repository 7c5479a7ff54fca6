// The first bytes of a connection, whatever they are: nothing but a whole, well-formed startup
// message reaches a server, at most one does, and how it is cut changes nothing.
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
    // Of the first packet only: what is behind it may come before or after the server's answer.
    const auto first = bytes.substr(
        0, bytes.size() < 4 ? bytes.size() : banyan::protocol::get_int32(bytes.data()));
    require(run(first, chunk, password) == run(first, std::string::npos, password));
    if (!whole.source.empty()) {
        const auto length = banyan::protocol::get_int32(whole.source.data());
        require(
            whole.source.size() >= length &&
            banyan::protocol::decode_startup(banyan::protocol::get_int32(whole.source.data() + 4),
                                             std::string_view(whole.source).substr(8, length - 8)));
    }
    return 0;
}
