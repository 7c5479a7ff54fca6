#include "proxy/listener.hpp"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/error.hpp>
#include <new>

#include "protocol/messages.hpp"

namespace banyan::proxy {
namespace {

using boost::asio::ip::tcp;
using Local = boost::asio::local::stream_protocol;

constexpr std::chrono::milliseconds accept_pause{50};

std::string peer_name(const tcp::endpoint& peer) {
    return peer.address().to_string() + ":" + std::to_string(peer.port());
}
std::string peer_name(const Local::endpoint&) {
    return "[local]";
}

Descriptor spare_descriptor() {
    return Descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

void refuse_for_lack_of_descriptors(int handle) {
    std::string error;
    protocol::encode_error(error, "FATAL", "53300", "sorry, too many clients already",
                           "Banyan has no file descriptor left. Raise its limit of open files.");
    refuse_client(handle, error);
}

}  // namespace

void refuse_client(int handle, std::string_view error) {
    ::send(handle, error.data(), error.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    ::shutdown(handle, SHUT_WR);
    ::close(handle);
}

Listener::Listener(boost::asio::io_context& io, ListenSockets sockets, OnClient on_client)
    : on_client_(std::move(on_client)),
      tcp_(io),
      local_(io),
      tcp_pause_(io),
      local_pause_(io),
      local_file_(std::move(sockets.local_file)),
      spare_(spare_descriptor()) {
    sockaddr_storage bound{};
    socklen_t size = sizeof bound;
    ::getsockname(sockets.tcp.get(), reinterpret_cast<sockaddr*>(&bound), &size);
    tcp_.assign(bound.ss_family == AF_INET6 ? tcp::v6() : tcp::v4(), sockets.tcp.release());
    port_ = tcp_.local_endpoint().port();
    if (sockets.local.open()) {
        local_.assign(Local(), sockets.local.release());
    }
}

Listener::~Listener() {
    if (!local_file_.empty()) {
        ::unlink(local_file_.c_str());
    }
}

std::vector<int> Listener::handles() {
    std::vector<int> handles{tcp_.native_handle()};
    if (local_.is_open()) {
        handles.push_back(local_.native_handle());
    }
    return handles;
}

template <class Acceptor>
void Listener::take(Acceptor& acceptor, typename Acceptor::protocol_type::socket client) {
    boost::system::error_code gone;
    const auto peer = client.remote_endpoint(gone);
    if (gone) {
        return;
    }
    Accepted accepted;
    accepted.protocol = peer.protocol();
    accepted.local = std::is_same_v<Acceptor, Local::acceptor>;
    accepted.handle = client.release(gone);
    if (is_reserved_descriptor(accepted.handle)) {
        refuse_for_lack_of_descriptors(accepted.handle);
        return;
    }
    try {
        accepted.peer = peer_name(peer);
        on_client_(accepted);
    } catch (const std::bad_alloc&) {
        ::close(accepted.handle);
        throw;
    }
    (void)acceptor;
}

template <class Acceptor>
void Listener::accept_on(Acceptor& acceptor) {
    using Client = typename Acceptor::protocol_type::socket;
    acceptor.async_accept([this, &acceptor](const boost::system::error_code& error, Client client) {
        if (error == boost::asio::error::operation_aborted) {
            return;
        }
        bool failing = bool(error);
        if (error == boost::asio::error::no_descriptors || error.value() == ENFILE) {
            turn_away(acceptor.native_handle());
            failing = !spare_.open();
        } else if (error) {
            spdlog::error("cannot accept a client: {}", error.message());
        } else {
            try {
                take(acceptor, std::move(client));
            } catch (const std::bad_alloc&) {
                spdlog::error("cannot accept a client: out of memory");
                failing = true;
            }
        }
        if (!accepting_) {
            return;
        }
        if (!failing) {
            accept_on(acceptor);
            return;
        }
        // A moment later there may be what is missing now.
        auto& timer = static_cast<void*>(&acceptor) == &tcp_ ? tcp_pause_ : local_pause_;
        timer.expires_after(accept_pause);
        timer.async_wait([this, &acceptor](const boost::system::error_code& stopped) {
            if (!stopped && accepting_) {
                accept_on(acceptor);
            }
        });
    });
}

void Listener::turn_away(int acceptor) {
    spare_ = Descriptor();
    const int handle = ::accept4(acceptor, nullptr, nullptr, SOCK_CLOEXEC);
    if (handle >= 0) {
        refuse_for_lack_of_descriptors(handle);
    }
    spare_ = spare_descriptor();
}

void Listener::accept() {
    if (std::exchange(accepting_, true)) {
        return;
    }
    accept_on(tcp_);
    if (local_.is_open()) {
        accept_on(local_);
    }
}

void Listener::pause() {
    accepting_ = false;
    boost::system::error_code ignored;
    tcp_.cancel(ignored);
    local_.cancel(ignored);
    tcp_pause_.cancel();
    local_pause_.cancel();
}

void Listener::close() {
    pause();
    boost::system::error_code ignored;
    tcp_.close(ignored);
    local_.close(ignored);
    if (!local_file_.empty()) {
        ::unlink(local_file_.c_str());
        local_file_.clear();
    }
}

}  // namespace banyan::proxy
