#include "proxy/connector.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "protocol/messages.hpp"
#include "proxy/descriptors.hpp"

namespace banyan::proxy {

Connector::Connector(Context& context, EventLoop& loop, router::Side side)
    : context_(context),
      loop_(loop),
      side_(side),
      endpoint_(side == router::Side::source ? context.config.source : context.config.target),
      channel_(loop.reactor()) {}

Reactor::Then Connector::guarded(void (Connector::*then)()) {
    return [self = shared_from_this(), then] {
        if (self->done_) {
            ((*self).*then)();
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
    const auto& address = addresses_[next_++];
    Descriptor socket(::socket(address.protocol().family(),
                               SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                               address.protocol().protocol()));
    int error = socket.open() ? 0 : errno;
    const bool starved =
        error == EMFILE || error == ENFILE || (error == 0 && is_reserved_descriptor(socket.get()));
    if (error == 0 && !starved &&
        ::connect(socket.get(), address.data(), static_cast<socklen_t>(address.size())) != 0 &&
        errno != EINPROGRESS && errno != EINTR) {
        error = errno;
    }
    if (starved || error != 0) {
        loop_.post([self = shared_from_this(), starved, error] {
            if (self->done_) {
                self->failed(starved ? "no file descriptor is left for it" : std::strerror(error),
                             starved ? "53300" : "08001");
            }
        });
        return;
    }
    channel_.open(std::move(socket));
    channel_.when_writable(guarded(&Connector::on_connected));
}

void Connector::on_connected() {
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(channel_.handle(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) {
        failed(std::strerror(error));
        return;
    }
    channel_.tune(context_.config.tcp);
    if (endpoint_.encrypted()) {
        ask_for_tls();
    } else {
        succeed();
    }
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
    const auto got = ::recv(channel_.handle(), &answer, 1, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        channel_.when_readable(guarded(&Connector::on_tls_answer));
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
            channel_.when_readable(guarded(&Connector::shake_hands));
            break;
        default:
            failed("TLS: " + channel_.error());
    }
}

void Connector::succeed() {
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
