// Why a session ends that neither peer has ended: the process drains, a server is another one, or
// there is no memory.

#include <spdlog/spdlog.h>

#include <new>

#include "protocol/messages.hpp"
#include "proxy/session.hpp"

namespace banyan::proxy {

void Session::drain(const Drain& drain) {
    if (!ends_now({machine_.logged_in(), !machine_.in_transaction(), served_}, drain)) {
        return;
    }
    if (over_) {
        leave();  // it waits for a cancel request to be delivered
        return;
    }
    event([this] { machine_.terminate(); });
}

void Session::server_replaced(router::Side side) {
    if (peer(side).connected || peer(side).connector) {
        event([this, side] {
            machine_.server_lost(side, "another server has taken its place");
        });
    }
}

// The machine may have been left anywhere, and what was being written may be half a message: no
// byte goes to the servers any more. They roll back, and a commit that may have been sent is noted
// as such.
void Session::out_of_memory() {
    if (over_ || std::exchange(broken_, true)) {
        session_over();  // what it had in flight is repaired after the next start
        return;
    }
    spdlog::error("session {}: out of memory: it is ended", id_);
    try {
        std::string last_words;
        if (client_.connected && entry_ == Entry::open && machine_.to_client().empty()) {
            protocol::encode_error(last_words, "FATAL", "53200", "out of memory",
                                   "Banyan may not use more memory. The session was ended.");
            std::size_t sent = 0;
            client_.channel.write(last_words.data(), last_words.size(), sent);
        }
        close_now(source_);
        close_now(target_);
        close_now(client_);
        machine_.to_client().clear();
        event([this] { machine_.client_closed(); });
        event([this] { machine_.server_lost(machine_.primary(), "out of memory"); });
        event([this] { machine_.server_lost(router::other(machine_.primary()), "out of memory"); });
    } catch (const std::bad_alloc&) {
        spdlog::critical("session {}: out of memory while ending it", id_);
        session_over();
    }
}

}  // namespace banyan::proxy
