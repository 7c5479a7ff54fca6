#include "proxy/connector.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "protocol/messages.hpp"
#include "proxy/descriptors.hpp"
#include "proxy/resolve.hpp"

namespace banyan::proxy {

Connector::Connector(Context& context, EventLoop& loop, router::Side side)
    : context_(context),
      loop_(loop),
      side_(side),
      endpoint_(side == router::Side::source ? context.config.source : context.config.target),
      channel_(loop.io()) {}

// Keeps the connector alive; does nothing once it was cancelled.
template <class F>
auto Connector::guarded(F function) {
    return [self = shared_from_this(),
            function = std::move(function)](const boost::system::error_code& error) {
        if (self->done_) {
            function(error);
        }
    };
}

void Connector::start(Done done) {
    done_ = std::move(done);
    addresses_ = context_.resolver->addresses(endpoint_.host, endpoint_.port);
    if (addresses_.empty()) {
        loop_.post([self = shared_from_this()] {
            if (self->done_) {
                self->failed("cannot resolve " + self->endpoint_.host);
            }
        });
        return;
    }
    try_next();
}

void Connector::cancel() {
    done_ = nullptr;
    channel_.close();
}

void Connector::try_next() {
    boost::system::error_code error;
    channel_.socket().open(addresses_[next_].protocol(), error);
    if (error || is_reserved_descriptor(channel_.socket().native_handle())) {
        ++next_;
        loop_.post([self = shared_from_this(), error] {
            if (self->done_) {
                const bool starved = !error || error == boost::asio::error::no_descriptors;
                self->failed(starved ? "no file descriptor is left for it" : error.message(),
                             starved ? "53300" : "08001");
            }
        });
        return;
    }
    channel_.socket().async_connect(addresses_[next_++],
                                    guarded([this](const boost::system::error_code& failure) {
                                        if (failure) {
                                            failed(failure.message());
                                            return;
                                        }
                                        channel_.tune(context_.config.tcp);
                                        if (endpoint_.encrypted()) {
                                            ask_for_tls();
                                        } else {
                                            succeed();
                                        }
                                    }));
}

void Connector::ask_for_tls() {
    std::string request;
    protocol::encode_ssl_request(request);
    std::size_t sent = 0;
    // Eight bytes into the empty buffer of a new connection: all of them or none.
    if (channel_.write(request.data(), request.size(), sent) != Channel::Outcome::done) {
        failed(channel_.error());
        return;
    }
    on_tls_answer();
}

// Exactly one byte is read outside of TLS: what follows it is not trusted to be the server's
// (CVE-2021-23222).
void Connector::on_tls_answer() {
    char answer = 0;
    const auto got = ::recv(channel_.socket().native_handle(), &answer, 1, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        channel_.socket().async_wait(Socket::wait_read,
                                     guarded([this](const auto&) { on_tls_answer(); }));
    } else if (got < 0) {
        failed(std::strerror(errno));
    } else if (got == 0) {
        failed("the server closed the connection when asked for TLS");
    } else if (answer == 'S') {
        channel_.start_tls(context_.tls.connect(side_));
        shake_hands();
    } else if (answer == 'N') {
        failed("the server does not support TLS, but sslmode is " + endpoint_.sslmode);
    } else {
        failed("the server answered a request for TLS with something else");
    }
}

void Connector::shake_hands() {
    switch (channel_.handshake()) {
        case Channel::Outcome::done:
            succeed();
            break;
        case Channel::Outcome::wait:
            channel_.socket().async_wait(channel_.reading_waits_for(),
                                         guarded([this](const auto&) { shake_hands(); }));
            break;
        default:
            failed("TLS: " + channel_.error());
    }
}

void Connector::succeed() {
    channel_.forget_waits();
    const auto done = std::move(done_);
    done_ = nullptr;
    done(std::move(channel_));
}

void Connector::failed(const std::string& why, const std::string& sqlstate) {
    channel_.close();
    if (next_ < addresses_.size()) {
        try_next();
        return;
    }
    context_.resolver->doubt();
    const auto done = std::move(done_);
    done_ = nullptr;
    done(Error{why, sqlstate});
}

}  // namespace banyan::proxy
