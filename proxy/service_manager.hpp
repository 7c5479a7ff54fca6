// What systemd is told of this process (sd_notify(3)): that it serves, reads its configuration
// again, ends, and, if the unit asks for it, that it is not stuck. Silent under anything else.
#pragma once

#include <chrono>
#include <optional>

namespace banyan::proxy {

class ServiceManager {
   public:
    ServiceManager();

    void serving() const;
    void reloading() const;
    void ending() const;
    /// How often alive() must be called; nothing if nobody waits for it. Half of WatchdogSec.
    std::optional<std::chrono::milliseconds> watchdog() const { return watchdog_; }
    void alive() const;

   private:
    std::optional<std::chrono::milliseconds> watchdog_;
};

}  // namespace banyan::proxy
