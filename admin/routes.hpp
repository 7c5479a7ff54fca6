// The HTTP API as a table: method, path pattern, the role it needs, handler. handle() is a function
// from request to response; it knows nothing of sockets. Thread-safe as far as the ControlApi is.
#pragma once

#include <boost/json.hpp>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "admin/auth.hpp"
#include "admin/control_api.hpp"
#include "admin/http.hpp"
#include "router/config/config.hpp"
#include "router/metrics/counter_source.hpp"

namespace banyan::admin {

/// What a handler sees. References outlive the call only.
struct Context {
    const Request& request;
    ControlApi& control;
    router::CounterSource& counters;
    Identity identity;
    std::vector<std::string> parameters;       ///< the path's {...}, decoded, in order
    std::map<std::string, std::string> query;  ///< only names that the route declares

    router::Actor actor() const { return {identity.name, request.peer_address}; }
};

struct Route {
    std::string_view method;
    std::string_view pattern;  ///< "/api/v1/tables/{name}": a {...} is one whole segment
    Role role;
    std::string_view query;  ///< allowed names, separated by blanks
    Response (*handler)(Context&);
};

const std::vector<Route>& routes();

class Api {
   public:
    Api(router::Config::Admin config, ControlApi& control, router::CounterSource& counters)
        : config_(std::make_shared<const router::Config::Admin>(std::move(config))),
          control_(control),
          counters_(counters) {}

    /// Never throws; GET and HEAD never change anything.
    Response handle(const Request& request);
    /// True if handle() will not wait for the control plane (/livez).
    static bool quick(const Request& request);
    /// Other tokens and hosts, for requests to come.
    void set_config(router::Config::Admin config) {
        auto fresh = std::make_shared<const router::Config::Admin>(std::move(config));
        const std::lock_guard lock(mutex_);
        config_ = std::move(fresh);
    }

   private:
    Response dispatch(const Request& request);
    std::shared_ptr<const router::Config::Admin> config() const {
        const std::lock_guard lock(mutex_);
        return config_;
    }

    struct Remembered {
        std::mutex mutex;
        std::string asked;  ///< SHA-256 of path and body
        std::optional<Response> response;
    };
    /// `answer`, or what it was when this identity sent the same key; 422 if with another request.
    Response remembered(const Request& request, const Identity& identity,
                        const std::function<Response()>& answer);

    static constexpr std::size_t most_remembered = 1000;

    mutable std::mutex mutex_;
    std::map<std::string, std::shared_ptr<Remembered>> remembered_;  ///< by identity and key
    std::deque<std::string> order_;                                  ///< of its keys, oldest first
    std::shared_ptr<const router::Config::Admin> config_;
    ControlApi& control_;
    router::CounterSource& counters_;
};

}  // namespace banyan::admin
