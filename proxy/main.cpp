// The banyan process: reads the configuration, owns the state, starts data plane and control plane,
// and lives until it is told to end or another process takes over (life.hpp).

#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <thread>

#include "admin/control_adapter.hpp"
#include "admin/server.hpp"
#include "proxy/descriptors.hpp"
#include "proxy/life.hpp"
#include "proxy/listen_sockets.hpp"
#include "proxy/log.hpp"
#include "proxy/proxy.hpp"
#include "proxy/reload.hpp"
#include "proxy/take_over.hpp"
#include "proxy/tls.hpp"
#include "router/config/config.hpp"
#include "router/migration/control.hpp"
#include "router/migration/enter.hpp"

namespace {

using namespace banyan;

constexpr std::chrono::seconds lock_patience{5};

int fail(const std::string& message) {
    std::cerr << "banyan: " << message << '\n';
    return 1;
}

Result<std::unique_ptr<router::StateDb>> open_state(const router::Config& config) {
    return router::StateDb::open(config.state_directory,
                                 config.durability == "power"
                                     ? router::StateDb::Durability::power
                                     : router::StateDb::Durability::process);
}

bool told_to_end() {
    sigset_t waiting;
    return sigpending(&waiting) == 0 &&
           (sigismember(&waiting, SIGTERM) == 1 || sigismember(&waiting, SIGINT) == 1 ||
            sigismember(&waiting, SIGQUIT) == 1);
}

int run(const router::Config& config, proxy::Tls& tls, std::unique_ptr<router::StateDb> state,
        proxy::ListenSockets sockets, proxy::Descriptor& newcomer,
        const std::optional<std::string>& seize) {
    auto& db = *state;
    router::Ledger ledger(db, {config.journal.max_dirty_keys});
    router::Breaker breaker(proxy::breaker_pace(config));
    const auto lease = router::enter_migration(config, db, ledger, seize, told_to_end);
    if (!lease) {
        return fail(lease.error().message);
    }
    router::Control control(config, db, ledger, breaker, lease->get());
    proxy::Context context{config, ledger, breaker, tls};
    context.lease = lease->get();
    context.report_discrepancy = [&control](router::PendingDiscrepancy pending) {
        control.report_discrepancy(std::move(pending));
    };
    context.offer_rerun = [&control](router::PendingDiscrepancy read) {
        control.offer_rerun(std::move(read));
    };
    context.request_catalog_reload = [&control] { control.request_catalog_reload(); };
    proxy::Proxy proxy(context, control.directive());

    proxy.start();
    if (const auto started = control.start(proxy); !started) {
        return fail(started.error().message);
    }
    const auto adapter = admin::adapt(control);
    const int admin_socket = sockets.admin.release();
    proxy.listen(std::move(sockets));
    auto server = admin::Server::start(config, *adapter, proxy, {}, admin_socket);
    if (!server) {
        control.stop();
        return fail(server.error().message);
    }
    proxy::Reloader reloader(
        config, {tls, breaker, proxy, control,
                 [&server](const router::Config::Admin& now) { (*server)->set_config(now); }});
    control.on_reload([&reloader] { return reloader.reload(); });
    spdlog::info("banyan {} serves database \"{}\" on {}:{}, admin API on {}:{}, phase {}",
                 BANYAN_VERSION, config.migration.database, config.listen.host, proxy.port(),
                 config.admin.host, (*server)->port(), to_string(control.directive().phase));

    newcomer = proxy::Life(config, proxy, control, (*server)->listening_socket()).serve();
    (*server)->stop();
    proxy.stop();
    control.stop();
    spdlog::info("bye");
    return 0;
}

// The lock goes with the process that had it, and a dying one's descriptors go one by one.
Result<std::unique_ptr<router::StateDb>> open_state_left_behind(const router::Config& config) {
    const auto end = std::chrono::steady_clock::now() + lock_patience;
    while (true) {
        auto opened = open_state(config);
        if (opened || std::chrono::steady_clock::now() >= end) {
            return opened;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
}

/// What a serving process begins with.
struct Start {
    std::unique_ptr<router::StateDb> state;
    proxy::ListenSockets sockets;
};

Result<Start> start_alone(const router::Config& config) {
    auto state = open_state(config);
    if (!state) {
        return state.error();
    }
    auto sockets = proxy::open_listen_sockets(config, proxy::sockets_of_service_manager());
    if (!sockets) {
        return sockets.error();
    }
    return Start{std::move(*state), std::move(*sockets)};
}

// Whatever can fail does so before the owner is told to go.
Result<Start> start_in_place_of(proxy::TakeOver owner, const router::Config& config) {
    auto sockets = proxy::open_listen_sockets(config, std::move(owner.sockets()));
    if (!sockets) {
        return sockets.error();
    }
    if (owner.confirm()) {
        spdlog::info("taking over: waiting for the running process to drain");
        const proxy::DefaultSignals may_be_stopped;
        BANYAN_TRY(owner.wait());
    }
    auto state = open_state_left_behind(config);
    if (!state) {
        return state.error();
    }
    return Start{std::move(*state), std::move(*sockets)};
}

Result<Start> start(const router::Config& config, bool take_over) {
    if (take_over) {
        auto owner = proxy::TakeOver::ask(config.state_directory);
        if (!owner) {
            return owner.error();
        }
        if (*owner) {
            return start_in_place_of(std::move(**owner), config);
        }
        spdlog::info("there is no process to take over from");
    }
    return start_alone(config);
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"Banyan: a zero-downtime dual-write proxy for PostgreSQL"};
    std::string file;
    bool check = false;
    bool take_over = false;
    app.add_option("-c,--config", file, "Configuration file (TOML)")->required();
    app.add_flag("--check-config", check, "Read the configuration, say what is wrong, and exit");
    app.add_flag("-R,--take-over", take_over,
                 "Take the place of the process that serves from the same state directory, without "
                 "refusing a connection; start as usual if there is none");
    std::string even_from;
    auto* seize = app.add_option("--seize-lease", even_from,
                                 "Take over the migration of a Banyan that is lost with its state "
                                 "directory, once its lease has expired. With its id as the value: "
                                 "at once, although the lease is live")
                      ->expected(0, 1);
    app.set_version_flag("--version", std::string("banyan ") + BANYAN_VERSION);
    CLI11_PARSE(app, argc, argv);

    auto config = router::load_config(file);
    if (!config) {
        return fail(config.error().message);
    }
    config->reloads = std::make_shared<router::LatestConfig>();
    const auto tls = proxy::Tls::load(*config);
    if (!tls) {
        return fail(file + ": " + tls.error().message);
    }
    if (check) {
        std::cout << file << ": ok\n";
        return 0;
    }
    proxy::block_signals();
    proxy::set_up_log(config->log);
    spdlog::flush_on(spdlog::level::warn);
    spdlog::flush_every(std::chrono::seconds(1));
    proxy::raise_descriptor_limit(*config);
    auto begin = start(*config, take_over);
    if (!begin) {
        return fail(begin.error().message);
    }
    proxy::Descriptor newcomer;  // who takes over sees it close when everything else has ended
    return run(*config, **tls, std::move(begin->state), std::move(begin->sockets), newcomer,
               seize->count() > 0 ? std::optional(even_from) : std::nullopt);
}
