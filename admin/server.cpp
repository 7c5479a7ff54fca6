#include "admin/server.hpp"

#include <spdlog/spdlog.h>

#include <boost/asio/executor_work_guard.hpp>
#include <fstream>
#include <thread>

#include "admin/http_session.hpp"

namespace banyan::admin {
namespace {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;
using boost::system::error_code;

constexpr std::chrono::milliseconds accept_pause{100};

/// A reader never sees half a number, nor a port of an earlier run.
Result<void> write_port_file(const std::filesystem::path& file, std::uint16_t port) {
    std::filesystem::path temporary = file;
    temporary += ".new";
    std::ofstream out(temporary, std::ios::trunc);
    out << port << "\n";
    out.close();
    std::error_code error;
    if (out) {
        std::filesystem::rename(temporary, file, error);
    }
    if (!out || error) {
        return Error{"admin.port_file: cannot write " + file.string(), {}};
    }
    return {};
}

}  // namespace

class Server::Impl {
   public:
    Impl(const router::Config::Admin& config, ControlApi& control, router::CounterSource& counters,
         ServerLimits limits)
        : shared_(config, control, counters, limits),
          acceptor_(shared_.io),
          pause_(shared_.io),
          work_(shared_.io.get_executor()) {}

    Result<void> listen(const router::Config::Admin& config, int listening) {
        error_code error;
        if (listening >= 0) {
            return take(config, listening);
        }
        const auto fail = [&](const char* what) {
            return Error{"admin: cannot " + std::string(what) + " " + config.host + " port " +
                             std::to_string(config.port) + ": " + error.message(),
                         {}};
        };
        tcp::resolver resolver(shared_.io);
        const auto found = resolver.resolve(config.host, std::to_string(config.port),
                                            tcp::resolver::passive, error);
        if (error || found.empty()) {
            return fail("resolve");
        }
        const tcp::endpoint endpoint = found.begin()->endpoint();
        if (auto tls = tls_context(config); tls) {
            shared_.tls = std::move(*tls);
        } else {
            return tls.error();
        }
        if (config.tokens.empty() && !endpoint.address().is_loopback()) {
            return Error{"admin: " + config.host +
                             " can be reached by others and there are no tokens; add an "
                             "[[admin.tokens]], or listen on 127.0.0.1",
                         {}};
        }
        acceptor_.open(endpoint.protocol(), error);
        if (!error) {
            acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
        }
        if (!error) {
            acceptor_.bind(endpoint, error);
        }
        if (!error) {
            acceptor_.listen(tcp::acceptor::max_listen_connections, error);
        }
        if (error) {
            return fail("listen on");
        }
        port_ = acceptor_.local_endpoint(error).port();
        if (error) {
            return fail("listen on");
        }
        return config.port_file.empty() ? Result<void>() : write_port_file(config.port_file, port_);
    }

    Result<void> take(const router::Config::Admin& config, int listening) {
        if (auto tls = tls_context(config); tls) {
            shared_.tls = std::move(*tls);
        } else {
            return tls.error();
        }
        sockaddr_storage bound{};
        socklen_t size = sizeof bound;
        ::getsockname(listening, reinterpret_cast<sockaddr*>(&bound), &size);
        error_code error;
        acceptor_.assign(bound.ss_family == AF_INET6 ? tcp::v6() : tcp::v4(), listening, error);
        if (!error) {
            acceptor_.listen(tcp::acceptor::max_listen_connections, error);
        }
        if (error) {
            return Error{"admin: cannot use the inherited socket: " + error.message(), {}};
        }
        port_ = acceptor_.local_endpoint(error).port();
        return config.port_file.empty() ? Result<void>() : write_port_file(config.port_file, port_);
    }

    int listening_socket() { return acceptor_.native_handle(); }
    void set_config(router::Config::Admin config) {
        if (auto tls = tls_context(config)) {
            asio::post(shared_.io, [this, fresh = std::move(*tls)] { shared_.tls = fresh; });
        } else {
            spdlog::error("{}; the certificate that was in use stays", tls.error().message);
        }
        shared_.api.set_config(std::move(config));
    }

    void run() {
        accept();
        thread_ = std::thread([this] { shared_.io.run(); });
    }

    void stop() {
        if (!thread_.joinable()) {
            return;
        }
        asio::post(shared_.io, [this] {
            stopping_ = true;
            error_code ignored;
            acceptor_.close(ignored);
            pause_.cancel();
            shared_.hub.stop();
            for (auto* session : std::set<HttpConnection*>(shared_.connections)) {
                session->close();
            }
        });
        shared_.pool.join();
        work_.reset();
        thread_.join();
    }

    std::uint16_t port() const { return port_; }

   private:
    void accept() {
        acceptor_.async_accept([this](error_code error, tcp::socket socket) {
            if (stopping_) {
                return;
            }
            if (error) {  // as when no file descriptor is left: a moment later there may be one
                pause_.expires_after(accept_pause);
                pause_.async_wait([this](error_code) {
                    if (!stopping_) {
                        accept();
                    }
                });
                return;
            }
            if (shared_.connections.size() >= shared_.limits.connections) {
                refuse(std::move(socket));
            } else {
                serve(std::move(socket), shared_);
            }
            accept();
        });
    }

    /// One attempt to say why, without waiting.
    void refuse(tcp::socket socket) {
        const Response full = problem(503, "too-many-connections", "Too many connections.",
                                      {{"limit", shared_.limits.connections}});
        const std::string text =
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: " + full.content_type +
            "\r\nConnection: close\r\nContent-Length: " + std::to_string(full.body.size()) +
            "\r\n\r\n" + full.body;
        error_code ignored;
        if (shared_.tls) {
            return;
        }
        socket.non_blocking(true, ignored);
        socket.write_some(asio::buffer(text), ignored);
        socket.shutdown(tcp::socket::shutdown_send, ignored);
    }

    Shared shared_;
    tcp::acceptor acceptor_;
    asio::steady_timer pause_;
    asio::executor_work_guard<asio::io_context::executor_type> work_;
    std::uint16_t port_ = 0;
    bool stopping_ = false;  // io thread only
    std::thread thread_;
};

Server::Server(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Server::~Server() {
    stop();
}

Result<std::unique_ptr<Server>> Server::start(const router::Config& config, ControlApi& control,
                                              router::CounterSource& counters,
                                              ServerLimits limits, int listening) {
    auto impl = std::make_shared<Impl>(config.admin, control, counters, limits);
    if (auto opened = impl->listen(config.admin, listening); !opened) {
        return std::move(opened).error();
    }
    impl->run();
    return std::unique_ptr<Server>(new Server(std::move(impl)));
}

std::uint16_t Server::port() const {
    return impl_->port();
}

int Server::listening_socket() {
    return impl_->listening_socket();
}

void Server::set_config(const router::Config::Admin& config) {
    impl_->set_config(config);
}

void Server::stop() {
    impl_->stop();
}

}  // namespace banyan::admin
