#include "router/config/config.hpp"

#include <time.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <fstream>
#include <set>
#include <sstream>

#include "router/config/toml_section.hpp"
#include "router/sql/expression.hpp"

namespace banyan::router {
namespace {

constexpr std::int64_t one_day_ms = 86'400'000;
constexpr std::uintmax_t largest_file_bytes = 1U << 20U;

void read_endpoint(Section section, Endpoint& out) {
    section.text("host", out.host);
    section.integer("port", out.port, 1);
    section.text("database", out.database);
    section.text("user", out.user);
    section.text("password", out.password);
    section.milliseconds("connect_timeout_ms", out.connect_timeout, 10, one_day_ms);
    section.word("sslmode", out.sslmode, {"disable", "require", "verify-ca", "verify-full"});
    section.text("sslrootcert", out.sslrootcert);
    section.text("sslcert", out.sslcert);
    section.text("sslkey", out.sslkey);
    section.finish();
    if (out.verifies_certificate() && out.sslrootcert.empty()) {
        section.bad("sslmode", "is " + out.sslmode +
                                   ", which needs sslrootcert; name the file with the certificates "
                                   "of the authorities to trust");
    }
    if (out.sslcert.empty() != out.sslkey.empty()) {
        section.bad(out.sslcert.empty() ? "sslkey" : "sslcert",
                    "is there alone; sslcert and sslkey belong together");
    }
    if (out.encrypted() && out.host.starts_with('/')) {
        section.bad("sslmode", "is " + out.sslmode +
                                   ", but host is a Unix socket, where there is no TLS; write "
                                   "disable, or the server's address");
    }
    section.require("host", "a name, an address, or the directory of a Unix socket");
    section.require("database", "the database's name");
    section.require("user", "the role Banyan itself logs in as");
    for (const auto& [key, value] :
         {std::pair<std::string_view, const std::string&>("host", out.host),
          {"database", out.database},
          {"user", out.user}}) {
        if (section.has(key) && value.empty()) {
            section.bad(key, "is empty; write a name");
        }
    }
}

void read_listen(Section section, Config::Listen& out) {
    section.text("host", out.host);
    section.integer("port", out.port, 0);
    section.path("port_file", out.port_file);
    section.path("unix_socket_directory", out.unix_socket_directory);
    std::string permissions = "0777";
    section.text("unix_socket_permissions", permissions);
    section.boolean("proxy_protocol", out.proxy_protocol);
    section.word("sslmode", out.sslmode,
                 {"disable", "allow", "require", "verify-ca", "verify-full"});
    section.path("ssl_cert_file", out.ssl_cert_file);
    section.path("ssl_key_file", out.ssl_key_file);
    section.path("ssl_ca_file", out.ssl_ca_file);
    section.word("ssl_min_protocol_version", out.ssl_min_protocol_version, {"TLSv1.2", "TLSv1.3"});
    section.finish();
    if (out.host.empty()) {
        section.bad("host", "is empty; write an address such as 127.0.0.1, or 0.0.0.0 for all");
    }
    const char* const end = permissions.data() + permissions.size();
    const auto [stop, error] =
        std::from_chars(permissions.data(), end, out.unix_socket_permissions, 8);
    if (error != std::errc{} || stop != end || out.unix_socket_permissions > 0777) {
        section.bad("unix_socket_permissions", "is not an octal mode; write one such as \"0770\"");
    }
    if (out.tls() && (out.ssl_cert_file.empty() || out.ssl_key_file.empty())) {
        section.bad("sslmode", "is " + out.sslmode +
                                   ", which needs ssl_cert_file and ssl_key_file; name the "
                                   "certificate that clients shall see, and its key");
    }
    if (out.client_certificate_required() && out.ssl_ca_file.empty()) {
        section.bad("sslmode", "is " + out.sslmode +
                                   ", which needs ssl_ca_file; name the file with the certificates "
                                   "that sign the clients'");
    }
}

void read_migration(Section section, Config::Migration& out) {
    section.text("database", out.database);
    section.strings("exclude", out.exclude);
    section.finish();
    for (const auto& name : out.exclude) {
        const auto dot = name.find('.');
        if (dot == std::string::npos || dot == 0 || dot + 1 == name.size()) {
            section.bad("exclude", "has \"" + name + "\" in it; write \"schema.table\"");
        }
    }
}

TableName read_table_name(Section& section, std::string_view key) {
    std::string text;
    section.text(key, text);
    const auto dot = text.find('.');
    if (dot == std::string::npos || dot == 0 || dot + 1 == text.size()) {
        section.bad(key, (text.empty() ? "is missing or empty" : "is \"" + text + "\"") +
                             std::string("; write \"schema.table\""));
        return {};
    }
    return {text.substr(0, dot), text.substr(dot + 1)};
}

RowExpression read_row_expression(Section& section, std::string_view key, const std::string& column,
                                  const std::string& text) {
    auto expression = read_expression(text);
    if (!expression) {
        section.bad(key, (column.empty() ? "\"" : "of " + column + ", \"") + text + "\", " +
                             expression.error().message);
        return {};
    }
    return std::move(*expression);
}

void read_expressions(Section& section, std::string_view key,
                      std::map<std::string, RowExpression>& out) {
    std::map<std::string, std::string> texts;
    section.string_map(key, texts);
    for (const auto& [column, text] : texts) {
        out.emplace(column, read_row_expression(section, key, column, text));
    }
}

void read_mappings(Section& root, Config& config) {
    std::set<TableName> targets;
    const auto& exclude = config.migration.exclude;
    root.each("mapping", [&](Section& section) {
        MappingRule rule;
        rule.source = read_table_name(section, "source");
        rule.target = read_table_name(section, "target");
        read_expressions(section, "columns", rule.columns);
        std::string where;
        section.text("where", where);
        if (!where.empty()) {
            rule.where = read_row_expression(section, "where", "", where);
        }
        read_expressions(section, "reverse", rule.reverse);
        section.strings("ignore", rule.ignore);
        section.finish();
        if (!rule.target.name.empty() && !targets.insert(rule.target).second) {
            section.bad("target", "\"" + rule.target.text() +
                                      "\" is there twice; a table of the target has one source");
        }
        for (const TableName& name : {rule.source, rule.target}) {
            if (std::count(exclude.begin(), exclude.end(), name.text()) > 0) {
                section.bad("source", "or target is \"" + name.text() +
                                          "\", which [migration] exclude leaves out; remove one of "
                                          "the two");
            }
        }
        config.mappings.push_back(std::move(rule));
    });
}

void read_users(Section& root, std::vector<UserLogin>& users) {
    std::set<std::string> names;
    root.each("users", [&](Section& section) {
        UserLogin user;
        section.text("name", user.name);
        section.text("source_password", user.source_password);
        section.text("target_password", user.target_password);
        section.finish();
        if (user.name.empty()) {
            section.bad("name", "is missing or empty; write the role that clients log in as");
        } else if (!names.insert(user.name).second) {
            section.bad("name", "\"" + user.name + "\" is there twice; keep one [[users]] of it");
        }
        users.push_back(std::move(user));
    });
}

void read_ddl(Section& section, std::string_view key, std::optional<DdlPolicy>& out) {
    std::string word;
    section.word(key, word, {"mirror", "primary_only", "refuse"});
    if (!word.empty()) {
        out = word == "mirror"         ? DdlPolicy::mirror
              : word == "primary_only" ? DdlPolicy::primary_only
                                       : DdlPolicy::refuse;
    }
}

void read_mirror(Section section, Config::Mirror& out) {
    section.milliseconds("commit_timeout_ms", out.commit_timeout, 1, one_day_ms);
    section.milliseconds("lock_timeout_ms", out.lock_timeout, 1, one_day_ms);
    section.milliseconds("connect_timeout_ms", out.connect_timeout, 1, one_day_ms);
    section.milliseconds("ddl_timeout_ms", out.ddl_timeout, 1, one_day_ms);
    section.integer("failures_to_open", out.failures_to_open, 1, 1'000'000);
    section.milliseconds("probe_interval_ms", out.probe_interval, 10, one_day_ms);
    section.milliseconds("longest_probe_interval_ms", out.longest_probe_interval, 10, one_day_ms);
    section.word("on_mirror_failure", out.on_failure, {"journal", "reject"});
    section.word("synchronous_commit", out.synchronous_commit, {"off", "on"});
    section.strings("logins", out.logins);
    std::optional<DdlPolicy> ddl;
    read_ddl(section, "ddl", ddl);
    out.ddl = ddl.value_or(out.ddl);
    read_ddl(section, "ddl_in_dual_write", out.ddl_in_dual_write);
    read_ddl(section, "ddl_in_dual_read", out.ddl_in_dual_read);
    read_ddl(section, "ddl_in_switchover", out.ddl_in_switchover);
    section.boolean("allow_md5", out.allow_md5);
    section.word("allow_cleartext", out.allow_cleartext, {"never", "encrypted", "always"});
    section.finish();
    for (const auto& method : out.logins) {
        if (method != "users" && method != "scram_keys" && method != "service_role") {
            section.bad("logins", "has \"" + method +
                                      "\" in it; write users, scram_keys or service_role");
        }
    }
    if (out.longest_probe_interval < out.probe_interval) {
        section.bad(section.has("longest_probe_interval_ms") ? "longest_probe_interval_ms"
                                                             : "probe_interval_ms",
                    "longest_probe_interval_ms (" +
                        std::to_string(out.longest_probe_interval.count()) +
                        ") must not be less than probe_interval_ms (" +
                        std::to_string(out.probe_interval.count()) + ")");
    }
    if (out.lock_timeout >= out.commit_timeout) {
        section.bad(section.has("lock_timeout_ms") ? "lock_timeout_ms" : "commit_timeout_ms",
                    "lock_timeout_ms (" + std::to_string(out.lock_timeout.count()) +
                        ") must be less than commit_timeout_ms (" +
                        std::to_string(out.commit_timeout.count()) +
                        "), or it can never fire; lower the one or raise the other");
    }
}

void read_sync(Section& root, Config& config) {
    Section backfill = root.section("backfill");
    backfill.integer("workers", config.backfill.workers, 1, 64);
    backfill.milliseconds("chunk_time_ms", config.backfill.chunk_time, 1, 60'000);
    backfill.integer("max_chunk_rows", config.backfill.max_chunk_rows, 1, 10'000'000);
    backfill.integer("max_rows_per_second", config.backfill.max_rows_per_second, 0);
    backfill.finish();

    Section repair = root.section("repair");
    repair.integer("max_keys_per_second", config.repair.max_keys_per_second, 0);
    repair.boolean("adaptive", config.repair.adaptive);
    repair.finish();

    Section shadow = root.section("shadow");
    shadow.number("share", config.shadow.share, 0, 1);
    shadow.integer("recheck_attempts", config.shadow.recheck_attempts, 1, 1000);
    shadow.integer("max_discrepancies", config.shadow.max_discrepancies, 1, 10'000'000);
    shadow.path("log", config.shadow.log);
    shadow.boolean("redact", config.shadow.redact);
    shadow.integer("min_samples", config.shadow.min_samples, 1);
    shadow.number("rerun_share", config.shadow.rerun_share, 0, 1);
    shadow.number("rerun_duty", config.shadow.rerun_duty, 0.001, 1);
    shadow.number("slower_factor", config.shadow.slower_factor, 1, 1000);
    shadow.milliseconds("slower_by_ms", config.shadow.slower_by, 0, one_day_ms);
    shadow.finish();

    Section switchover = root.section("switchover");
    switchover.milliseconds("deadline_ms", config.switchover.deadline, 100, one_day_ms);
    switchover.integer("sequence_margin", config.switchover.sequence_margin, 0, 1'000'000'000'000);
    switchover.word("blocking_sessions", config.switchover.blocking_sessions, {"abort", "end"});
    switchover.finish();
}

void read_hooks(Section section, Config::Hooks& out) {
    section.strings("before_transition", out.before_transition);
    section.strings("after_transition", out.after_transition);
    section.milliseconds("timeout_ms", out.timeout, 1, one_day_ms);
    section.finish();
    for (const auto* key : {"before_transition", "after_transition"}) {
        const auto& command = key == std::string_view("before_transition") ? out.before_transition
                                                                           : out.after_transition;
        const bool address = !command.empty() && (command[0].starts_with("http://") ||
                                                  command[0].starts_with("https://"));
        if (!command.empty() && !address && !command[0].starts_with("/")) {
            section.bad(key, "begins with \"" + command[0] +
                                 "\"; write the program with its whole path, then its arguments, or an "
                                 "http:// or https:// address, then header lines");
        }
        for (std::size_t i = 1; address && i < command.size(); ++i) {
            if (command[i].find(':') == std::string::npos ||
                command[i].find_first_of("\r\n") != std::string::npos) {
                section.bad(key, "has \"" + command[i] +
                                     "\" behind the address; write a header line, \"Name: value\"");
            }
        }
    }
}

/// Unix milliseconds of "2027-01-31" (its first moment) or "2027-01-31T18:00:00Z".
std::optional<std::int64_t> parse_utc(const std::string& text) {
    std::tm time{};
    const char* rest = ::strptime(text.c_str(), "%Y-%m-%d", &time);
    if (rest != nullptr && *rest != '\0') {
        rest = ::strptime(rest, "T%H:%M:%SZ", &time);
    }
    if (rest == nullptr || *rest != '\0') {
        return std::nullopt;
    }
    return static_cast<std::int64_t>(::timegm(&time)) * 1000;
}

void read_tokens(Section& admin, std::vector<AdminToken>& tokens) {
    std::set<std::string> names;
    admin.each("tokens", [&](Section& section) {
        AdminToken token;
        section.text("name", token.name);
        section.text("sha256", token.sha256);
        section.word("role", token.role, {"viewer", "operator", "admin"});
        section.text("expires", token.expires);
        section.finish();
        if (const auto end = parse_utc(token.expires)) {
            token.expires_unix_ms = *end;
        } else if (!token.expires.empty()) {
            section.bad("expires", "is \"" + token.expires +
                                       "\"; write a date or a time in UTC, such as \"2027-01-31\" or "
                                       "\"2027-01-31T18:00:00Z\"");
        }
        std::transform(token.sha256.begin(), token.sha256.end(), token.sha256.begin(),
                       [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
        if (token.name.empty()) {
            section.bad("name", "is missing or empty; write the name the audit log shall show");
        } else if (!names.insert(token.name).second) {
            section.bad("name", "\"" + token.name + "\" is there twice; give each token its own");
        }
        if (token.sha256.size() != 64 ||
            token.sha256.find_first_not_of("0123456789abcdef") != std::string::npos) {
            section.bad("sha256",
                        "is not 64 hexadecimal digits; write the output of: "
                        "printf %s \"$TOKEN\" | sha256sum");
        }
        if (!section.has("role")) {
            section.bad("role", "is missing; write viewer, operator or admin");
        }
        tokens.push_back(std::move(token));
    });
}

void read_admin(Section section, Config::Admin& out) {
    section.text("host", out.host);
    section.integer("port", out.port, 0);
    section.path("port_file", out.port_file);
    section.strings("allowed_hosts", out.allowed_hosts);
    const bool said = section.has("sslmode");
    section.word("sslmode", out.sslmode, {"disable", "require", "verify-ca"});
    section.path("ssl_cert_file", out.ssl_cert_file);
    section.path("ssl_key_file", out.ssl_key_file);
    section.path("ssl_ca_file", out.ssl_ca_file);
    read_tokens(section, out.tokens);
    section.finish();
    if (out.tls() && (out.ssl_cert_file.empty() || out.ssl_key_file.empty())) {
        section.bad("sslmode", "is " + out.sslmode +
                                   ", which needs ssl_cert_file and ssl_key_file; name the files with "
                                   "certificate and key");
    }
    if (out.sslmode == "verify-ca" && out.ssl_ca_file.empty()) {
        section.bad("sslmode", "is verify-ca, which needs ssl_ca_file; name the file with the "
                               "certificates that sign the clients'");
    }
    if (out.host.empty()) {
        section.bad("host", "is empty; write an address such as 127.0.0.1");
    } else if (out.tokens.empty() && !is_loopback_host(out.host)) {
        section.bad("host", "is \"" + out.host +
                                "\", which others can reach, and there are no tokens; add an "
                                "[[admin.tokens]], or listen on 127.0.0.1");
    } else if (!said && !is_loopback_host(out.host)) {
        section.bad("host", "is \"" + out.host +
                                "\", where tokens would travel in the clear; set sslmode = \"require\" "
                                "with ssl_cert_file and ssl_key_file, or write sslmode = \"disable\" if "
                                "something else encrypts");
    }
    for (const auto& name : out.allowed_hosts) {
        if (name.empty() || name.find_first_of(":/* ") != std::string::npos) {
            section.bad("allowed_hosts", "has \"" + name +
                                             "\" in it; write a bare host name, without scheme, "
                                             "port or wildcard");
        }
    }
}

void read_process(Section& root, Config& config) {
    Section limits = root.section("limits");
    limits.integer("max_clients", config.limits.max_clients, 1, 1'000'000);
    limits.milliseconds("login_timeout_ms", config.limits.login_timeout, 10, one_day_ms);
    // PostgreSQL itself refuses messages of 1 GB and more.
    limits.integer("max_message_bytes", config.limits.max_message_bytes, 65'536, 1LL << 30U);
    limits.integer("max_clients_per_user", config.limits.max_clients_per_user, 0, 1'000'000);
    limits.integer("max_unauthenticated", config.limits.max_unauthenticated, 1, 1'000'000);
    limits.milliseconds("idle_in_transaction_timeout_ms", config.limits.idle_in_transaction_timeout,
                        0, one_day_ms);
    limits.integer("max_prepared_statements", config.limits.max_prepared_statements, 0, 1'000'000);
    limits.integer("max_session_bytes", config.limits.max_session_bytes, 1'048'576, 1LL << 40U);
    limits.finish();

    Section tcp = root.section("tcp");
    tcp.integer("keepalives_idle_s", config.tcp.keepalives_idle_s, 0, 32'767);
    tcp.integer("keepalives_interval_s", config.tcp.keepalives_interval_s, 0, 32'767);
    tcp.integer("keepalives_count", config.tcp.keepalives_count, 0, 127);
    tcp.integer("user_timeout_ms", config.tcp.user_timeout_ms, 0, one_day_ms);
    tcp.finish();

    Section shutdown = root.section("shutdown");
    shutdown.milliseconds("drain_timeout_ms", config.shutdown.drain_timeout, 0, one_day_ms);
    shutdown.milliseconds("ready_delay_ms", config.shutdown.ready_delay, 0, one_day_ms);
    shutdown.finish();

    Section proxy = root.section("proxy");
    proxy.integer("threads", config.threads, 0, 1024);
    proxy.integer("sessions_before_next_thread", config.sessions_before_next_thread, 1, 1'000'000);
    proxy.finish();

    Section log = root.section("log");
    log.word("level", config.log.level, {"trace", "debug", "info", "warn", "error"});
    log.word("format", config.log.format, {"text", "json"});
    log.finish();
}

bool same_database(const Endpoint& a, const Endpoint& b) {
    const auto host = [](const Endpoint& e) {
        return is_loopback_host(e.host) ? std::string("localhost") : e.host;
    };
    return host(a) == host(b) && a.port == b.port && a.database == b.database;
}

Config read(const toml::table* document, Problems& problems) {
    Config config;
    Section root(problems, document, "");
    read_listen(root.section("listen"), config.listen);
    read_migration(root.section("migration"), config.migration);
    read_endpoint(root.section("source"), config.source);
    read_endpoint(root.section("target"), config.target);
    read_mappings(root, config);
    read_users(root, config.users);

    Section state = root.section("state");
    state.path("directory", config.state_directory);
    state.finish();
    if (config.state_directory.empty()) {
        state.bad("directory",
                  "is missing or empty; write a directory on a durable disk that only Banyan uses");
    }
    Section journal = root.section("journal");
    journal.word("durability", config.durability, {"process", "power"});
    journal.integer("max_transaction_keys", config.journal.max_transaction_keys, 1, 1'000'000);
    journal.integer("max_dirty_keys", config.journal.max_dirty_keys, 100, 100'000'000);
    journal.finish();
    Section lease = root.section("lease");
    lease.milliseconds("ttl_ms", config.lease.ttl, 1000, one_day_ms);
    lease.finish();

    read_mirror(root.section("mirror"), config.mirror);
    read_sync(root, config);
    read_admin(root.section("admin"), config.admin);
    read_hooks(root.section("hooks"), config.hooks);
    read_process(root, config);
    root.finish();

    if (!config.source.host.empty() && same_database(config.source, config.target)) {
        root.bad("target", "is the same database as [source]; write where the new one is");
    }
    if (config.listen.port != 0 && config.listen.port == config.admin.port &&
        config.listen.host == config.admin.host) {
        root.section("admin").bad("port", "is the same as listen.port; write another");
    }
    if (config.migration.database.empty()) {
        config.migration.database = config.source.database;
    }
    return config;
}

}  // namespace

bool is_loopback_host(std::string_view host) {
    return host == "localhost" || host == "::1" || host == "[::1]" ||
           (host.starts_with("127.") &&
            host.find_first_not_of("0123456789.") == std::string_view::npos);
}

bool Config::Mirror::login(std::string_view method) const {
    return std::find(logins.begin(), logins.end(), method) != logins.end();
}

DdlPolicy Config::Mirror::ddl_policy(Phase phase) const {
    switch (phase) {
        case Phase::dual_write:
            return ddl_in_dual_write.value_or(ddl);
        case Phase::dual_read:
            return ddl_in_dual_read.value_or(ddl);
        case Phase::switchover:
            return ddl_in_switchover.value_or(ddl);
        case Phase::initial:
        case Phase::complete:
            break;
    }
    return DdlPolicy::mirror;
}

const UserLogin* Config::user(const std::string& name) const {
    const auto found = std::find_if(users.begin(), users.end(),
                                    [&](const UserLogin& user) { return user.name == name; });
    return found == users.end() ? nullptr : &*found;
}

std::shared_ptr<const Config> Config::latest() const {
    if (reloads != nullptr) {
        const std::lock_guard lock(reloads->mutex);
        if (reloads->config != nullptr) {
            return reloads->config;
        }
    }
    return {std::shared_ptr<const Config>(), this};
}

std::vector<std::string> config_keys() {
    Problems problems("", true);
    read(nullptr, problems);
    return std::move(problems).keys();
}

Result<Config> parse_config(std::string_view text, const std::filesystem::path& file) {
    Problems problems(file);
    try {
        const toml::table document = toml::parse(text, file.string());
        Config config = read(&document, problems);
        if (!problems.empty()) {
            return Error{problems.text(), {}};
        }
        config.file = file;
        config.values = std::move(problems).values();
        return config;
    } catch (const toml::parse_error& error) {
        const auto& begin = error.source().begin;
        return Error{file.string() + ":" + std::to_string(begin.line) + ":" +
                         std::to_string(begin.column) +
                         ": not valid TOML: " + std::string(error.description()),
                     {}};
    }
}

Result<Config> load_config(const std::filesystem::path& file) {
    std::error_code ignored;
    if (std::filesystem::is_directory(file, ignored)) {
        return Error{file.string() + ": is a directory; name the configuration file", {}};
    }
    std::ifstream in(file, std::ios::binary);
    if (!in) {
        return Error{file.string() +
                         ": cannot be read; check that it exists and its permissions "
                         "(see deploy/banyan.example.toml for a start)",
                     {}};
    }
    if (const auto size = std::filesystem::file_size(file, ignored);
        !ignored && size > largest_file_bytes) {
        return Error{file.string() + ": is larger than 1 MB; this is not a configuration file", {}};
    }
    std::ostringstream text;
    text << in.rdbuf();
    return parse_config(text.str(), file);
}

}  // namespace banyan::router
