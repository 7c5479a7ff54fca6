// The sockets that clients and operators connect to, as descriptors: bound anew, or inherited from
// the process before this one or from a service manager (LISTEN_FDS). An inherited socket is
// recognised by its address, and what is not wanted is closed.
#pragma once

#include <filesystem>
#include <vector>

#include "proxy/descriptors.hpp"
#include "router/config/config.hpp"
#include "router/model/result.hpp"

namespace banyan::proxy {

struct ListenSockets {
    Descriptor tcp;
    Descriptor local;  ///< not open: none is configured
    std::filesystem::path local_file;
    Descriptor admin;  ///< not open: none was inherited, the admin server binds its own
};

/// How many connections may wait to be accepted; the system may allow fewer (net.core.somaxconn).
inline constexpr int listen_backlog = 4096;

/// Everything that [listen] wants, listening. An Error says which address or socket, and why not.
Result<ListenSockets> open_listen_sockets(const router::Config& config,
                                          std::vector<Descriptor> inherited);
/// The sockets that LISTEN_FDS and LISTEN_PID promise to this process. Clears both.
std::vector<Descriptor> sockets_of_service_manager();

}  // namespace banyan::proxy
