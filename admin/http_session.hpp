// One connection to the admin server, plain or TLS: read a request, answer it, again; or stay, and
// stream events. Only this, server.cpp and event_hub.cpp know sockets.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <memory>
#include <optional>
#include <set>

#include "admin/event_hub.hpp"
#include "admin/routes.hpp"
#include "admin/server.hpp"

namespace banyan::admin {

class HttpConnection {
   public:
    virtual ~HttpConnection() = default;
    virtual void close() = 0;
};

/// What connections share. Outlives them all.
struct Shared {
    Shared(router::Config::Admin config, ControlApi& control, router::CounterSource& counters,
           ServerLimits server_limits)
        : api(std::move(config), control, counters),
          limits(server_limits),
          hub(io, pool, control) {}

    static constexpr std::size_t handler_threads = 4;

    Api api;
    ServerLimits limits;
    std::shared_ptr<boost::asio::ssl::context> tls;  ///< null: plain. Io thread only
    std::set<HttpConnection*> connections;           ///< io thread only
    EventHub hub;
    // Its handlers own connections, which refer to what is above.
    boost::asio::io_context io{1};
    boost::asio::thread_pool pool{handler_threads};
};

/// Null without [admin] sslmode.
Result<std::shared_ptr<boost::asio::ssl::context>> tls_context(const router::Config::Admin& config);

/// The connection lives until either side ends it. Io thread only.
void serve(boost::asio::ip::tcp::socket socket, Shared& shared);

}  // namespace banyan::admin
