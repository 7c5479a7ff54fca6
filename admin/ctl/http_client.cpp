#include "admin/ctl/http_client.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <type_traits>

namespace banyan::ctl {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;
using boost::system::error_code;

constexpr std::uint64_t largest_answer_bytes = 256U << 20U;

}  // namespace

Result<Url> parse_url(const std::string& text) {
    const auto bad = [&](const std::string& why) {
        return Error{"the URL \"" + text + "\" " + why + "; write http://host:port", {}};
    };
    Url url;
    url.tls = text.starts_with("https://");
    if (!url.tls && !text.starts_with("http://")) {
        return bad("does not begin with http:// or https://");
    }
    url.authority = text.substr(url.tls ? 8 : 7);
    if (url.authority.ends_with("/")) {
        url.authority.pop_back();
    }
    if (url.authority.find_first_of("/?#@ ") != std::string::npos) {
        return bad("has more than a host and a port");
    }
    const auto bracket = url.authority.find(']');
    const auto colon = url.authority.find(':', bracket == std::string::npos ? 0 : bracket);
    url.host = url.authority.substr(0, colon);
    url.port = colon == std::string::npos ? "8432" : url.authority.substr(colon + 1);
    if (url.host.starts_with("[") && url.host.ends_with("]")) {
        url.host = url.host.substr(1, url.host.size() - 2);
    }
    if (url.host.empty() || url.port.empty() || url.port.size() > 5 ||
        url.port.find_first_not_of("0123456789") != std::string::npos) {
        return bad("has no host, or a port that is no number");
    }
    return url;
}

std::string percent_encode(std::string_view text) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    std::string out;
    for (const char c : text) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~';
        if (plain) {
            out.push_back(c);
        } else {
            const auto byte = static_cast<unsigned char>(c);
            out += {'%', digits[byte >> 4U], digits[byte & 15U]};
        }
    }
    return out;
}

class HttpClient::Impl {
   public:
    Impl(Url url, std::string token, std::chrono::milliseconds timeout, TlsFiles files)
        : url_(std::move(url)),
          token_(std::move(token)),
          timeout_(timeout),
          files_(std::move(files)) {}

    Result<Reply> send(const std::string& method, const std::string& target,
                       const std::optional<boost::json::value>& body) {
        http::request<http::string_body> request;
        request.method_string(method);
        request.target(target);
        request.set(http::field::host, url_.authority);
        request.set(http::field::user_agent, "banyanctl/" BANYAN_VERSION);
        if (!token_.empty()) {
            request.set(http::field::authorization, "Bearer " + token_);
        }
        if (body) {
            request.set(http::field::content_type, "application/json");
            request.body() = boost::json::serialize(*body);
        }
        request.keep_alive(false);
        request.prepare_payload();

        asio::io_context io;
        error_code outcome;
        tcp::resolver resolver(io);
        const auto found = resolver.resolve(url_.host, url_.port, outcome);
        if (outcome) {
            return failed(outcome);
        }
        if (!url_.tls) {
            beast::tcp_stream stream(io);
            return exchange(io, stream, found, request);
        }
        asio::ssl::context context(asio::ssl::context::tls_client);
        if (auto used = use_files(context); !used) {
            return used.error();
        }
        beast::ssl_stream<beast::tcp_stream> stream(io, context);
        stream.set_verify_mode(asio::ssl::verify_peer);
        stream.set_verify_callback(asio::ssl::host_name_verification(url_.host));
        std::string name = url_.host;
        SSL_ctrl(stream.native_handle(), SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                 name.data());
        return exchange(io, stream, found, request);
    }

   private:
    using Request = http::request<http::string_body>;

    Result<void> use_files(asio::ssl::context& context) const {
        error_code error;
        const auto cannot = [&](const std::string& file) {
            return Error{"cannot use " + file + ": " + error.message(), {}};
        };
        if (files_.authorities.empty()) {
            context.set_default_verify_paths(error);
        } else if (context.load_verify_file(files_.authorities, error); error) {
            return cannot(files_.authorities);
        }
        if (!files_.certificate.empty()) {
            if (context.use_certificate_chain_file(files_.certificate, error); error) {
                return cannot(files_.certificate);
            }
            if (context.use_private_key_file(files_.key, asio::ssl::context::pem, error); error) {
                return cannot(files_.key);
            }
        }
        return {};
    }

    template <class Stream>
    Result<Reply> exchange(asio::io_context& io, Stream& stream,
                           const tcp::resolver::results_type& where, const Request& request) {
        beast::flat_buffer buffer;
        http::response_parser<http::string_body> parser;
        parser.body_limit(largest_answer_bytes);
        error_code outcome = asio::error::would_block;
        const auto ask = [&] {
            http::async_write(stream, request, [&](error_code write_error, std::size_t) {
                // A server that refuses early answers before it has read all: read it anyway.
                outcome = write_error;
                http::async_read(stream, buffer, parser,
                                 [&](error_code read_error, std::size_t) { outcome = read_error; });
            });
        };
        auto& lowest = beast::get_lowest_layer(stream);
        lowest.expires_after(timeout_);
        lowest.async_connect(where, [&](error_code error, const tcp::endpoint&) {
            if ((outcome = error)) {
                return;
            }
            if constexpr (std::is_same_v<Stream, beast::tcp_stream>) {
                ask();
            } else {
                stream.async_handshake(asio::ssl::stream_base::client, [&](error_code refused) {
                    if (!(outcome = refused)) {
                        ask();
                    }
                });
            }
        });
        io.run();
        if (outcome) {
            return failed(outcome);
        }
        Reply reply;
        const auto& message = parser.get();
        reply.status = static_cast<int>(message.result_int());
        reply.location = std::string(message[http::field::location]);
        error_code no_json;
        reply.body = boost::json::parse(message.body(), no_json);
        return reply;
    }

    Error failed(const error_code& error) const {
        return {std::string("no answer from ") + (url_.tls ? "https://" : "http://") + url_.authority + ": " + error.message(), {}};
    }

    Url url_;
    std::string token_;
    std::chrono::milliseconds timeout_;
    TlsFiles files_;
};

HttpClient::HttpClient(Url url, std::string token, std::chrono::milliseconds timeout, TlsFiles files)
    : impl_(std::make_unique<Impl>(std::move(url), std::move(token), timeout, std::move(files))) {}

HttpClient::~HttpClient() = default;

Result<Reply> HttpClient::send(const std::string& method, const std::string& target,
                               const std::optional<boost::json::value>& body) {
    return impl_->send(method, target, body);
}

}  // namespace banyan::ctl
