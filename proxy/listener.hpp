// Where clients come in: a TCP port, and a Unix socket if one is configured.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "proxy/channel.hpp"
#include "proxy/listen_sockets.hpp"
#include "router/config/config.hpp"
#include "router/model/result.hpp"

namespace banyan::proxy {

/// A client's new connection, on its way to the event loop it will live on.
struct Accepted {
    int handle = -1;  ///< of the socket; whoever takes this owns it
    boost::asio::generic::stream_protocol protocol{0, 0};
    std::string peer;    ///< "address:port", or "[local]"
    bool local = false;  ///< over the Unix socket
};

/// Accepts on one event loop's thread. Where no file descriptor is left for a client, it is told so
/// (53300), with one that is kept for that; the listener itself lives on.
class Listener {
   public:
    using OnClient = std::function<void(Accepted)>;

    Listener(boost::asio::io_context& io, ListenSockets sockets, OnClient on_client);
    ~Listener();

    std::uint16_t port() const { return port_; }
    /// Descriptors of the sockets, for another process.
    std::vector<int> handles();

    // --- on the loop's thread ---

    /// Begins to accept, or goes on.
    void accept();
    /// Accepts nobody; connections wait in the backlog.
    void pause();
    /// What waits is refused by the system from now on.
    void close();
    /// The socket's file is another process's from now on.
    void give_away() { local_file_.clear(); }

   private:
    template <class Acceptor>
    void accept_on(Acceptor& acceptor);
    template <class Acceptor>
    void take(Acceptor& acceptor, typename Acceptor::protocol_type::socket client);
    /// No descriptor is left: takes one client with the spare one and refuses it.
    void turn_away(int acceptor);

    OnClient on_client_;
    boost::asio::ip::tcp::acceptor tcp_;
    boost::asio::local::stream_protocol::acceptor local_;
    boost::asio::steady_timer tcp_pause_;
    boost::asio::steady_timer local_pause_;
    std::filesystem::path local_file_;  ///< that is ours to remove; empty: none
    Descriptor spare_;
    bool accepting_ = false;
    std::uint16_t port_ = 0;
};

/// Sends an ErrorResponse without waiting for a startup message: libpq and every driver show one at
/// that point. Closes the connection.
void refuse_client(int handle, std::string_view error);

}  // namespace banyan::proxy
