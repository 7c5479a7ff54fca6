#include "proxy/listen_sockets.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace banyan::proxy {
namespace {

using boost::asio::ip::tcp;
using Local = boost::asio::local::stream_protocol;

constexpr int first_of_service_manager = 3;  // SD_LISTEN_FDS_START

Error cannot_listen(const std::string& where, const std::string& why) {
    return {"cannot listen on " + where + ": " + why, ""};
}

Descriptor listening(int family, const sockaddr* address, socklen_t size) {
    Descriptor socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int on = 1;
    if (!socket.open() ||
        (family != AF_UNIX &&
         ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) ||
        ::bind(socket.get(), address, size) != 0) {
        return {};
    }
    return socket;
}

// The one of these sockets that listens at the address; what listens at port 0 is any of that host.
Descriptor take(std::vector<Descriptor>& from, const tcp::endpoint& wanted, bool any_host = false) {
    for (auto& each : from) {
        tcp::endpoint bound;
        socklen_t size = static_cast<socklen_t>(bound.capacity());
        if (!each.open() || ::getsockname(each.get(), bound.data(), &size) != 0 ||
            (bound.data()->sa_family != AF_INET && bound.data()->sa_family != AF_INET6)) {
            continue;
        }
        bound.resize(size);
        if ((any_host || bound.address() == wanted.address()) &&
            (wanted.port() == 0 || bound.port() == wanted.port())) {
            return std::move(each);
        }
    }
    return {};
}

Descriptor take(std::vector<Descriptor>& from, const std::string& path) {
    for (auto& each : from) {
        sockaddr_un bound{};
        socklen_t size = sizeof bound;
        if (each.open() &&
            ::getsockname(each.get(), reinterpret_cast<sockaddr*>(&bound), &size) == 0 &&
            bound.sun_family == AF_UNIX && path == bound.sun_path) {
            return std::move(each);
        }
    }
    return {};
}

Result<void> open_tcp(const router::Config::Listen& config, std::vector<Descriptor>& inherited,
                      ListenSockets& sockets) {
    boost::system::error_code error;
    const auto address = boost::asio::ip::make_address(config.host, error);
    if (error) {
        return Error{"[listen] host: \"" + config.host + "\" is not an IP address", ""};
    }
    const tcp::endpoint endpoint(address, config.port);
    sockets.tcp = take(inherited, endpoint);
    if (!sockets.tcp.open()) {
        sockets.tcp = listening(endpoint.data()->sa_family, endpoint.data(),
                                static_cast<socklen_t>(endpoint.size()));
    }
    if (!sockets.tcp.open() || ::listen(sockets.tcp.get(), listen_backlog) != 0) {
        return cannot_listen(config.host + ":" + std::to_string(config.port), std::strerror(errno));
    }
    return {};
}

std::uint16_t port_of(const Descriptor& socket) {
    tcp::endpoint bound;
    socklen_t size = static_cast<socklen_t>(bound.capacity());
    ::getsockname(socket.get(), bound.data(), &size);
    bound.resize(size);
    return bound.port();
}

// Whatever lies at the path, if it is a socket that nobody listens on, was left by one that died.
Result<void> clear_the_way(const std::string& path, const sockaddr_un& address) {
    struct stat facts {};
    if (::lstat(path.c_str(), &facts) != 0) {
        return {};
    }
    if (!S_ISSOCK(facts.st_mode)) {
        return Error{"there is a file in the way that is no socket", ""};
    }
    const Descriptor probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
        errno != ECONNREFUSED) {
        return Error{"another server listens there", ""};
    }
    ::unlink(path.c_str());
    return {};
}

// The name is PostgreSQL's, so that clients find it by directory and port.
Result<void> open_local(const router::Config::Listen& config, std::vector<Descriptor>& inherited,
                        ListenSockets& sockets) {
    if (config.unix_socket_directory.empty()) {
        return {};
    }
    const std::string path =
        config.unix_socket_directory / (".s.PGSQL." + std::to_string(port_of(sockets.tcp)));
    const auto failed = [&](const std::string& why) {
        return Error{"[listen] unix_socket_directory: cannot listen on " + path + ": " + why, ""};
    };
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
        return failed("the path is longer than the system allows (107 bytes)");
    }
    path.copy(address.sun_path, path.size());
    sockets.local = take(inherited, path);
    if (!sockets.local.open()) {
        if (auto cleared = clear_the_way(path, address); !cleared) {
            return failed(cleared.error().message);
        }
        sockets.local =
            listening(AF_UNIX, reinterpret_cast<const sockaddr*>(&address), sizeof address);
    }
    if (!sockets.local.open() || ::chmod(path.c_str(), config.unix_socket_permissions) != 0 ||
        ::listen(sockets.local.get(), listen_backlog) != 0) {
        return failed(std::strerror(errno));
    }
    sockets.local_file = path;
    return {};
}

}  // namespace

Result<ListenSockets> open_listen_sockets(const router::Config& config,
                                          std::vector<Descriptor> inherited) {
    ListenSockets sockets;
    BANYAN_TRY(open_tcp(config.listen, inherited, sockets));
    BANYAN_TRY(open_local(config.listen, inherited, sockets));
    boost::system::error_code named;
    const auto admin = boost::asio::ip::make_address(config.admin.host, named);
    sockets.admin = take(inherited, {admin, config.admin.port}, bool(named));
    return sockets;
}

std::vector<Descriptor> sockets_of_service_manager() {
    std::vector<Descriptor> sockets;
    const char* pid = std::getenv("LISTEN_PID");
    const char* count = std::getenv("LISTEN_FDS");
    if (pid != nullptr && count != nullptr && std::to_string(::getpid()) == pid) {
        const int most = std::clamp(std::atoi(count), 0, 16);
        for (int i = 0; i < most; ++i) {
            const int handle = first_of_service_manager + i;
            ::fcntl(handle, F_SETFD, FD_CLOEXEC);
            ::fcntl(handle, F_SETFL, ::fcntl(handle, F_GETFL) | O_NONBLOCK);
            sockets.emplace_back(handle);
        }
    }
    ::unsetenv("LISTEN_PID");
    ::unsetenv("LISTEN_FDS");
    return sockets;
}

}  // namespace banyan::proxy
