// The banyan process: reads the configuration, owns the state, starts data plane and control plane,
// and ends both on SIGTERM or SIGINT.

#include <signal.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <iostream>

#include "admin/control_adapter.hpp"
#include "admin/server.hpp"
#include "proxy/proxy.hpp"
#include "proxy/tls.hpp"
#include "router/config/config.hpp"
#include "router/migration/control.hpp"

namespace {

using namespace banyan;

void set_up_log(const router::Config& config) {
    spdlog::set_level(spdlog::level::from_str(config.log.level));
    if (config.log.format == "json") {
        spdlog::set_pattern(
            R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","thread":%t,"message":"%v"})");
    } else {
        spdlog::set_pattern("%Y-%m-%d %H:%M:%S.%e [%l] %v");
    }
    spdlog::flush_on(spdlog::level::warn);
    spdlog::flush_every(std::chrono::seconds(1));
}

int fail(const std::string& message) {
    std::cerr << "banyan: " << message << '\n';
    return 1;
}

// Before the first thread is started, the log's included, so that none takes them: one place waits.
sigset_t block_signals() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    signal(SIGPIPE, SIG_IGN);
    return signals;
}

int run(const router::Config& config, proxy::Tls& tls) {
    const sigset_t signals = block_signals();
    auto opened =
        router::StateDb::open(config.state_directory, config.durability == "power"
                                                          ? router::StateDb::Durability::power
                                                          : router::StateDb::Durability::process);
    if (!opened) {
        return fail(opened.error().message);
    }
    auto& db = **opened;
    router::Ledger ledger(db);
    router::Breaker breaker({config.mirror.failures_to_open, config.mirror.probe_interval,
                             config.mirror.longest_probe_interval});
    router::Control control(config, db, ledger, breaker);
    proxy::Context context{config, ledger, breaker, tls};
    context.report_discrepancy = [&control](router::PendingDiscrepancy pending) {
        control.report_discrepancy(std::move(pending));
    };
    context.request_catalog_reload = [&control] { control.request_catalog_reload(); };
    proxy::Proxy proxy(context, control.directive());

    proxy.start();
    if (const auto started = control.start(proxy); !started) {
        return fail(started.error().message);
    }
    if (const auto listening = proxy.listen(); !listening) {
        control.stop();
        return fail(listening.error().message);
    }
    const auto adapter = admin::adapt(control);
    auto server = admin::Server::start(config, *adapter, proxy);
    if (!server) {
        control.stop();
        return fail(server.error().message);
    }
    spdlog::info("banyan {} serves database \"{}\" on {}:{}, admin API on {}:{}, phase {}",
                 BANYAN_VERSION, config.migration.database, config.listen.host, proxy.port(),
                 config.admin.host, (*server)->port(), to_string(control.directive().phase));

    int signal_number = 0;
    while (true) {
        sigwait(&signals, &signal_number);
        if (signal_number != SIGHUP) {
            break;
        }
        if (const auto reloaded = tls.reload(); reloaded) {
            spdlog::info("SIGHUP: certificates and keys were read again");
        } else {
            spdlog::error("SIGHUP: certificates and keys stay as they were: {}",
                          reloaded.error().message);
        }
    }
    spdlog::info("shutting down");
    (*server)->stop();
    proxy.stop(std::chrono::seconds(10));
    control.stop();
    spdlog::info("bye");
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"Banyan: a zero-downtime dual-write proxy for PostgreSQL"};
    std::string file;
    bool check = false;
    app.add_option("-c,--config", file, "Configuration file (TOML)")->required();
    app.add_flag("--check-config", check, "Read the configuration, say what is wrong, and exit");
    app.set_version_flag("--version", std::string("banyan ") + BANYAN_VERSION);
    CLI11_PARSE(app, argc, argv);

    const auto config = banyan::router::load_config(file);
    if (!config) {
        return fail(config.error().message);
    }
    const auto tls = banyan::proxy::Tls::load(*config);
    if (!tls) {
        return fail(file + ": " + tls.error().message);
    }
    if (check) {
        std::cout << file << ": ok\n";
        return 0;
    }
    block_signals();
    set_up_log(*config);
    return run(*config, **tls);
}
