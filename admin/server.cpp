#include "admin/server.hpp"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <fstream>
#include <optional>
#include <set>
#include <thread>

#include "admin/routes.hpp"

namespace banyan::admin {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;
using boost::system::error_code;
using BeastResponse = http::response<http::string_body>;

constexpr std::size_t handler_threads = 4;
/// After an error response: how long and how much of the unread request is swallowed, so that the
/// client gets to read the response instead of a reset.
constexpr std::chrono::milliseconds linger{1000};
constexpr std::size_t linger_bytes = 4U << 20U;
constexpr std::chrono::milliseconds accept_pause{100};

asio::ip::address plain_address(asio::ip::address address) {
    if (address.is_v6() && address.to_v6().is_v4_mapped()) {
        return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
    }
    return address;
}

BeastResponse to_beast(const Response& response, bool head, bool keep_alive) {
    BeastResponse out;
    out.version(11);
    out.result(static_cast<unsigned>(response.status));
    out.reason(std::string(reason_phrase(response.status)));
    out.set(http::field::content_type, response.content_type);
    for (const auto& [name, value] : response.headers) {
        out.set(name, value);
    }
    out.keep_alive(keep_alive);
    out.content_length(response.body.size());
    if (!head) {
        out.body() = response.body;
    }
    return out;
}

Response read_problem(const error_code& error, const ServerLimits& limits) {
    if (error == http::error::body_limit) {
        return problem(413, "body-too-large", "The body is too large.",
                       {{"limit_bytes", limits.body_bytes}});
    }
    if (error == http::error::header_limit || error == http::error::buffer_overflow) {
        return problem(431, "header-too-large", "The request's header is too large.",
                       {{"limit_bytes", limits.header_bytes}});
    }
    return problem(400, "bad-request", "This is not a well-formed HTTP request.",
                   {{"detail", error.message()}});
}

/// What sessions share. Outlives them all.
struct Shared {
    Shared(router::Config::Admin config, ControlApi& control, router::CounterSource& counters,
           ServerLimits server_limits)
        : api(std::move(config), control, counters), limits(server_limits) {}

    Api api;
    ServerLimits limits;
    asio::io_context io{1};
    asio::thread_pool pool{handler_threads};
};

/// One connection: read a request, answer it, again. All members run on the io thread.
class Session : public std::enable_shared_from_this<Session> {
   public:
    Session(tcp::socket socket, Shared& shared, std::set<Session*>& sessions)
        : stream_(std::move(socket)), shared_(shared), sessions_(sessions) {
        sessions_.insert(this);
    }
    ~Session() { sessions_.erase(this); }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    void run() {
        error_code error;
        const auto peer = stream_.socket().remote_endpoint(error);
        const auto local = error ? tcp::endpoint() : stream_.socket().local_endpoint(error);
        if (error) {
            return;
        }
        peer_ = plain_address(peer.address());
        local_ = plain_address(local.address()).to_string();
        stream_.socket().set_option(tcp::no_delay(true), error);
        read();
    }
    void close() {
        closed_ = true;
        stream_.close();
    }

   private:
    void read() {
        parser_.emplace();
        parser_->header_limit(shared_.limits.header_bytes);
        parser_->body_limit(shared_.limits.body_bytes);
        stream_.expires_after(shared_.limits.timeout);
        http::async_read(
            stream_, buffer_, *parser_,
            [self = shared_from_this()](error_code error, std::size_t) { self->on_read(error); });
    }

    void on_read(const error_code& error) {
        if (closed_ || error == http::error::end_of_stream ||
            error == asio::error::operation_aborted) {
            return finish();
        }
        if (error == beast::error::timeout) {
            // tcp_stream has closed the socket already: an idle or a stuck client, told nothing
            // more.
            return;
        }
        if (error) {
            if (error.category() != http::make_error_code(http::error::end_of_stream).category()) {
                return;  // the connection broke
            }
            return write(read_problem(error, shared_.limits), false, false);
        }
        const auto& message = parser_->get();
        const auto field = [&](http::field name) { return std::string(message[name]); };
        auto request = std::make_shared<Request>();
        request->method = std::string(message.method_string());
        request->target = std::string(message.target());
        request->host = field(http::field::host);
        request->authorization = field(http::field::authorization);
        request->content_type = field(http::field::content_type);
        request->origin = field(http::field::origin);
        request->sec_fetch_site = std::string(message["Sec-Fetch-Site"]);
        request->peer_address = peer_.to_string();
        request->peer_is_loopback = peer_.is_loopback();
        request->local_address = local_;
        const bool keep_alive = message.keep_alive();
        request->body = std::move(parser_->get().body());
        dispatch(request, keep_alive);
    }

    void dispatch(const std::shared_ptr<Request>& request, bool keep_alive) {
        const bool head = request->method == "HEAD";
        if (Api::quick(*request)) {
            return write(shared_.api.handle(*request), head, keep_alive);
        }
        stream_.expires_never();
        asio::post(shared_.pool, [self = shared_from_this(), request, head, keep_alive]() mutable {
            Shared& shared = self->shared_;
            auto response = std::make_shared<Response>(shared.api.handle(*request));
            // Moved, so that the last owner of the session is always on the io thread.
            asio::post(shared.io, [self = std::move(self), response, head, keep_alive] {
                self->write(*response, head, keep_alive);
            });
        });
    }

    void write(const Response& response, bool head, bool keep_alive) {
        if (closed_) {
            return;
        }
        response_ = to_beast(response, head, keep_alive);
        serializer_.emplace(*response_);
        serializer_->split(head);
        stream_.expires_after(shared_.limits.timeout);
        const auto done = [self = shared_from_this(), keep_alive](error_code error, std::size_t) {
            if (error || self->closed_) {
                return;
            }
            keep_alive ? self->read() : self->finish();
        };
        if (head) {
            http::async_write_header(stream_, *serializer_, done);
        } else {
            http::async_write(stream_, *serializer_, done);
        }
    }

    /// Says goodbye, then swallows what the client still sends for a moment.
    void finish() {
        error_code ignored;
        stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
        stream_.expires_after(linger);
        drain(0);
    }

    void drain(std::size_t swallowed) {
        if (closed_ || swallowed > linger_bytes) {
            return;
        }
        buffer_.clear();
        stream_.async_read_some(buffer_.prepare(8192), [self = shared_from_this(), swallowed](
                                                           error_code error, std::size_t n) {
            if (!error && n != 0) {
                self->drain(swallowed + n);
            }
        });
    }

    beast::tcp_stream stream_;
    Shared& shared_;
    std::set<Session*>& sessions_;
    beast::flat_buffer buffer_;
    std::optional<http::request_parser<http::string_body>> parser_;
    std::optional<BeastResponse> response_;
    std::optional<http::response_serializer<http::string_body>> serializer_;
    asio::ip::address peer_;
    std::string local_;
    bool closed_ = false;
};

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
    void set_config(router::Config::Admin config) { shared_.api.set_config(std::move(config)); }

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
            const std::set<Session*> open = sessions_;
            for (auto* session : open) {
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
            if (sessions_.size() >= shared_.limits.connections) {
                refuse(std::move(socket));
            } else {
                std::make_shared<Session>(std::move(socket), shared_, sessions_)->run();
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
        socket.non_blocking(true, ignored);
        socket.write_some(asio::buffer(text), ignored);
        socket.shutdown(tcp::socket::shutdown_send, ignored);
    }

    std::set<Session*>
        sessions_;  // io thread only; outlives shared_.io, whose handlers own sessions
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
