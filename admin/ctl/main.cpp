// banyanctl: the command line of a migration. Reads its arguments and calls commands.hpp.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <fstream>
#include <iostream>

#include "admin/ctl/commands.hpp"
#include "admin/ctl/completion.hpp"

namespace {

using banyan::ctl::Commands;

constexpr const char* footer =
    "Exit codes:\n"
    "  0  done\n"
    "  1  wrong usage, not confirmed, or something unexpected\n"
    "  2  refused: an illegal step, a gate that does not pass, a verification that found "
    "differences\n"
    "  3  cannot connect to Banyan\n"
    "  4  a transition or verification was aborted, timed out or failed\n"
    "  5  unauthorized: the token is missing, unknown or its role too low\n"
    "\n"
    "NO_COLOR switches colours off. The token can also be in a file named by BANYAN_TOKEN_FILE; on "
    "the\n"
    "command line, other users of this machine can read it.";

struct Arguments {
    std::string url = "http://127.0.0.1:8432";
    std::string token;
    std::string token_file;
    banyan::ctl::TlsFiles tls;
    bool json = false;
    double timeout_seconds = 30;

    std::string gates_to;
    banyan::ctl::ChangeOptions change;
    double deadline_seconds = 0;
    std::string id;
    std::string capture_action;
    std::string backfill_action;
    banyan::ctl::VerifyOptions verify;
    std::string table;
    std::string fingerprint;
    bool acknowledge = false;
    std::string note;
    double hours = 0;
    double share = -1;
    bool times = false;
    std::int64_t limit = 50;
    std::int64_t before = -1;
    bool check = false;
    bool wait = false;
    double interval_seconds = 1;
    std::int64_t count = 0;
    std::string shell;
};

void add_change(CLI::App& app, const std::string& name, const std::string& help, bool with_to,
                Arguments& args) {
    auto* sub = app.add_subcommand(name, help);
    if (with_to) {
        sub->add_option("--to", args.change.to, "the phase to go to; default: the next one");
    }
    sub->add_option("--reason", args.change.reason, "why, for the audit log");
    sub->add_flag("-y,--yes", args.change.yes, "do not ask for the phase's name to be typed");
    sub->add_flag("--dry-run", args.change.dry_run, "only show the plan and the gates");
    sub->add_flag("--override-gates", args.change.override_gates,
                  "pass failing and inconclusive gates (role admin, needs --reason)");
    sub->add_flag("--no-wait", args.change.no_wait, "do not wait until it is done");
    auto* end = sub->add_flag("--end-blocking-sessions", args.change.end_blocking_sessions,
                              "sessions that own what cannot be brought along (temporary tables, "
                              "...) end with 57P01 once their time is over");
    sub->add_flag("--abort-on-blocking-sessions", args.change.keep_blocking_sessions,
                  "the transition is aborted instead; both: default as configured")
        ->excludes(end);
    sub->add_option("--deadline", args.deadline_seconds, "seconds after which it is aborted")
        ->check(CLI::Range(0.001, 86400.0));
}

void describe(CLI::App& app, Arguments& args) {
    app.require_subcommand(1);
    app.fallthrough();
    app.footer(footer);
    app.set_version_flag("--version", BANYAN_VERSION);
    app.add_option("--url", args.url, "where the admin API is")
        ->envname("BANYAN_URL")
        ->capture_default_str();
    app.add_option("--token", args.token, "bearer token")->envname("BANYAN_TOKEN");
    app.add_option("--token-file", args.token_file, "file with the bearer token")
        ->envname("BANYAN_TOKEN_FILE");
    app.add_option("--cacert", args.tls.authorities,
                   "for https: file with the authorities to trust; default: the system's")
        ->envname("BANYAN_CACERT");
    auto* certificate = app.add_option("--cert", args.tls.certificate,
                                       "for https: file with a certificate of one's own")
                            ->envname("BANYAN_CERT");
    app.add_option("--key", args.tls.key, "its key")->envname("BANYAN_KEY")->needs(certificate);
    app.add_option("--timeout", args.timeout_seconds, "seconds to wait for an answer")
        ->check(CLI::Range(0.1, 3600.0))
        ->capture_default_str();
    app.add_flag("--json", args.json, "print the API's JSON");

    app.add_subcommand("status", "phase, databases, journal, backfill, verification at a glance");
    auto* watch = app.add_subcommand("watch", "status, live; plain lines when not on a terminal");
    watch->add_option("--interval", args.interval_seconds, "seconds between looks")
        ->check(CLI::Range(0.1, 3600.0))
        ->capture_default_str();
    watch->add_option("--count", args.count, "looks; default: until interrupted")
        ->check(CLI::Range(std::int64_t{1}, std::int64_t{1'000'000'000}));
    app.add_subcommand("preflight",
                       "what would get in the way, and how to mend it; exit code 2 if something blocks");
    app.add_subcommand("gates", "the gates of a phase; exit code 2 unless all pass")
        ->add_option("--to", args.gates_to, "the phase; default: the next one");
    add_change(app, "advance", "go one phase forward", true, args);
    add_change(app, "rollback", "go one phase back", false, args);
    app.add_subcommand("transitions", "phase changes, newest first");
    app.add_subcommand("cancel", "cancel a transition")
        ->add_option("id", args.id, "default: the one running");
    app.add_subcommand("capture", "deep capture: list where it is, install it, remove it")
        ->add_option("action", args.capture_action)
        ->check(CLI::IsMember({"list", "install", "remove"}));
    auto* backfill = app.add_subcommand("backfill", "show the backfill, or start, pause, resume it");
    backfill->add_option("action", args.backfill_action)
        ->check(CLI::IsMember({"start", "pause", "resume"}));
    backfill->add_flag("--wait", args.wait, "wait until it is done, and show its progress");
    auto* verify = app.add_subcommand("verify", "compare tables on both sides");
    verify->add_option("--tables", args.verify.tables, "schema.table names; default: all")
        ->delimiter(',');
    verify->add_flag("--repair", args.verify.repair, "repair the keys that differ");
    verify->add_flag("--wait", args.verify.wait, "wait for the result; exit code 2 if different");
    app.add_subcommand("tables", "all tables, or all about one")->add_option("name", args.table);
    auto* discrepancies = app.add_subcommand("discrepancies", "shadow reads that differed");
    auto* fingerprint = discrepancies->add_option("fingerprint", args.fingerprint, "show this one");
    discrepancies->add_flag("--ack", args.acknowledge, "acknowledge it")->needs(fingerprint);
    discrepancies->add_option("--note", args.note, "with --ack");
    discrepancies->add_option("--hours", args.hours, "with --ack: after that it counts again")
        ->check(CLI::Range(0.01, 100'000.0));
    auto* shadow = app.add_subcommand("shadow", "shadow reads, or set their share");
    shadow->add_flag("--times", args.times, "how long statements take on each side, slower ones first");
    shadow->add_option("--share", args.share, "of the qualifying reads")
        ->check(CLI::Range(0.0, 1.0))
        ->excludes("--times");
    app.add_subcommand("journal", "dirty and in-flight keys");
    app.add_subcommand("sessions", "client sessions");
    app.add_subcommand("reload", "read the configuration file again, as SIGHUP does");
    app.add_subcommand("config", "the configuration in force, secrets hidden");
    app.add_subcommand("completion", "a script that completes banyanctl's arguments")
        ->add_option("shell", args.shell)
        ->check(CLI::IsMember({"bash", "zsh", "fish"}))
        ->required();
    auto* audit = app.add_subcommand("audit", "who did what, newest first");
    audit->add_option("--limit", args.limit)->check(CLI::Range(1, 1000))->capture_default_str();
    audit->add_option("--before", args.before, "only entries older than this id");
    audit->add_flag("--check", args.check,
                    "recompute the chain of hashes; exit code 2 if an entry does not fit");
}

int run(const CLI::App& app, Arguments& args, Commands& commands) {
    const std::string name = app.get_subcommands().front()->get_name();
    if (name == "status") return commands.status();
    if (name == "watch") {
        return commands.watch(std::chrono::milliseconds(
                                  static_cast<std::int64_t>(args.interval_seconds * 1000)),
                              args.count);
    }
    if (name == "preflight") return commands.preflight();
    if (name == "config") return commands.configuration();
    if (name == "gates") return commands.gates(args.gates_to);
    if (name == "advance" || name == "rollback") {
        if (args.change.reason.empty()) {
            const char* user = std::getenv("USER");
            args.change.reason =
                "banyanctl " + name + (user == nullptr ? "" : " by " + std::string(user));
        }
        if (args.deadline_seconds > 0) {
            args.change.deadline_ms = static_cast<std::int64_t>(args.deadline_seconds * 1000);
        }
        return commands.change_phase(name == "advance", args.change);
    }
    if (name == "transitions") return commands.transitions();
    if (name == "cancel") return commands.cancel(args.id);
    if (name == "capture") return commands.capture(args.capture_action);
    if (name == "backfill") return commands.backfill(args.backfill_action, args.wait);
    if (name == "verify") return commands.verify(args.verify);
    if (name == "tables") return commands.tables(args.table);
    if (name == "discrepancies") {
        return args.acknowledge ? commands.acknowledge(args.fingerprint, args.note, args.hours)
                                : commands.discrepancies(args.fingerprint);
    }
    if (name == "shadow" && args.times) return commands.shadow_times();
    if (name == "shadow") {
        return commands.shadow(args.share < 0 ? std::nullopt : std::optional(args.share));
    }
    if (name == "journal") return commands.journal();
    if (name == "sessions") return commands.sessions();
    if (name == "reload") return commands.reload();
    if (args.check) return commands.check_audit();
    return commands.audit(args.limit, args.before < 0 ? std::nullopt : std::optional(args.before));
}

int fail(const std::string& message) {
    std::cerr << "error: " << message << "\n";
    return banyan::ctl::exit_unexpected;
}

}  // namespace

int main(int argc, char** argv) {
    Arguments args;
    CLI::App app("Leads a Banyan migration through its phases.", "banyanctl");
    describe(app, args);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? banyan::ctl::exit_ok : banyan::ctl::exit_unexpected;
    }
    if (!args.shell.empty()) {
        std::cout << banyan::ctl::completion(app, args.shell);
        return banyan::ctl::exit_ok;
    }
    const auto url = banyan::ctl::parse_url(args.url);
    if (!url) {
        return fail(url.error().message);
    }
    if (args.change.override_gates && args.change.reason.empty()) {
        return fail("--override-gates needs a --reason");
    }
    if (args.token.empty() && !args.token_file.empty()) {
        std::ifstream in(args.token_file);
        if (!(in >> args.token)) {
            return fail("cannot read a token from " + args.token_file);
        }
    }
    if (args.token.find_first_of("\r\n") != std::string::npos) {
        return fail("the token has a line break in it");
    }
    const char* no_color = std::getenv("NO_COLOR");
    const char* term = std::getenv("TERM");
    const bool colors = (no_color == nullptr || *no_color == '\0') &&
                        (term == nullptr || std::string_view(term) != "dumb");
    const bool terminal = isatty(STDOUT_FILENO) == 1;
    banyan::ctl::Console console{std::cout,
                                 std::cerr,
                                 std::cin,
                                 {colors && terminal},
                                 {colors && isatty(STDERR_FILENO) == 1},
                                 terminal,
                                 args.json};
    banyan::ctl::HttpClient client(
        *url, args.token,
        std::chrono::milliseconds(static_cast<std::int64_t>(args.timeout_seconds * 1000)), args.tls);
    Commands commands(client, console);
    try {
        return run(app, args, commands);
    } catch (const std::exception& exception) {
        return fail(exception.what());
    }
}
