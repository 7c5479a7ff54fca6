#include "proxy/service_manager.hpp"

#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <string>

namespace banyan::proxy {

ServiceManager::ServiceManager() {
    std::uint64_t microseconds = 0;
    if (::sd_watchdog_enabled(0, &microseconds) > 0) {
        watchdog_ = std::chrono::milliseconds(microseconds / 2000);
    }
}

// Also says which process is the main one: a take-over has made it another.
void ServiceManager::serving() const {
    ::sd_notify(0, ("READY=1\nSTATUS=Serving\nMAINPID=" + std::to_string(::getpid())).c_str());
}

void ServiceManager::reloading() const {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    const auto microseconds = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000U +
                              static_cast<std::uint64_t>(now.tv_nsec) / 1000U;
    ::sd_notify(0, ("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(microseconds)).c_str());
}

void ServiceManager::ending() const {
    ::sd_notify(0, "STOPPING=1\nSTATUS=Draining");
}

void ServiceManager::alive() const {
    ::sd_notify(0, "WATCHDOG=1");
}

}  // namespace banyan::proxy
