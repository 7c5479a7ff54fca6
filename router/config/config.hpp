// The one configuration file (TOML). Every key is documented in deploy/banyan.example.toml.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "router/catalog/mapping_rule.hpp"
#include "router/config/ddl_policy.hpp"
#include "router/model/result.hpp"
#include "router/model/types.hpp"
#include "router/pg/connection.hpp"

namespace banyan::router {

/// How a client's role logs in to the two databases when Banyan must do it itself (the mirror's
/// connection): [[users]]. An absent password means the server is expected to trust.
struct UserLogin {
    std::string name;             ///< as the client says
    std::string source_password;
    std::string target_password;
};

struct AdminToken {
    std::string name;    ///< shown in the audit log
    std::string sha256;  ///< of the token, 64 hexadecimal digits
    std::string role;    ///< "viewer", "operator", "admin"
    std::string expires{};             ///< as written; empty: never
    std::int64_t expires_unix_ms = 0;  ///< the same; 0: never
};

struct LatestConfig;

struct Config {
    std::filesystem::path file;
    /// Every key's value as text, the defaults' too, by the names of config_keys(); secrets as well.
    std::map<std::string, std::string> values;

    struct Listen {                       // [listen]
        std::string host = "127.0.0.1";
        std::uint16_t port = 6432;        ///< 0: any free port
        std::filesystem::path port_file;  ///< the chosen port is written here, if set
        std::filesystem::path unix_socket_directory;  ///< empty: no Unix socket
        std::uint32_t unix_socket_permissions = 0777;
        bool proxy_protocol = false;      ///< every TCP connection begins with a v2 header
        std::string sslmode = "disable";  ///< disable, allow, require, verify-ca, verify-full
        std::filesystem::path ssl_cert_file;
        std::filesystem::path ssl_key_file;
        std::filesystem::path ssl_ca_file;  ///< of the clients' certificates
        std::string ssl_min_protocol_version = "TLSv1.2";

        bool tls() const { return sslmode != "disable"; }
        bool tls_required() const { return tls() && sslmode != "allow"; }
        bool client_certificate_required() const { return sslmode.starts_with("verify"); }
    } listen;

    struct Migration {                    // [migration]
        std::string database;             ///< what clients ask for; default: the source's name
        std::vector<std::string> exclude; ///< "schema.table" names left out of mirroring
    } migration;

    std::vector<MappingRule> mappings;    // [[mapping]] source target columns where reverse ignore

    Endpoint source;                      // [source] host port database user password
    Endpoint target;                      // [target]
    std::vector<UserLogin> users;         // [[users]]

    std::filesystem::path state_directory;  // [state] directory
    std::string durability = "process";     // [journal] durability: "process" or "power"
    struct Journal {                        // [journal]
        /// Keys kept of one table in one transaction; more become ranges.
        std::uint64_t max_transaction_keys = 10'000;
        std::uint64_t max_dirty_keys = 1'000'000;  ///< in all; more become ranges to be verified
    } journal;

    struct Mirror {                       // [mirror]
        std::chrono::milliseconds commit_timeout{2000};  ///< longest a client waits for the mirror
        std::chrono::milliseconds lock_timeout{1500};    ///< PostgreSQL's, on mirror connections
        std::chrono::milliseconds connect_timeout{2000};
        /// Of sessions on the mirror: "off", or "on": an answered COMMIT is on its disk.
        std::string synchronous_commit = "off";
        std::chrono::milliseconds ddl_timeout{10000};    ///< the same if it changed the schema
        std::uint32_t failures_to_open = 3;              ///< breaker
        std::chrono::milliseconds probe_interval{500};   ///< before the first probe; then doubled
        std::chrono::milliseconds longest_probe_interval{5000};
        std::string on_failure = "journal";              ///< on_mirror_failure; or "reject"
        /// How its connections may be logged in: "users", "scram_keys", "service_role".
        std::vector<std::string> logins{"users", "scram_keys"};
        DdlPolicy ddl = DdlPolicy::mirror;               ///< changes of the schema
        /// Other policies by phase; nullopt: `ddl`.
        std::optional<DdlPolicy> ddl_in_dual_write, ddl_in_dual_read, ddl_in_switchover;
        bool allow_md5 = true;                           ///< when a server asks so for a password
        std::string allow_cleartext = "encrypted";       ///< "never", "encrypted", "always"

        bool login(std::string_view method) const;
        DdlPolicy ddl_policy(Phase phase) const;
    } mirror;

    struct Backfill {                     // [backfill]
        std::uint32_t workers = 1;
        std::chrono::milliseconds chunk_time{50};
        std::uint32_t max_chunk_rows = 50000;
        std::uint32_t max_rows_per_second = 0;  ///< 0: no limit
    } backfill;

    struct Repair {                       // [repair]
        std::uint32_t max_keys_per_second = 0;  ///< 0: no limit
        bool adaptive = true;             ///< slower while the application waits for it
    } repair;

    struct Shadow {                       // [shadow]
        double share = 1.0;
        std::uint32_t recheck_attempts = 5;
        std::uint32_t max_discrepancies = 10000;  ///< kept in the state database
        std::filesystem::path log;        ///< JSON lines, one per confirmed discrepancy; empty: none
        bool redact = true;
        std::uint32_t min_samples = 100;  ///< shadow reads before the SWITCHOVER gate can pass
        double rerun_share = 0.05;        ///< of the reads that matched; see router/shadow/rerun.hpp
        double rerun_duty = 0.02;         ///< share of the time that they may take
        double slower_factor = 3;         ///< times the source's: the target counts as slower
        std::chrono::milliseconds slower_by{5};  ///< and by that much, too
    } shadow;

    struct Switchover {                   // [switchover]
        std::chrono::milliseconds deadline{30000};      ///< of a transition, default
        std::int64_t sequence_margin = 1000;
        /// What becomes of sessions that own what cannot be brought along: "abort", "end".
        std::string blocking_sessions = "abort";
    } switchover;

    struct Admin {                        // [admin]
        std::string host = "127.0.0.1";
        std::uint16_t port = 8432;        ///< 0: any free port
        std::filesystem::path port_file;
        std::vector<std::string> allowed_hosts;  ///< further Host names, for a proxy or DNS name
        std::vector<AdminToken> tokens;   // [[admin.tokens]]
        std::string sslmode = "disable";  ///< disable, require, verify-ca (clients show certificates)
        std::filesystem::path ssl_cert_file;
        std::filesystem::path ssl_key_file;
        std::filesystem::path ssl_ca_file;

        bool tls() const { return sslmode != "disable"; }
    } admin;

    struct Hooks {                        // [hooks], of every transition
        /// Commands (program and arguments, no shell), or an http(s) address and header lines; empty: none.
        std::vector<std::string> before_transition;  ///< one that fails stops the transition
        std::vector<std::string> after_transition;
        std::chrono::milliseconds timeout{10000};
    } hooks;

    struct Limits {                       // [limits]
        std::uint32_t max_clients = 1000;
        std::chrono::milliseconds login_timeout{60000};
        std::uint64_t max_message_bytes = 1ULL << 30U;
        std::uint32_t max_clients_per_user = 0;    ///< 0: no limit
        std::uint32_t max_unauthenticated = 1000;  ///< connections that have not logged in
        std::chrono::milliseconds idle_in_transaction_timeout{0};  ///< 0: none
        std::uint32_t max_prepared_statements = 0;                 ///< per session; 0: no limit
        /// Rows kept for a fetch in pieces, keys of a transaction, bytes for a mirror that is
        /// behind.
        std::uint64_t max_session_bytes = 256ULL << 20U;
    } limits;

    struct Tcp {                          // [tcp], of clients and of servers; 0: the system's
        std::uint32_t keepalives_idle_s = 60;
        std::uint32_t keepalives_interval_s = 10;
        std::uint32_t keepalives_count = 6;
        std::uint32_t user_timeout_ms = 0;
    } tcp;

    struct Shutdown {                     // [shutdown]
        std::chrono::milliseconds drain_timeout{10000};  ///< for transactions to end
        std::chrono::milliseconds ready_delay{0};  ///< not ready, but serving, before the drain
    } shutdown;

    std::uint32_t threads = 0;            // [proxy] threads; 0: one per core
    std::uint32_t sessions_before_next_thread = 8;  // [proxy]
    struct Log {                          // [log]
        std::string level = "info";
        std::string format = "text";      ///< "text" or "json"
    } log;

    struct Lease {                        // [lease]
        std::chrono::milliseconds ttl{15000};  ///< another may take over after that
    } lease;

    const UserLogin* user(const std::string& name) const;

    /// What the last reload has made of it (router/config/reload.hpp); itself until then. For
    /// threads that look at a live key when they need it; sessions read their event loop's copy.
    std::shared_ptr<const Config> latest() const;
    std::shared_ptr<LatestConfig> reloads;  ///< null: nothing is ever reloaded
};

struct LatestConfig {
    std::mutex mutex;
    std::shared_ptr<const Config> config;  ///< null: none was reloaded
};

/// True for "localhost", 127.0.0.0/8 and ::1.
bool is_loopback_host(std::string_view host);

/// Every key a file may have, as "section.key", "users[].name", "admin.tokens[].role".
std::vector<std::string> config_keys();

/// Reads and checks a file. An Error's message names file, line and key and says what to do, one
/// line for each problem. Unknown keys, wrong types and impossible values are errors.
Result<Config> load_config(const std::filesystem::path& file);
/// The same from text; `file` is used in messages only.
Result<Config> parse_config(std::string_view text, const std::filesystem::path& file);

}  // namespace banyan::router
