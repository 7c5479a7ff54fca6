#include "proxy/listener.hpp"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "protocol/messages.hpp"

namespace banyan::proxy {
namespace {

constexpr std::chrono::milliseconds accept_pause{50};
constexpr int accepted_at_a_time = 64;

std::string peer_name(const sockaddr_storage& peer, socklen_t size) {
    char host[NI_MAXHOST] = "";
    char port[NI_MAXSERV] = "";
    ::getnameinfo(reinterpret_cast<const sockaddr*>(&peer), size, host, sizeof host, port,
                  sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    return std::string(host) + ":" + port;
}

void make_non_blocking(int handle) {
    ::fcntl(handle, F_SETFL, ::fcntl(handle, F_GETFL) | O_NONBLOCK);
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

Listener::Listener(Reactor& reactor, ListenSockets sockets, OnClient on_client)
    : on_client_(std::move(on_client)),
      tcp_(reactor),
      local_(reactor),
      local_file_(std::move(sockets.local_file)),
      spare_(spare_descriptor()) {
    sockaddr_storage bound{};
    socklen_t size = sizeof bound;
    ::getsockname(sockets.tcp.get(), reinterpret_cast<sockaddr*>(&bound), &size);
    port_ =
        ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(bound).sin6_port
                                          : reinterpret_cast<const sockaddr_in&>(bound).sin_port);
    make_non_blocking(sockets.tcp.get());
    tcp_.socket.open(std::move(sockets.tcp));
    local_.local = true;
    if (sockets.local.open()) {
        make_non_blocking(sockets.local.get());
        local_.socket.open(std::move(sockets.local));
    }
}

Listener::~Listener() {
    if (!local_file_.empty()) {
        ::unlink(local_file_.c_str());
    }
}

std::vector<int> Listener::handles() {
    std::vector<int> handles{tcp_.socket.handle()};
    if (local_.socket.is_open()) {
        handles.push_back(local_.socket.handle());
    }
    return handles;
}

void Listener::take(const Door& door, int client, const std::string& peer) {
    if (is_reserved_descriptor(client)) {
        refuse_for_lack_of_descriptors(client);
        return;
    }
    try {
        on_client_({client, peer, door.local});
    } catch (const std::bad_alloc&) {
        ::close(client);
        throw;
    }
}

void Listener::wait_at(Door& door) {
    door.socket.to_read(Readiness::readable, [this, &door] { on_waiting(door); });
}

void Listener::on_waiting(Door& door) {
    bool failing = false;
    for (int i = 0; i < accepted_at_a_time && accepting_ && !failing; ++i) {
        sockaddr_storage peer{};
        socklen_t size = sizeof peer;
        const int client = ::accept4(door.socket.handle(), reinterpret_cast<sockaddr*>(&peer),
                                     &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client >= 0) {
            try {
                take(door, client, door.local ? "[local]" : peer_name(peer, size));
            } catch (const std::bad_alloc&) {
                spdlog::error("cannot accept a client: out of memory");
                failing = true;
            }
        } else if (errno == EAGAIN) {
            break;
        } else if (errno == EMFILE || errno == ENFILE) {
            turn_away(door);
            failing = !spare_.open();
        } else if (errno != EINTR && errno != ECONNABORTED) {
            spdlog::error("cannot accept a client: {}", std::strerror(errno));
            failing = true;
        }
    }
    if (!accepting_) {
        return;
    }
    if (failing) {
        // A moment later there may be what is missing now.
        door.pause.after(accept_pause, [this, &door] { wait_at(door); });
    } else {
        wait_at(door);
    }
}

void Listener::turn_away(const Door& door) {
    spare_ = Descriptor();
    const int client =
        ::accept4(door.socket.handle(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (client >= 0) {
        refuse_for_lack_of_descriptors(client);
    }
    spare_ = spare_descriptor();
}

void Listener::accept() {
    if (std::exchange(accepting_, true)) {
        return;
    }
    wait_at(tcp_);
    if (local_.socket.is_open()) {
        wait_at(local_);
    }
}

void Listener::pause() {
    accepting_ = false;
    for (auto* door : {&tcp_, &local_}) {
        door->socket.forget();
        door->pause.cancel();
    }
}

void Listener::close() {
    pause();
    tcp_.socket.close();
    local_.socket.close();
    if (!local_file_.empty()) {
        ::unlink(local_file_.c_str());
        local_file_.clear();
    }
}

}  // namespace banyan::proxy
