// Bytes to and from one peer over a non-blocking socket, encrypted or not.
#pragma once

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <string>

#include "proxy/tls.hpp"
#include "router/config/config.hpp"

namespace banyan::proxy {

using Socket = boost::asio::generic::stream_protocol::socket;

class Channel {
   public:
    enum class Outcome {
        done,
        wait,   ///< nothing now: wait as reading_waits_for() or writing_waits_for() says
        ended,  ///< the peer has closed
        failed,
    };

    explicit Channel(boost::asio::io_context& io) : socket_(io) {}

    Socket& socket() { return socket_; }
    bool encrypted() const { return ssl_ != nullptr; }
    SSL* ssl() const { return ssl_.get(); }

    /// Non-blocking, TCP_NODELAY, keepalives and TCP_USER_TIMEOUT as configured. What does not
    /// apply to a Unix socket is left out.
    void tune(const router::Config::Tcp& settings);

    /// Connecting has waited for writability, and the reactor would go on telling of it with every
    /// wait for something else: one useless wake-up for each message. Registers the socket anew.
    /// Nothing may be waiting for it.
    void forget_waits();

    /// From now on handshake(), then everything, goes through `ssl`.
    void start_tls(SslPtr ssl);
    /// failed: error() says why.
    Outcome handshake();

    /// Reads at most `room` bytes, of an encrypted peer as many records as are there and fit;
    /// `room` is at least a record, 16 kB: so nothing that was received stays behind in OpenSSL,
    /// and waiting for the socket is enough.
    Outcome read(char* into, std::size_t room, std::size_t& got);
    Outcome write(const char* from, std::size_t size, std::size_t& sent);

    Socket::wait_type reading_waits_for() const { return reading_waits_for_; }
    Socket::wait_type writing_waits_for() const { return writing_waits_for_; }

    /// The last failure in words.
    const std::string& error() const { return error_; }

    /// Closes the socket; of an encrypted one after a try to say so.
    void close();

   private:
    Outcome outcome_of(int result, Socket::wait_type& waits_for, Socket::wait_type usual);
    Outcome failed(std::string why);

    Socket socket_;
    SslPtr ssl_;
    bool shaken_ = false;
    Socket::wait_type reading_waits_for_ = Socket::wait_read;
    Socket::wait_type writing_waits_for_ = Socket::wait_write;
    std::string error_;
};

}  // namespace banyan::proxy
