// Where clients come in: a TCP port, and a Unix socket if one is configured.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "proxy/listen_sockets.hpp"
#include "proxy/reactor.hpp"
#include "router/config/config.hpp"
#include "router/model/result.hpp"

namespace banyan::proxy {

/// A client's new connection, on its way to the event loop it will live on.
struct Accepted {
    int handle = -1;     ///< of the socket, non-blocking; whoever takes this owns it
    std::string peer;    ///< "address:port", or "[local]"
    bool local = false;  ///< over the Unix socket
};

/// Accepts on one event loop's thread. Where no file descriptor is left for a client, it is told so
/// (53300), with one that is kept for that; the listener itself lives on.
class Listener {
   public:
    using OnClient = std::function<void(Accepted)>;

    Listener(Reactor& reactor, ListenSockets sockets, OnClient on_client);
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
    /// A listening socket.
    struct Door {
        explicit Door(Reactor& reactor) : socket(reactor), pause(reactor) {}
        Watch socket;
        Timer pause;  ///< after a failure
        bool local = false;
    };

    void wait_at(Door& door);
    void on_waiting(Door& door);
    void take(const Door& door, int client, const std::string& peer);
    /// No descriptor is left: takes one client with the spare one and refuses it.
    void turn_away(const Door& door);

    OnClient on_client_;
    Door tcp_;
    Door local_;
    std::filesystem::path local_file_;  ///< that is ours to remove; empty: none
    Descriptor spare_;
    bool accepting_ = false;
    std::uint16_t port_ = 0;
};

/// Sends an ErrorResponse without waiting for a startup message: libpq and every driver show one at
/// that point. Closes the connection.
void refuse_client(int handle, std::string_view error);

}  // namespace banyan::proxy
