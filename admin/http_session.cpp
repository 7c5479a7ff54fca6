#include "admin/http_session.hpp"

#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <type_traits>
#include <utility>

namespace banyan::admin {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;
using boost::system::error_code;
using BeastResponse = http::response<http::string_body>;

/// After an error response: how long and how much of the unread request is swallowed, so that the
/// client gets to read the response instead of a reset.
constexpr std::chrono::milliseconds linger{1000};
constexpr std::size_t linger_bytes = 4U << 20U;
/// Streams of events; fewer than there may be connections, so that requests find one.
constexpr std::size_t most_subscribers = 32;

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

/// All members run on the io thread. `Stream`: a tcp_stream, or TLS over one.
template <class Stream>
class Session : public std::enable_shared_from_this<Session<Stream>>,
                public HttpConnection,
                public Subscriber {
   public:
    template <class... Arguments>
    Session(Shared& shared, Arguments&&... arguments)
        : shared_(shared), stream_(std::forward<Arguments>(arguments)...) {
        shared_.connections.insert(this);
    }
    ~Session() override {
        shared_.hub.remove(*this);
        shared_.connections.erase(this);
    }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    void run() {
        error_code error;
        const auto peer = tcp_stream().socket().remote_endpoint(error);
        const auto local = error ? tcp::endpoint() : tcp_stream().socket().local_endpoint(error);
        if (error) {
            return;
        }
        peer_ = plain_address(peer.address());
        local_ = plain_address(local.address()).to_string();
        tcp_stream().socket().set_option(tcp::no_delay(true), error);
        begin();
    }
    void close() override {
        closed_ = true;
        tcp_stream().close();
    }

    void push(EventText text) override {
        next_event_ = std::move(text);
        if (!writing_event_) {
            write_event();
        }
    }
    void keep_alive() override {
        if (!shared_.api.handle(*events_request_).events) {
            return close();
        }
        if (!writing_event_ && !next_event_) {
            static const auto comment = std::make_shared<const std::string>(": keep-alive\n\n");
            push(comment);
        }
    }

   private:
    beast::tcp_stream& tcp_stream() { return beast::get_lowest_layer(stream_); }

    void begin() {
        if constexpr (std::is_same_v<Stream, beast::tcp_stream>) {
            read();
        } else {
            tcp_stream().expires_after(shared_.limits.timeout);
            stream_.async_handshake(asio::ssl::stream_base::server,
                                    [self = this->shared_from_this()](error_code error) {
                                        if (!error && !self->closed_) {
                                            self->read();
                                        }
                                    });
        }
    }

    void read() {
        parser_.emplace();
        parser_->header_limit(shared_.limits.header_bytes);
        parser_->body_limit(shared_.limits.body_bytes);
        tcp_stream().expires_after(shared_.limits.timeout);
        http::async_read(
            stream_, buffer_, *parser_,
            [self = this->shared_from_this()](error_code error, std::size_t) { self->on_read(error); });
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
        request->accept_encoding = field(http::field::accept_encoding);
        request->if_none_match = field(http::field::if_none_match);
        request->idempotency_key = std::string(message["Idempotency-Key"]);
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
        tcp_stream().expires_never();
        asio::post(shared_.pool, [self = this->shared_from_this(), request, head,
                                  keep_alive]() mutable {
            Shared& shared = self->shared_;
            auto response = std::make_shared<Response>(shared.api.handle(*request));
            // Moved, so that the last owner of the session is always on the io thread.
            asio::post(shared.io, [self = std::move(self), request, response, head,
                                    keep_alive] {
                if (response->events && !head) {
                    self->stream_events(*request);
                } else {
                    self->write(*response, head, keep_alive);
                }
            });
        });
    }

    void stream_events(Request request) {
        if (closed_) {
            return;
        }
        if (shared_.hub.size() >= most_subscribers) {
            return write(problem(503, "too-many-connections", "Too many listen already.",
                                 {{"limit", most_subscribers}}),
                         false, true);
        }
        events_request_ = std::move(request);
        push(std::make_shared<const std::string>(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
            "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\nretry: 2000\n\n"));
        watch_for_the_end();
        shared_.hub.add(*this);  // the header is being written: a state comes behind it
    }

    /// Who listens says nothing more; anything, or the end, ends it.
    void watch_for_the_end() {
        buffer_.clear();
        stream_.async_read_some(buffer_.prepare(512),
                                [self = this->shared_from_this()](error_code, std::size_t) {
                                    self->shared_.hub.remove(*self);
                                    self->close();
                                });
    }

    void write_event() {
        if (closed_ || !next_event_) {
            return;
        }
        writing_event_ = std::exchange(next_event_, nullptr);
        tcp_stream().expires_after(shared_.limits.timeout);
        asio::async_write(stream_, asio::buffer(*writing_event_),
                          [self = this->shared_from_this()](error_code error, std::size_t) {
                              self->writing_event_ = nullptr;
                              if (error) {
                                  self->shared_.hub.remove(*self);
                                  return self->close();
                              }
                              self->write_event();
                          });
    }

    void write(const Response& response, bool head, bool keep_alive) {
        if (closed_) {
            return;
        }
        response_ = to_beast(response, head, keep_alive);
        serializer_.emplace(*response_);
        serializer_->split(head);
        tcp_stream().expires_after(shared_.limits.timeout);
        const auto done = [self = this->shared_from_this(), keep_alive](error_code error, std::size_t) {
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
        if constexpr (!std::is_same_v<Stream, beast::tcp_stream>) {
            tcp_stream().expires_after(linger);
            stream_.async_shutdown([self = this->shared_from_this()](error_code) {});
            return;
        }
        error_code ignored;
        tcp_stream().socket().shutdown(tcp::socket::shutdown_send, ignored);
        tcp_stream().expires_after(linger);
        drain(0);
    }

    void drain(std::size_t swallowed) {
        if (closed_ || swallowed > linger_bytes) {
            return;
        }
        buffer_.clear();
        stream_.async_read_some(buffer_.prepare(8192), [self = this->shared_from_this(), swallowed](
                                                           error_code error, std::size_t n) {
            if (!error && n != 0) {
                self->drain(swallowed + n);
            }
        });
    }

    Shared& shared_;
    Stream stream_;
    beast::flat_buffer buffer_;
    std::optional<http::request_parser<http::string_body>> parser_;
    std::optional<BeastResponse> response_;
    std::optional<http::response_serializer<http::string_body>> serializer_;
    asio::ip::address peer_;
    std::string local_;
    bool closed_ = false;
    std::optional<Request> events_request_;  ///< set: streaming
    EventText writing_event_;
    EventText next_event_;
};


}  // namespace

Result<std::shared_ptr<asio::ssl::context>> tls_context(const router::Config::Admin& config) {
    if (!config.tls()) {
        return std::shared_ptr<asio::ssl::context>();
    }
    auto context = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_server);
    context->set_options(asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1 |
                         asio::ssl::context::default_workarounds);
    error_code error;
    const auto cannot = [&](const char* key, const std::filesystem::path& file) {
        return Error{std::string("[admin] ") + key + ": cannot use \"" + file.string() +
                         "\": " + error.message(),
                     {}};
    };
    context->use_certificate_chain_file(config.ssl_cert_file.string(), error);
    if (error) {
        return cannot("ssl_cert_file", config.ssl_cert_file);
    }
    context->use_private_key_file(config.ssl_key_file.string(), asio::ssl::context::pem, error);
    if (error) {
        return cannot("ssl_key_file", config.ssl_key_file);
    }
    if (config.sslmode == "verify-ca") {
        context->load_verify_file(config.ssl_ca_file.string(), error);
        if (error) {
            return cannot("ssl_ca_file", config.ssl_ca_file);
        }
        context->set_verify_mode(asio::ssl::verify_peer | asio::ssl::verify_fail_if_no_peer_cert);
    }
    return context;
}

void serve(tcp::socket socket, Shared& shared) {
    if (shared.tls) {
        std::make_shared<Session<beast::ssl_stream<beast::tcp_stream>>>(shared, std::move(socket),
                                                                        *shared.tls)
            ->run();
    } else {
        std::make_shared<Session<beast::tcp_stream>>(shared, std::move(socket))->run();
    }
}

}  // namespace banyan::admin
