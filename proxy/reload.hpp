// Reads the configuration file again and lets what can change without a restart take effect: in the
// event loops, the admission, TLS, the log, the breaker and the control plane. All of it or, on any
// error, nothing.
#pragma once

#include <functional>
#include <memory>
#include <mutex>

#include "proxy/proxy.hpp"
#include "proxy/tls.hpp"
#include "router/config/reload.hpp"
#include "router/migration/control.hpp"

namespace banyan::proxy {

inline router::Breaker::Pace breaker_pace(const router::Config& config) {
    return {config.mirror.failures_to_open, config.mirror.probe_interval,
            config.mirror.longest_probe_interval};
}

class Reloader {
   public:
    struct Parts {
        Tls& tls;
        router::Breaker& breaker;
        Proxy& proxy;
        router::Control& control;
        std::function<void(const router::Config::Admin&)> set_admin;
    };

    /// `config` is the one everything was started with; its `reloads` is what latest() reads.
    Reloader(const router::Config& config, Parts parts);
    /// Thread-safe. {"applied": [key], "restart": [{"key", "keeps"}]}, or why the file is refused.
    router::Answer<boost::json::object> reload();

   private:
    void apply(const router::Config& now, const std::vector<std::string>& changed);

    const router::Config& config_;
    Parts parts_;
    std::mutex mutex_;
};

}  // namespace banyan::proxy
