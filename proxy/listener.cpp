#include "proxy/listener.hpp"

#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <thread>

namespace banyan::proxy {
namespace {

using boost::asio::ip::tcp;
using Local = boost::asio::local::stream_protocol;

constexpr int backlog = 4096;

std::string peer_name(const tcp::endpoint& peer) {
    return peer.address().to_string() + ":" + std::to_string(peer.port());
}
std::string peer_name(const Local::endpoint&) {
    return "[local]";
}

}  // namespace

Listener::Listener(boost::asio::io_context& io, const router::Config::Listen& config,
                   OnClient on_client)
    : io_(io), config_(config), on_client_(std::move(on_client)), tcp_(io), local_(io) {}

Listener::~Listener() {
    if (!local_path_.empty()) {
        ::unlink(local_path_.c_str());
    }
}

Result<void> Listener::open() {
    if (auto opened = open_tcp(); !opened) {
        return opened;
    }
    if (auto opened = open_local(); !opened) {
        return opened;
    }
    if (!config_.port_file.empty()) {
        std::ofstream(config_.port_file) << port_ << '\n';
    }
    return {};
}

Result<void> Listener::open_tcp() {
    boost::system::error_code error;
    const auto address = boost::asio::ip::make_address(config_.host, error);
    if (error) {
        return Error{"[listen] host: \"" + config_.host + "\" is not an IP address", ""};
    }
    const tcp::endpoint endpoint(address, config_.port);
    tcp_.open(endpoint.protocol(), error);
    if (!error) {
        tcp_.set_option(tcp::acceptor::reuse_address(true), error);
        tcp_.bind(endpoint, error);
    }
    if (!error) {
        tcp_.listen(backlog, error);
    }
    if (error) {
        return Error{"cannot listen on " + config_.host + ":" + std::to_string(config_.port) +
                         ": " + error.message(),
                     ""};
    }
    port_ = tcp_.local_endpoint().port();
    return {};
}

// The name is PostgreSQL's, so that clients find it by directory and port.
Result<void> Listener::open_local() {
    if (config_.unix_socket_directory.empty()) {
        return {};
    }
    const std::string path = config_.unix_socket_directory / (".s.PGSQL." + std::to_string(port_));
    const auto failed = [&](const std::string& why) {
        return Error{"[listen] unix_socket_directory: cannot listen on " + path + ": " + why, ""};
    };
    if (path.size() >= sizeof(sockaddr_un::sun_path)) {
        return failed("the path is longer than the system allows (107 bytes)");
    }
    const Local::endpoint endpoint(path);
    boost::system::error_code error;
    struct stat facts {};
    if (::lstat(path.c_str(), &facts) == 0) {
        if (!S_ISSOCK(facts.st_mode)) {
            return failed("there is a file in the way that is no socket");
        }
        Local::socket probe(io_);
        probe.connect(endpoint, error);
        if (error != boost::asio::error::connection_refused) {
            return failed("another server listens there");
        }
        ::unlink(path.c_str());  // left behind by one that died
    }
    local_.open(Local(), error);
    if (!error) {
        local_.bind(endpoint, error);
    }
    if (error) {
        return failed(error.message());
    }
    local_path_ = path;
    if (::chmod(path.c_str(), config_.unix_socket_permissions) != 0) {
        return failed(std::strerror(errno));
    }
    local_.listen(backlog, error);
    if (error) {
        return failed(error.message());
    }
    return {};
}

template <class Acceptor>
void Listener::accept_on(Acceptor& acceptor) {
    using Client = typename Acceptor::protocol_type::socket;
    acceptor.async_accept([this, &acceptor](const boost::system::error_code& error, Client client) {
        if (error == boost::asio::error::operation_aborted) {
            return;
        }
        if (error) {
            // Out of file descriptors, most likely: the listener stays, the log says why.
            spdlog::error("cannot accept a client: {}", error.message());
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        } else {
            boost::system::error_code gone;
            const auto peer = client.remote_endpoint(gone);
            if (!gone) {
                Accepted accepted;
                accepted.protocol = peer.protocol();
                accepted.peer = peer_name(peer);
                accepted.local = std::is_same_v<Acceptor, Local::acceptor>;
                accepted.handle = client.release(gone);
                on_client_(std::move(accepted));
            }
        }
        accept_on(acceptor);
    });
}

void Listener::accept() {
    accept_on(tcp_);
    if (local_.is_open()) {
        accept_on(local_);
    }
}

void Listener::close() {
    boost::system::error_code ignored;
    tcp_.close(ignored);
    local_.close(ignored);
    if (!local_path_.empty()) {
        ::unlink(local_path_.c_str());
        local_path_.clear();
    }
}

}  // namespace banyan::proxy
