#include "proxy/channel.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

namespace banyan::proxy {
namespace {

constexpr std::size_t tls_record_size = 16384;

// recv() and send() without the C library's cancellation points: two atomic operations each, a
// tenth of what the relay spends outside of the kernel, for something that nobody uses here.
ssize_t receive(int handle, char* into, std::size_t room) {
    return ::syscall(SYS_recvfrom, handle, into, room, 0, nullptr, nullptr);
}
ssize_t send(int handle, const char* from, std::size_t size) {
    return ::syscall(SYS_sendto, handle, from, size, MSG_NOSIGNAL, nullptr, 0);
}

int as_int(std::size_t size) {
    return static_cast<int>(std::min<std::size_t>(size, std::numeric_limits<int>::max()));
}

}  // namespace

void Channel::tune(const router::Config::Tcp& settings) {
    const auto set = [this](int level, int name, std::uint32_t value) {
        ::setsockopt(socket_.handle(), level, name, &value, sizeof value);
    };
    set(IPPROTO_TCP, TCP_NODELAY, 1);
    set(SOL_SOCKET, SO_KEEPALIVE, 1);
    for (const auto& [name, value] : {std::pair(TCP_KEEPIDLE, settings.keepalives_idle_s),
                                      {TCP_KEEPINTVL, settings.keepalives_interval_s},
                                      {TCP_KEEPCNT, settings.keepalives_count},
                                      {TCP_USER_TIMEOUT, settings.user_timeout_ms}}) {
        if (value != 0) {
            set(IPPROTO_TCP, name, value);
        }
    }
}

void Channel::start_tls(SslPtr ssl) {
    ssl_ = std::move(ssl);
    SSL_set_fd(ssl_.get(), socket_.handle());
}

Channel::Outcome Channel::failed(std::string why) {
    error_ = std::move(why);
    return Outcome::failed;
}

Channel::Outcome Channel::outcome_of(int result, Readiness& waits_for, Readiness usual) {
    const int system_error = errno;
    waits_for = usual;
    switch (SSL_get_error(ssl_.get(), result)) {
        case SSL_ERROR_WANT_READ:
            waits_for = Readiness::readable;
            return Outcome::wait;
        case SSL_ERROR_WANT_WRITE:
            waits_for = Readiness::writable;
            return Outcome::wait;
        case SSL_ERROR_ZERO_RETURN:
            return Outcome::ended;
        case SSL_ERROR_SYSCALL:
            return system_error == 0 ? Outcome::ended : failed(std::strerror(system_error));
        default:
            break;
    }
    if (const long verified = SSL_get_verify_result(ssl_.get()); verified != X509_V_OK) {
        return failed(std::string("certificate verify failed: ") +
                      X509_verify_cert_error_string(verified));
    }
    const char* reason = ERR_reason_error_string(ERR_peek_error());
    return failed(reason != nullptr ? reason : "TLS failed");
}

Channel::Outcome Channel::handshake() {
    ERR_clear_error();
    errno = 0;
    const int result = SSL_do_handshake(ssl_.get());
    if (result == 1) {
        shaken_ = true;
        reading_waits_for_ = Readiness::readable;
        return Outcome::done;
    }
    const auto outcome = outcome_of(result, reading_waits_for_, Readiness::readable);
    return outcome == Outcome::ended ? failed("the peer closed the connection") : outcome;
}

Channel::Outcome Channel::read(char* into, std::size_t room, std::size_t& got) {
    got = 0;
    if (ssl_ == nullptr) {
        const auto result = receive(socket_.handle(), into, room);
        if (result > 0) {
            got = static_cast<std::size_t>(result);
            return Outcome::done;
        }
        if (result == 0) {
            return Outcome::ended;
        }
        return errno == EAGAIN || errno == EINTR ? Outcome::wait : failed(std::strerror(errno));
    }
    while (room - got >= tls_record_size) {
        ERR_clear_error();
        errno = 0;
        const int result = SSL_read(ssl_.get(), into + got, as_int(room - got));
        if (result <= 0) {
            const auto outcome = outcome_of(result, reading_waits_for_, Readiness::readable);
            // What came before an end is delivered first; the end is met again.
            return got > 0 ? Outcome::done : outcome;
        }
        got += static_cast<std::size_t>(result);
    }
    return Outcome::done;
}

Channel::Outcome Channel::write(const char* from, std::size_t size, std::size_t& sent) {
    sent = 0;
    if (ssl_ == nullptr) {
        ssize_t result = 0;
        do {
            result = send(socket_.handle(), from, size);
        } while (result < 0 && errno == EINTR);
        if (result >= 0) {
            sent = static_cast<std::size_t>(result);
            return Outcome::done;
        }
        return errno == EAGAIN ? Outcome::wait : failed(std::strerror(errno));
    }
    ERR_clear_error();
    errno = 0;
    const int result = SSL_write(ssl_.get(), from, as_int(size));
    if (result > 0) {
        sent = static_cast<std::size_t>(result);
        return Outcome::done;
    }
    return outcome_of(result, writing_waits_for_, Readiness::writable);
}

void Channel::close() {
    if (ssl_ != nullptr && shaken_) {
        ERR_clear_error();
        SSL_shutdown(ssl_.get());
    }
    ssl_.reset();
    shaken_ = false;
    reading_waits_for_ = Readiness::readable;
    writing_waits_for_ = Readiness::writable;
    socket_.close();
}

}  // namespace banyan::proxy
