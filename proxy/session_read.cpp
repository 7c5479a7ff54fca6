// How a session reads. Most messages are short, and each costs one recv() and nothing else: a read
// into a small buffer of the connection's own is left with the reactor, which performs it when bytes
// have come. Waiting for readability and then reading, into a buffer that all sessions of the loop
// share, costs an epoll_ctl() more each time (the reactor arms its edge anew), so that is for what is
// large, and for TLS, which reads by itself.
#include <boost/asio/buffer.hpp>

#include "proxy/session.hpp"

namespace banyan::proxy {

template <class F>
void Session::read(Peer& from, F then) {
    from.reading = true;
    if (from.bulk || from.channel.encrypted()) {
        from.channel.socket().async_wait(
            from.channel.reading_waits_for(),
            guarded(from, [this, &from, then](const boost::system::error_code&) {
                from.reading = false;
                auto& buffer = loop_.read_buffer();
                std::size_t got = 0;
                const auto outcome = from.channel.read(buffer.data(), buffer.size(), got);
                from.bulk = got > sizeof(*from.few);
                then(outcome, std::string_view(buffer.data(), got));
            }));
        return;
    }
    if (!from.few) {
        from.few = std::make_unique<std::array<char, 2048>>();
    }
    from.channel.socket().async_read_some(
        boost::asio::buffer(*from.few),
        guarded(from, [&from, then](const boost::system::error_code& error, std::size_t got) {
            from.reading = false;
            from.bulk = got == from.few->size();  // there may be more
            if (error) {
                then(from.channel.lost(error), {});
            } else {
                then(Channel::Outcome::done, std::string_view(from.few->data(), got));
            }
        }));
}

void Session::read_client() {
    if (!client_.connected || client_.reading || client_.ended || client_closing_ ||
        entry_ == Entry::tls_wanted || !machine_.wants_client_bytes() ||
        machine_.to_server(machine_.primary()).size() > backlog_limit) {
        return;
    }
    if (entry_ != Entry::open) {
        wait_for_client(client_.channel.reading_waits_for(), &Session::enter);
        return;
    }
    read(client_, [this](Channel::Outcome outcome, std::string_view bytes) {
        on_client_bytes(outcome, bytes);
    });
}

void Session::wait_for_client(Socket::wait_type what, void (Session::*then)()) {
    client_.reading = true;
    client_.channel.socket().async_wait(
        what, guarded(client_, [this, then](const boost::system::error_code&) {
            client_.reading = false;
            (this->*then)();
        }));
}

void Session::on_client_bytes(Channel::Outcome outcome, std::string_view bytes) {
    switch (outcome) {
        case Channel::Outcome::done:
            break;
        case Channel::Outcome::wait:
            read_client();
            return;
        default:
            on_client_end();
            return;
    }
    if (machine_.held() && !held_since_) {
        held_since_ = std::chrono::steady_clock::now();
    }
    event([this, bytes] { machine_.client_bytes(bytes); });
}

void Session::on_client_end() {
    client_.ended = true;
    close_now(client_);
    event([this] { machine_.client_closed(); });
}

void Session::on_client_encrypted() {
    event([this] { machine_.client_encrypted(peer_common_name(client_.channel.ssl())); });
}

void Session::read_server(router::Side side) {
    auto& server = peer(side);
    const bool blocked = side == machine_.primary() && machine_.to_client().size() > backlog_limit;
    if (!server.connected || server.reading || server.ended || blocked) {
        return;
    }
    read(server, [this, side](Channel::Outcome outcome, std::string_view bytes) {
        on_server_bytes(side, outcome, bytes);
    });
}

void Session::on_server_bytes(router::Side side, Channel::Outcome outcome, std::string_view bytes) {
    auto& from = peer(side);
    switch (outcome) {
        case Channel::Outcome::done:
            event([this, side, bytes] { machine_.server_bytes(side, bytes); });
            break;
        case Channel::Outcome::wait:
            read_server(side);
            break;
        case Channel::Outcome::ended:
            from.ended = true;
            on_server_end(side, "the server closed the connection");
            break;
        case Channel::Outcome::failed:
            from.ended = true;
            on_server_end(side, from.channel.error());
            break;
    }
}

}  // namespace banyan::proxy
