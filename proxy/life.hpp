// The life of a process that serves: signals, the drain, and the handover to another process. One
// thread, main()'s, runs it; README.md in this folder has the states and what each signal does.
#pragma once

#include <signal.h>

#include <chrono>
#include <functional>
#include <optional>
#include <vector>

#include "proxy/proxy.hpp"
#include "proxy/service_manager.hpp"
#include "proxy/take_over.hpp"
#include "router/config/config.hpp"
#include "router/migration/control.hpp"

namespace banyan::proxy {

/// Blocks the signals that Life waits for. Before the first thread is started, so that none takes
/// them.
void block_signals();
/// While it lives, SIGTERM, SIGINT and SIGQUIT end this process as if nothing handled them.
class DefaultSignals {
   public:
    DefaultSignals();
    ~DefaultSignals();
    DefaultSignals(const DefaultSignals&) = delete;
    DefaultSignals& operator=(const DefaultSignals&) = delete;
};

class Life {
   public:
    /// `admin_socket`: the control plane's listening socket, to be handed over with the others.
    Life(const router::Config& config, Proxy& proxy, router::Control& control, int admin_socket);

    /// Returns when the sessions have ended, or need not be waited for: the workers may be stopped
    /// and the state closed. Then the descriptor may be closed: a process that takes over waits for
    /// that.
    Descriptor serve();

   private:
    enum class State { serving, unready, draining, ended };
    using Clock = std::chrono::steady_clock;

    void wait(std::chrono::milliseconds longest);
    void tell_watchdog();
    void on_signal(int number);
    void shut_down();
    void begin_drain();
    void end_at_once();
    void sweep();
    void on_knock();
    void on_newcomer();
    void call_off(const char* why);
    bool handing_over() const { return newcomer_.open() && confirmed_; }

    const router::Config& config_;
    Proxy& proxy_;
    router::Control& control_;
    const int admin_socket_;
    const ServiceManager manager_;
    Clock::time_point last_alive_;
    Descriptor signals_;
    std::optional<TakeOverDoor> door_;
    Descriptor newcomer_;
    bool confirmed_ = false;  ///< it has said that the sockets are its own
    Clock::time_point newcomer_since_;
    State state_ = State::serving;
    Clock::time_point begun_;  ///< of being unready, then of the drain
    std::chrono::milliseconds timeout_{0};
};

}  // namespace banyan::proxy
