// The admin HTTP server: its own thread and io_context for sockets, a few threads for handlers
// (which may wait for a database), everything bounded. It gives sockets to admin/routes.hpp and
// nothing more.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "admin/control_api.hpp"
#include "router/config/config.hpp"
#include "router/metrics/counter_source.hpp"
#include "router/model/result.hpp"

namespace banyan::admin {

struct ServerLimits {
    std::uint32_t header_bytes = 16U << 10U;
    std::uint64_t body_bytes = 1U << 20U;
    std::size_t connections = 64;
    /// For a whole request to arrive (so also how long a connection may idle), and for a response
    /// to be taken.
    std::chrono::milliseconds timeout{10000};
};

class Server {
   public:
    /// Listens on config.admin.host and port, then writes the port to config.admin.port_file if
    /// that is set. `control` and `counters` outlive stop().
    /// `listening`: a socket that listens there already, which this takes; -1: none.
    static Result<std::unique_ptr<Server>> start(const router::Config& config, ControlApi& control,
                                                 router::CounterSource& counters,
                                                 ServerLimits limits = {}, int listening = -1);
    ~Server();
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    std::uint16_t port() const;
    /// Of the listening socket, to be handed to another process.
    int listening_socket();
    /// Other tokens and hosts, for requests to come.
    void set_config(const router::Config::Admin& config);
    /// Closes every connection; waits for handlers under way. Idempotent.
    void stop();

   private:
    class Impl;
    explicit Server(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

}  // namespace banyan::admin
