// INITIAL: whatever client and server say to one another, in whatever pieces, each gets a prefix of
// what the other said and at most one message of Banyan's own behind it. Copy data in both
// directions is among the seeds.
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

/// `got` is the beginning of `said`, with or without one whole message of type `last` behind it.
void require_prefix(std::string_view got, std::string_view said, char last) {
    std::size_t same = 0;
    while (same < got.size() && same < said.size() && got[same] == said[same]) {
        ++same;
    }
    if (same == got.size()) {
        return;
    }
    // The message behind it may begin like what was said.
    for (std::size_t back = 0; back <= same && back < 5; ++back) {
        const auto own = got.substr(same - back);
        if (own.size() >= 5 && own[0] == last &&
            banyan::protocol::get_int32(own.data() + 1) + 1 == own.size()) {
            return;
        }
    }
    std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input(data, size);
    const bool replication = input.yes();
    Scene scene(Phase::initial);
    scene.send(replication ? startup("shop", {{"replication", "database"}}) : startup());
    require(scene.machine.logged_in());
    scene.source.hangs = true;
    const auto to_client = scene.client_total().size();
    const auto to_server = scene.source.total().size();
    std::string client;
    std::string server;
    while (input.left() > 0) {
        const bool from_client = input.yes();
        const auto bytes = input.text(300);
        (from_client ? client : server).append(bytes);
        if (from_client) {
            scene.send(bytes);
        } else if (!scene.port.closed.contains(Side::source)) {
            scene.server_says(Side::source, bytes);
        }
    }
    require_prefix(std::string_view(scene.client_total()).substr(to_client), server, 'E');
    require_prefix(std::string_view(scene.source.total()).substr(to_server), client, 'X');
    return 0;
}
