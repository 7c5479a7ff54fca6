// Where clients come in: a TCP port, and a Unix socket if one is configured.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "proxy/channel.hpp"
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

/// Accepts on one event loop's thread.
class Listener {
   public:
    using OnClient = std::function<void(Accepted)>;

    Listener(boost::asio::io_context& io, const router::Config::Listen& config, OnClient on_client);
    ~Listener();

    /// Binds. An Error says which address or socket, and why not.
    Result<void> open();
    /// Begins to accept; on the loop's thread.
    void accept();
    /// On the loop's thread.
    void close();
    std::uint16_t port() const { return port_; }

   private:
    Result<void> open_tcp();
    Result<void> open_local();
    template <class Acceptor>
    void accept_on(Acceptor& acceptor);

    boost::asio::io_context& io_;
    const router::Config::Listen& config_;
    OnClient on_client_;
    boost::asio::ip::tcp::acceptor tcp_;
    boost::asio::local::stream_protocol::acceptor local_;
    std::string local_path_;  ///< of the socket file that is ours to remove; empty: none
    std::uint16_t port_ = 0;
};

}  // namespace banyan::proxy
