// Bytes to and from one peer over a non-blocking socket, encrypted or not.
#pragma once

#include <cstddef>
#include <string>

#include "proxy/reactor.hpp"
#include "proxy/tls.hpp"
#include "router/config/config.hpp"

namespace banyan::proxy {

class Channel {
   public:
    enum class Outcome {
        done,
        wait,   ///< nothing now: when_readable() or when_writable() tells when
        ended,  ///< the peer has closed
        failed,
    };

    explicit Channel(Reactor& reactor) : socket_(reactor) {}

    /// The socket must be non-blocking.
    void open(Descriptor socket) { socket_.open(std::move(socket)); }
    int handle() const { return socket_.handle(); }
    bool encrypted() const { return ssl_ != nullptr; }
    SSL* ssl() const { return ssl_.get(); }

    /// TCP_NODELAY, keepalives and TCP_USER_TIMEOUT as configured. What does not
    /// apply to a Unix socket is left out.
    void tune(const router::Config::Tcp& settings);

    /// From now on handshake(), then everything, goes through `ssl`.
    void start_tls(SslPtr ssl);
    /// failed: error() says why.
    Outcome handshake();

    /// Reads at most `room` bytes, of an encrypted peer as many records as are there and fit;
    /// `room` is at least a record, 16 kB: so nothing that was received stays behind in OpenSSL,
    /// and waiting for the socket is enough.
    Outcome read(char* into, std::size_t room, std::size_t& got);
    Outcome write(const char* from, std::size_t size, std::size_t& sent);

    /// Calls back once, when reading, or writing, may go on; not if the channel is closed before.
    void when_readable(Reactor::Then then) { socket_.to_read(reading_waits_for_, std::move(then)); }
    void when_writable(Reactor::Then then) {
        socket_.to_write(writing_waits_for_, std::move(then));
    }

    /// The last failure in words.
    const std::string& error() const { return error_; }

    /// Closes the socket; of an encrypted one after a try to say so.
    void close();

   private:
    Outcome outcome_of(int result, Readiness& waits_for, Readiness usual);
    Outcome failed(std::string why);

    Watch socket_;
    SslPtr ssl_;
    bool shaken_ = false;
    Readiness reading_waits_for_ = Readiness::readable;
    Readiness writing_waits_for_ = Readiness::writable;
    std::string error_;
};

}  // namespace banyan::proxy
