#include "proxy/life.hpp"

#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace banyan::proxy {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds sweep_interval{20};
constexpr milliseconds idle_interval{60000};
/// After the deadline: for the mirror's answers that are owed, and for last words to be taken.
constexpr milliseconds last_patience{3000};
/// For a newcomer between being given the sockets and saying that it takes them.
constexpr milliseconds newcomer_patience{30000};

sigset_t handled() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int each : {SIGTERM, SIGINT, SIGQUIT, SIGHUP}) {
        sigaddset(&signals, each);
    }
    return signals;
}

milliseconds since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - begin);
}

}  // namespace

void block_signals() {
    const auto signals = handled();
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);  // a file at its size limit is a failed write, not the end
}

DefaultSignals::DefaultSignals() {
    auto signals = handled();
    sigdelset(&signals, SIGHUP);
    pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
}

DefaultSignals::~DefaultSignals() {
    const auto signals = handled();
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

Life::Life(const router::Config& config, Proxy& proxy, router::Control& control, int admin_socket)
    : config_(config), proxy_(proxy), control_(control), admin_socket_(admin_socket) {
    const auto signals = handled();
    last_alive_ = Clock::now();
    signals_ = Descriptor(::signalfd(-1, &signals, SFD_CLOEXEC));
    if (auto door = TakeOverDoor::open(config.state_directory)) {
        door_.emplace(std::move(*door));
    } else {
        spdlog::warn("no process can take over from this one: {}", door.error().message);
    }
}

Descriptor Life::serve() {
    manager_.serving();
    while (state_ != State::ended) {
        tell_watchdog();
        if (state_ == State::serving) {
            wait(newcomer_.open() ? newcomer_patience : idle_interval);
            if (newcomer_.open() && since(newcomer_since_) >= newcomer_patience) {
                call_off("it says nothing");
            }
            continue;
        }
        wait(sweep_interval);
        if (state_ == State::unready && since(begun_) >= config_.latest()->shutdown.ready_delay) {
            begin_drain();
        }
        if (state_ == State::draining) {
            sweep();
        }
    }
    if (handing_over()) {
        proxy_.sockets_given_away();
    }
    door_.reset();  // its file goes while the state directory is still this process's
    return std::move(newcomer_);
}

// This thread alone would say that this thread lives: the event loops are asked, too.
void Life::tell_watchdog() {
    const auto interval = manager_.watchdog();
    if (interval && since(last_alive_) >= *interval / 2 && proxy_.loop_lag() < *interval) {
        manager_.alive();
        last_alive_ = Clock::now();
    }
}

void Life::wait(milliseconds longest) {
    if (const auto interval = manager_.watchdog()) {
        longest = std::min(longest, *interval / 2);
    }
    std::array<pollfd, 3> watched{pollfd{signals_.get(), POLLIN, 0},
                                  pollfd{door_ ? door_->handle() : -1, POLLIN, 0},
                                  pollfd{newcomer_.get(), POLLIN, 0}};
    if (::poll(watched.data(), watched.size(), static_cast<int>(longest.count())) <= 0) {
        return;
    }
    if (watched[2].revents != 0) {
        on_newcomer();
    }
    if (watched[1].revents != 0) {
        on_knock();
    }
    if (watched[0].revents != 0) {
        signalfd_siginfo info{};
        if (::read(signals_.get(), &info, sizeof info) == sizeof info) {
            on_signal(static_cast<int>(info.ssi_signo));
        }
    }
}

// SIGTERM may come several times from one service manager or wrapper, and says the same each time.
// A second SIGINT is a person at a terminal who does not want to wait.
void Life::on_signal(int number) {
    if (number == SIGHUP) {
        manager_.reloading();
        control_.reload({"SIGHUP", ""});
        manager_.serving();
    } else if (number == SIGQUIT || (number == SIGINT && state_ != State::serving)) {
        end_at_once();
    } else if (state_ == State::serving) {
        shut_down();
    }
}

void Life::shut_down() {
    spdlog::info("shutting down");
    manager_.ending();
    if (newcomer_.open()) {
        call_off("this process is told to end");
    }
    control_.begin_draining(router::OnTransition::cancel);
    begun_ = Clock::now();
    state_ = State::unready;
}

void Life::begin_drain() {
    timeout_ = config_.latest()->shutdown.drain_timeout;
    proxy_.stop_listening(handing_over());
    begun_ = Clock::now();
    state_ = State::draining;
    spdlog::info("draining: transactions may end within {} ms", timeout_.count());
}

void Life::end_at_once() {
    spdlog::warn("ending at once: transactions under way are rolled back");
    if (state_ != State::draining) {
        control_.begin_draining(router::OnTransition::cancel);
        begin_drain();
    }
    timeout_ = std::min(timeout_, since(begun_));
}

void Life::sweep() {
    const auto elapsed = since(begun_);
    const auto left = proxy_.drain({elapsed, timeout_, handing_over()});
    if (left == 0 && (elapsed >= timeout_ || !control_.transition_running())) {
        state_ = State::ended;  // a transition that was cancelled has been undone, too
    } else if (elapsed >= timeout_ + last_patience) {
        spdlog::warn("sessions that have not ended in time: {}", left);
        state_ = State::ended;
    }
}

void Life::on_knock() {
    auto peer = door_->accept();
    if (!peer.open()) {
        return;
    }
    if (state_ != State::serving || newcomer_.open()) {
        send_packet(peer.get(), state_ != State::serving && !handing_over()
                                    ? "it is shutting down"
                                    : "another process is taking over");
        return;
    }
    newcomer_ = std::move(peer);
    newcomer_since_ = Clock::now();
    confirmed_ = false;
}

void Life::on_newcomer() {
    const auto packet = receive_packet(newcomer_.get(), milliseconds(0));
    if (!packet) {
        call_off("it is gone");
        return;
    }
    if (packet->text == "take-over 1" && !confirmed_) {
        if (control_.transition_running()) {
            send_packet(newcomer_.get(), "a transition is under way; wait for it, or cancel it");
            newcomer_ = Descriptor();
            return;
        }
        auto sockets = proxy_.listening_sockets();
        sockets.push_back(admin_socket_);
        if (!send_packet(
                newcomer_.get(),
                "sockets " + std::to_string(config_.latest()->shutdown.drain_timeout.count()),
                sockets)) {
            call_off("it is gone");
        }
    } else if (packet->text == "mine" && state_ == State::serving) {
        if (!control_.begin_draining(router::OnTransition::refuse)) {
            call_off("a transition has begun");
            return;
        }
        confirmed_ = true;
        spdlog::info("another process takes over: it has the listening sockets");
        begin_drain();
    } else {
        call_off("it says something else than it should");
    }
}

// Whom this process has ended already stays ended; everybody else is served as before.
void Life::call_off(const char* why) {
    const bool draining = handing_over();
    newcomer_ = Descriptor();
    confirmed_ = false;
    if (!draining) {
        spdlog::info("no takeover: {}", why);
        return;
    }
    spdlog::warn("the takeover is called off: {}", why);
    if (state_ == State::draining) {
        control_.end_draining();
        proxy_.resume_listening();
        state_ = State::serving;
    }
}

}  // namespace banyan::proxy
