// How a client's connection begins: the PROXY protocol's header, TLS at once (direct TLS) or upon
// request, and only then PostgreSQL's protocol.

#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include "protocol/proxy_header.hpp"
#include "proxy/session.hpp"

namespace banyan::proxy {
namespace {

// A TLS record of the handshake; no startup packet is so long that it begins with this byte.
constexpr char tls_handshake_record = 0x16;

}  // namespace

bool Session::offers_tls() {
    return !local_ && context_.tls.offered_to_clients();
}

// The client can be read (or written, if TLS wants that), and is not open yet.
void Session::enter() {
    if (over_) {
        return;
    }
    if (entry_ == Entry::proxy_header && !read_proxy_header()) {
        return;
    }
    if (entry_ == Entry::first_byte) {
        char first = 0;
        const auto got = ::recv(client_.channel.handle(), &first, 1, MSG_PEEK);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            read_client();
            return;
        }
        direct_tls_ = got == 1 && first == tls_handshake_record;
        entry_ = direct_tls_ ? Entry::tls : Entry::open;
        if (direct_tls_) {
            client_.channel.start_tls(context_.tls.accept());
        }
    }
    if (entry_ == Entry::tls) {
        shake_hands();
    } else {
        on_client_readable();
    }
}

// Reads no byte beyond the header. False: it is not complete yet, or the connection was closed.
bool Session::read_proxy_header() {
    while (true) {
        const auto size = protocol::proxy_header_size(proxy_header_);
        if (!size) {
            spdlog::warn(
                "session {}: {} sent no PROXY protocol v2 header, which [listen] "
                "proxy_protocol demands",
                id_, client_name_);
            on_client_end();
            return false;
        }
        if (proxy_header_.size() == *size) {
            break;
        }
        std::string more(*size - proxy_header_.size(), '\0');
        const auto got =
            ::recv(client_.channel.handle(), more.data(), more.size(), 0);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            read_client();
            return false;
        }
        if (got <= 0) {
            on_client_end();
            return false;
        }
        proxy_header_.append(more, 0, static_cast<std::size_t>(got));
    }
    const auto client = protocol::decode_proxy_header(proxy_header_);
    if (!client) {
        spdlog::warn("session {}: {} sent a malformed PROXY protocol header", id_, client_name_);
        on_client_end();
        return false;
    }
    if (!client->empty()) {
        client_name_ = *client;
    }
    std::string().swap(proxy_header_);
    entry_ = context_.config.listen.tls() ? Entry::first_byte : Entry::open;
    read_client();
    return false;
}

void Session::shake_hands() {
    auto& channel = client_.channel;
    switch (channel.handshake()) {
        case Channel::Outcome::wait:
            read_client();
            return;
        case Channel::Outcome::done:
            break;
        default:
            spdlog::info("session {}: TLS with {}: {}", id_, client_name_, channel.error());
            on_client_end();
            return;
    }
    if (direct_tls_ && !negotiated_postgresql(channel.ssl())) {
        spdlog::info("session {}: {} began with TLS but without ALPN \"postgresql\"", id_,
                     client_name_);
        on_client_end();
        return;
    }
    entry_ = Entry::open;
    on_client_encrypted();
}

}  // namespace banyan::proxy
