#include "router/config/config.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>

namespace banyan::router {
namespace {

using std::chrono::milliseconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

const std::string minimal = R"([source]
host = "s"
database = "d"
user = "u"
[target]
host = "t"
database = "d"
user = "u"
[state]
directory = "/tmp/x"
)";

std::string example_text() {
    std::ifstream in(BANYAN_SOURCE_DIR "/deploy/banyan.example.toml");
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
}

/// The example with every commented-out key and table taken in.
std::string uncommented(const std::string& text) {
    std::istringstream in(text);
    std::string out;
    for (std::string line; std::getline(in, line);) {
        if (line.starts_with("# ")) {
            const std::string rest = line.substr(2);
            const auto word = rest.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_");
            const bool key =
                word != 0 && word != std::string::npos && rest.compare(word, 3, " = ") == 0;
            if (key || rest.starts_with("[")) {
                line = rest;
            }
        }
        out += line + "\n";
    }
    return out;
}

/// "section.key" of every key line, commented out or not; tables of an array get "[]".
std::vector<std::string> documented_keys(const std::string& text) {
    std::istringstream in(uncommented(text));
    std::vector<std::string> keys;
    std::string section;
    for (std::string line; std::getline(in, line);) {
        if (line.starts_with("[[")) {
            section = line.substr(2, line.find("]]") - 2) + "[]";
        } else if (line.starts_with("[")) {
            section = line.substr(1, line.find(']') - 1);
        } else if (const auto equals = line.find(" = ");
                   equals != std::string::npos && !line.starts_with("#") && line[0] != ' ') {
            keys.push_back(section + "." + line.substr(0, equals));
        }
    }
    return keys;
}

TEST(Config, the_example_file_parses_and_shows_the_defaults) {
    const auto parsed = load_config(BANYAN_SOURCE_DIR "/deploy/banyan.example.toml");
    ASSERT_TRUE(parsed) << parsed.error().message;
    EXPECT_EQ(parsed->listen.port, Config{}.listen.port);
    EXPECT_EQ(parsed->migration.database, "shop");
    EXPECT_TRUE(parsed->admin.tokens.empty());
}

TEST(Config, the_commented_keys_of_the_example_are_valid_and_show_the_defaults) {
    const auto parsed = parse_config(uncommented(example_text()), "example");
    ASSERT_TRUE(parsed) << parsed.error().message;
    const Config none;
    EXPECT_EQ(parsed->mirror.commit_timeout, none.mirror.commit_timeout);
    EXPECT_EQ(parsed->mirror.lock_timeout, none.mirror.lock_timeout);
    EXPECT_EQ(parsed->mirror.connect_timeout, none.mirror.connect_timeout);
    EXPECT_EQ(parsed->mirror.ddl_timeout, none.mirror.ddl_timeout);
    EXPECT_EQ(parsed->mirror.ddl, none.mirror.ddl);
    EXPECT_EQ(parsed->mirror.failures_to_open, none.mirror.failures_to_open);
    EXPECT_EQ(parsed->mirror.probe_interval, none.mirror.probe_interval);
    EXPECT_EQ(parsed->mirror.longest_probe_interval, none.mirror.longest_probe_interval);
    EXPECT_EQ(parsed->mirror.on_failure, none.mirror.on_failure);
    EXPECT_EQ(parsed->repair.max_keys_per_second, none.repair.max_keys_per_second);
    EXPECT_EQ(parsed->repair.adaptive, none.repair.adaptive);
    EXPECT_EQ(parsed->backfill.workers, none.backfill.workers);
    EXPECT_EQ(parsed->backfill.chunk_time, none.backfill.chunk_time);
    EXPECT_EQ(parsed->backfill.max_chunk_rows, none.backfill.max_chunk_rows);
    EXPECT_EQ(parsed->backfill.max_rows_per_second, none.backfill.max_rows_per_second);
    EXPECT_EQ(parsed->shadow.share, none.shadow.share);
    EXPECT_EQ(parsed->shadow.recheck_attempts, none.shadow.recheck_attempts);
    EXPECT_EQ(parsed->shadow.max_discrepancies, none.shadow.max_discrepancies);
    EXPECT_EQ(parsed->shadow.redact, none.shadow.redact);
    EXPECT_EQ(parsed->shadow.min_samples, none.shadow.min_samples);
    EXPECT_EQ(parsed->switchover.deadline, none.switchover.deadline);
    EXPECT_EQ(parsed->switchover.sequence_margin, none.switchover.sequence_margin);
    EXPECT_EQ(parsed->switchover.blocking_sessions, none.switchover.blocking_sessions);
    EXPECT_EQ(parsed->limits.max_clients, none.limits.max_clients);
    EXPECT_EQ(parsed->limits.login_timeout, none.limits.login_timeout);
    EXPECT_EQ(parsed->limits.max_message_bytes, none.limits.max_message_bytes);
    EXPECT_EQ(parsed->limits.max_session_bytes, none.limits.max_session_bytes);
    EXPECT_EQ(parsed->shutdown.drain_timeout, none.shutdown.drain_timeout);
    EXPECT_EQ(parsed->shutdown.ready_delay, none.shutdown.ready_delay);
    EXPECT_EQ(parsed->source.connect_timeout, none.source.connect_timeout);
    EXPECT_EQ(parsed->source.sslmode, none.source.sslmode);
    EXPECT_EQ(parsed->listen.sslmode, none.listen.sslmode);
    EXPECT_EQ(parsed->listen.ssl_min_protocol_version, none.listen.ssl_min_protocol_version);
    EXPECT_EQ(parsed->listen.unix_socket_permissions, none.listen.unix_socket_permissions);
    EXPECT_EQ(parsed->listen.proxy_protocol, none.listen.proxy_protocol);
    EXPECT_EQ(parsed->tcp.keepalives_idle_s, none.tcp.keepalives_idle_s);
    EXPECT_EQ(parsed->tcp.keepalives_interval_s, none.tcp.keepalives_interval_s);
    EXPECT_EQ(parsed->tcp.keepalives_count, none.tcp.keepalives_count);
    EXPECT_EQ(parsed->tcp.user_timeout_ms, none.tcp.user_timeout_ms);
    EXPECT_EQ(parsed->durability, none.durability);
    EXPECT_EQ(parsed->journal.max_transaction_keys, none.journal.max_transaction_keys);
    EXPECT_EQ(parsed->journal.max_dirty_keys, none.journal.max_dirty_keys);
    EXPECT_EQ(parsed->lease.ttl, none.lease.ttl);
    EXPECT_EQ(parsed->threads, none.threads);
    EXPECT_EQ(parsed->log.level, none.log.level);
    EXPECT_EQ(parsed->log.format, none.log.format);
}

TEST(Config, every_key_is_documented_in_the_example_and_the_example_has_no_other) {
    EXPECT_THAT(documented_keys(example_text()), testing::UnorderedElementsAreArray(config_keys()));
}

// The bindings name every member, so that a member added to the struct does not compile here until
// it has been given a key, a line in the example file and a check below.
TEST(Config, every_key_reaches_its_member) {
    const auto parsed = parse_config(R"(
listen = {host = "a", port = 1, port_file = "b", unix_socket_directory = "la", unix_socket_permissions = "0640", proxy_protocol = true, sslmode = "verify-ca", ssl_cert_file = "lb", ssl_key_file = "lc", ssl_ca_file = "ld", ssl_min_protocol_version = "TLSv1.3"}
migration = {database = "c", exclude = ["d.e"]}
mapping = [{source = "ma.mb", target = "mc.md", columns = {me = "mf", mg = "mh + 1"}, where = "mi > 0", reverse = {mj = "mk"}, ignore = ["ml"]}]
source = {host = "f", port = 2, database = "g", user = "h", password = "i", connect_timeout_ms = 11, sslmode = "verify-full", sslrootcert = "sa", sslcert = "sb", sslkey = "sc"}
target = {host = "j", port = 3, database = "k", user = "l", password = "m", connect_timeout_ms = 12}
users = [{name = "n", source_password = "o", target_password = "p"}]
state = {directory = "q"}
journal = {durability = "power", max_transaction_keys = 35, max_dirty_keys = 136}
lease = {ttl_ms = 3000}
mirror = {commit_timeout_ms = 14, lock_timeout_ms = 13, connect_timeout_ms = 15, failures_to_open = 16, probe_interval_ms = 17, longest_probe_interval_ms = 35, on_mirror_failure = "reject", synchronous_commit = "on", logins = ["service_role"], ddl_timeout_ms = 18, ddl = "primary_only", ddl_in_dual_write = "mirror", ddl_in_dual_read = "refuse", ddl_in_switchover = "refuse", allow_md5 = false, allow_cleartext = "never"}
backfill = {workers = 18, chunk_time_ms = 19, max_chunk_rows = 20, max_rows_per_second = 21}
repair = {max_keys_per_second = 36, adaptive = false}
shadow = {share = 0.25, recheck_attempts = 22, max_discrepancies = 23, log = "r", redact = false, min_samples = 24, rerun_share = 0.125, rerun_duty = 0.5, slower_factor = 7.5, slower_by_ms = 138}
switchover = {deadline_ms = 125, sequence_margin = 26, blocking_sessions = "end"}
admin = {host = "s", port = 27, port_file = "t", allowed_hosts = ["u"], sslmode = "verify-ca", ssl_cert_file = "ta", ssl_key_file = "tb", ssl_ca_file = "tc", tokens = [{name = "v", role = "admin", expires = "2027-01-31T18:00:01Z", sha256 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}
hooks = {before_transition = ["/ba", "bb"], after_transition = ["/bc"], timeout_ms = 37}
limits = {max_clients = 28, login_timeout_ms = 29, max_message_bytes = 65537, max_clients_per_user = 31, max_unauthenticated = 32, idle_in_transaction_timeout_ms = 33, max_prepared_statements = 34, max_session_bytes = 1048577}
tcp = {keepalives_idle_s = 31, keepalives_interval_s = 32, keepalives_count = 33, user_timeout_ms = 34}
shutdown = {drain_timeout_ms = 35, ready_delay_ms = 36}
proxy = {threads = 30, sessions_before_next_thread = 39}
log = {level = "debug", format = "json"}
)",
                                     "file");
    ASSERT_TRUE(parsed) << parsed.error().message;
    const auto& [file, values, listen, migration, mappings, source, target, users, state_directory, durability,
                 journal, mirror, backfill, repair, shadow, switchover, admin, hooks, limits, tcp, shutdown, threads, sessions_before_next_thread, log,
                 lease, reloads] = *parsed;
    EXPECT_EQ(file, "file");
    EXPECT_EQ(values.size(), config_keys().size());
    EXPECT_EQ(reloads, nullptr);
    {
        const auto& [max_transaction_keys, max_dirty_keys] = journal;
        EXPECT_EQ(max_transaction_keys, 35U);
        EXPECT_EQ(max_dirty_keys, 136U);
    }
    {
        const auto& [before_transition, after_transition, timeout] = hooks;
        EXPECT_THAT(before_transition, testing::ElementsAre("/ba", "bb"));
        EXPECT_THAT(after_transition, testing::ElementsAre("/bc"));
        EXPECT_EQ(timeout, milliseconds(37));
    }
    {
        const auto& [drain_timeout, ready_delay] = shutdown;
        EXPECT_EQ(drain_timeout, milliseconds(35));
        EXPECT_EQ(ready_delay, milliseconds(36));
    }
    {
        const auto& [host, port, port_file, socket_directory, permissions, proxy_protocol, sslmode,
                     cert, key, ca, min_version] = listen;
        EXPECT_EQ(socket_directory, "la");
        EXPECT_EQ(permissions, 0640U);
        EXPECT_TRUE(proxy_protocol);
        EXPECT_EQ(sslmode, "verify-ca");
        EXPECT_EQ(cert.string() + key.string() + ca.string(), "lblcld");
        EXPECT_EQ(min_version, "TLSv1.3");
        EXPECT_EQ(host, "a");
        EXPECT_EQ(port, 1);
        EXPECT_EQ(port_file, "b");
    }
    {
        const auto& [database, exclude] = migration;
        EXPECT_EQ(database, "c");
        EXPECT_THAT(exclude, testing::ElementsAre("d.e"));
    }
    {
        const auto& [host, port, database, user, password, connect_timeout, sslmode, sslrootcert,
                     sslcert, sslkey] = source;
        EXPECT_EQ(sslmode + sslrootcert + sslcert + sslkey, "verify-fullsasbsc");
        EXPECT_EQ(host + database + user + password, "fghi");
        EXPECT_EQ(port, 2);
        EXPECT_EQ(connect_timeout, milliseconds(11));
    }
    ASSERT_EQ(mappings.size(), 1U);
    {
        const auto& [from, to, columns, where, reverse, ignore] = mappings[0];
        EXPECT_EQ(from.text() + " " + to.text(), "ma.mb mc.md");
        EXPECT_EQ(columns.at("me"), (RowExpression{"\"mf\"", {"mf"}, true}));
        EXPECT_EQ(columns.at("mg"), (RowExpression{"(\nmh + 1\n)", {"mh"}, false}));
        EXPECT_EQ(where, (RowExpression{"(\nmi > 0\n)", {"mi"}, false}));
        EXPECT_EQ(reverse.at("mj").columns, std::vector<std::string>{"mk"});
        EXPECT_THAT(ignore, testing::ElementsAre("ml"));
    }
    EXPECT_EQ(target.host + target.database + target.user + target.password, "jklm");
    EXPECT_EQ(target.port, 3);
    EXPECT_EQ(target.connect_timeout, milliseconds(12));
    ASSERT_EQ(users.size(), 1U);
    {
        const auto& [name, source_password, target_password] = users[0];
        EXPECT_EQ(name + source_password + target_password, "nop");
        EXPECT_EQ(parsed->user("n"), &users[0]);
        EXPECT_EQ(parsed->user("x"), nullptr);
    }
    {
        const auto& [idle, interval, count, user_timeout] = tcp;
        EXPECT_EQ(idle, 31U);
        EXPECT_EQ(interval, 32U);
        EXPECT_EQ(count, 33U);
        EXPECT_EQ(user_timeout, 34U);
    }
    EXPECT_EQ(state_directory, "q");
    EXPECT_EQ(durability, "power");
    EXPECT_EQ(lease.ttl, milliseconds(3000));
    {
        const auto& [commit, lock, connect, synchronous_commit, ddl_timeout, failures, probe, longest_probe,
                     on_failure, logins, ddl, ddl_in_dual_write, ddl_in_dual_read, ddl_in_switchover, md5, cleartext] =
            mirror;
        EXPECT_EQ(synchronous_commit, "on");
        EXPECT_EQ(ddl_timeout, milliseconds(18));
        EXPECT_EQ(ddl, DdlPolicy::primary_only);
        EXPECT_EQ(ddl_in_dual_write, DdlPolicy::mirror);
        EXPECT_EQ(ddl_in_dual_read, DdlPolicy::refuse);
        EXPECT_EQ(ddl_in_switchover, DdlPolicy::refuse);
        EXPECT_THAT(logins, testing::ElementsAre("service_role"));
        EXPECT_FALSE(md5);
        EXPECT_EQ(cleartext, "never");
        EXPECT_EQ(commit, milliseconds(14));
        EXPECT_EQ(lock, milliseconds(13));
        EXPECT_EQ(connect, milliseconds(15));
        EXPECT_EQ(failures, 16U);
        EXPECT_EQ(probe, milliseconds(17));
        EXPECT_EQ(longest_probe, milliseconds(35));
        EXPECT_EQ(on_failure, "reject");
    }
    {
        const auto& [max_keys_per_second, adaptive] = repair;
        EXPECT_EQ(max_keys_per_second, 36U);
        EXPECT_FALSE(adaptive);
    }
    {
        const auto& [workers, chunk_time, max_chunk_rows, max_rows_per_second] = backfill;
        EXPECT_EQ(workers, 18U);
        EXPECT_EQ(chunk_time, milliseconds(19));
        EXPECT_EQ(max_chunk_rows, 20U);
        EXPECT_EQ(max_rows_per_second, 21U);
    }
    {
        const auto& [share, attempts, max_discrepancies, log_file, redact, min_samples,
                     rerun_share, rerun_duty, slower_factor, slower_by] = shadow;
        EXPECT_EQ(share, 0.25);
        EXPECT_EQ(attempts, 22U);
        EXPECT_EQ(max_discrepancies, 23U);
        EXPECT_EQ(log_file, "r");
        EXPECT_FALSE(redact);
        EXPECT_EQ(min_samples, 24U);
        EXPECT_EQ(rerun_share, 0.125);
        EXPECT_EQ(rerun_duty, 0.5);
        EXPECT_EQ(slower_factor, 7.5);
        EXPECT_EQ(slower_by, milliseconds(138));
    }
    {
        const auto& [deadline, sequence_margin, blocking_sessions] = switchover;
        EXPECT_EQ(deadline, milliseconds(125));
        EXPECT_EQ(sequence_margin, 26);
        EXPECT_EQ(blocking_sessions, "end");
    }
    {
        const auto& [host, port, port_file, allowed_hosts, tokens, sslmode, ssl_cert_file, ssl_key_file,
                     ssl_ca_file] = admin;
        EXPECT_EQ(sslmode, "verify-ca");
        EXPECT_EQ(ssl_cert_file, "ta");
        EXPECT_EQ(ssl_key_file, "tb");
        EXPECT_EQ(ssl_ca_file, "tc");
        EXPECT_EQ(host, "s");
        EXPECT_EQ(port, 27);
        EXPECT_EQ(port_file, "t");
        EXPECT_THAT(allowed_hosts, testing::ElementsAre("u"));
        ASSERT_EQ(tokens.size(), 1U);
        const auto& [name, sha256, role, expires, expires_unix_ms] = tokens[0];
        EXPECT_EQ(expires, "2027-01-31T18:00:01Z");
        EXPECT_EQ(expires_unix_ms, 1801418401000);
        EXPECT_EQ(name, "v");
        EXPECT_EQ(sha256, std::string(64, 'a'));
        EXPECT_EQ(role, "admin");
    }
    {
        const auto& [max_clients, login_timeout, max_message_bytes, per_user, unauthenticated,
                     idle, statements, session_bytes] = limits;
        EXPECT_EQ(per_user, 31U);
        EXPECT_EQ(unauthenticated, 32U);
        EXPECT_EQ(idle, milliseconds(33));
        EXPECT_EQ(statements, 34U);
        EXPECT_EQ(session_bytes, 1048577U);
        EXPECT_EQ(max_clients, 28U);
        EXPECT_EQ(login_timeout, milliseconds(29));
        EXPECT_EQ(max_message_bytes, 65537U);
    }
    EXPECT_EQ(threads, 30U);
    EXPECT_EQ(sessions_before_next_thread, 39U);
    EXPECT_EQ(log.level, "debug");
    EXPECT_EQ(log.format, "json");
}

TEST(Config, changes_of_the_schema_follow_the_phases_policy_or_the_general_one) {
    Config::Mirror mirror;
    EXPECT_EQ(mirror.ddl_policy(Phase::dual_read), DdlPolicy::mirror);
    mirror.ddl = DdlPolicy::primary_only;
    mirror.ddl_in_dual_read = DdlPolicy::refuse;
    EXPECT_EQ(mirror.ddl_policy(Phase::dual_write), DdlPolicy::primary_only);
    EXPECT_EQ(mirror.ddl_policy(Phase::dual_read), DdlPolicy::refuse);
    EXPECT_EQ(mirror.ddl_policy(Phase::switchover), DdlPolicy::primary_only);
    EXPECT_EQ(mirror.ddl_policy(Phase::initial), DdlPolicy::mirror);
}

TEST(Config, the_smallest_file_is_enough_and_takes_the_database_name_from_the_source) {
    const auto parsed = parse_config(minimal, "f.toml");
    ASSERT_TRUE(parsed) << parsed.error().message;
    EXPECT_EQ(parsed->migration.database, "d");
    EXPECT_EQ(parsed->source.port, 5432);
}

std::string with_source(const std::string& keys) {
    std::string text = minimal;
    return text.insert(text.find("[target]"), keys + "\n");
}

TEST(Config, tls_to_a_server_needs_what_it_is_verified_with) {
    EXPECT_THAT(parse_config(with_source("sslmode = \"verify-full\""), "f").error().message,
                AllOf(StartsWith("f:5: source.sslmode: is verify-full"), HasSubstr("sslrootcert")));
    EXPECT_THAT(parse_config(with_source("sslcert = \"c\""), "f").error().message,
                AllOf(StartsWith("f:"), HasSubstr("belong together")));
    EXPECT_THAT(parse_config("[source]\nhost = \"/run\"\nsslmode = \"require\"\n", "f").error().message,
                HasSubstr("host is a Unix socket"));
    const auto verified = parse_config(
        with_source("sslmode = \"require\"\nsslrootcert = \"r\""), "f");
    ASSERT_TRUE(verified) << verified.error().message;
    EXPECT_TRUE(verified->source.verifies_certificate());
    EXPECT_FALSE(verified->target.encrypted());
}

struct Refused {
    const char* name;
    std::string text;  ///< appended to `minimal` (11 lines, the next one is line 11)
    const char* start;
    const char* advice;
};

class RefusedConfig : public testing::TestWithParam<Refused> {};

TEST_P(RefusedConfig, names_file_line_and_key_and_says_what_to_do) {
    const auto parsed = parse_config(minimal + GetParam().text, "dir/f.toml");
    ASSERT_FALSE(parsed);
    EXPECT_THAT(parsed.error().message,
                AllOf(HasSubstr(GetParam().start), HasSubstr(GetParam().advice)));
}

const Refused refusals[] = {
    {"unknown_section", "[sauce]\nx = 1\n", "dir/f.toml:11: sauce: is not a known key",
     "did you mean source?"},
    {"unknown_key", "[listen]\nprot = 1\n", "dir/f.toml:12: listen.prot: is not a known key",
     "did you mean port?"},
    {"unknown_far_key", "[listen]\nxyzzyxyzzy = 1\n", "listen.xyzzyxyzzy: is not a known key",
     "remove it; known here are: host, port, port_file"},
    {"unknown_in_array", "[[users]]\nname = \"a\"\npass = \"x\"\n",
     "dir/f.toml:13: users[].pass: is not a known key", "source_password"},
    {"string_for_integer", "[listen]\nport = \"6432\"\n", "dir/f.toml:12: listen.port: is a string",
     "write an integer from 0 to 65535"},
    {"float_for_integer", "[backfill]\nworkers = 1.5\n",
     "dir/f.toml:12: backfill.workers:", "write an integer"},
    {"mirror_login_unknown", "[mirror]\nlogins = [\"users\", \"magic\"]\n",
     "dir/f.toml:12: mirror.logins: has \"magic\"", "write users, scram_keys or service_role"},
    {"duration_with_unit", "[mirror]\ncommit_timeout_ms = \"2s\"\n",
     "dir/f.toml:12: mirror.commit_timeout_ms: is a string", "without quotes or unit"},
    {"integer_for_string", "[listen]\nhost = 1\n", "dir/f.toml:12: listen.host: is an integer",
     "a string in quotes"},
    {"string_for_boolean", "[shadow]\nredact = \"no\"\n",
     "dir/f.toml:12: shadow.redact:", "true or false"},
    {"string_for_number", "[shadow]\nshare = \"all\"\n",
     "dir/f.toml:12: shadow.share:", "a number from 0 to 1"},
    {"share_above_one", "[shadow]\nshare = 1.5\n", "dir/f.toml:12: shadow.share: is 1.5",
     "from 0 to 1"},
    {"share_nan", "[shadow]\nshare = nan\n", "dir/f.toml:12: shadow.share:", "from 0 to 1"},
    {"port_too_large", "[listen]\nport = 65536\n", "dir/f.toml:12: listen.port: is 65536", "65535"},
    {"negative", "[limits]\nmax_clients = -1\n", "dir/f.toml:12: limits.max_clients: is -1",
     "write an integer from 1"},
    {"durability", "[journal]\ndurability = \"paranoid\"\n",
     "dir/f.toml:12: journal.durability: is \"paranoid\"", "write one of process, power"},
    {"tls_without_certificate", "[listen]\nsslmode = \"require\"\n",
     "dir/f.toml:12: listen.sslmode: is require", "needs ssl_cert_file and ssl_key_file"},
    {"client_certificates_without_authority",
     "[listen]\nsslmode = \"verify-full\"\nssl_cert_file = \"c\"\nssl_key_file = \"k\"\n",
     "dir/f.toml:12: listen.sslmode: is verify-full", "needs ssl_ca_file"},
    {"socket_mode", "[listen]\nunix_socket_permissions = \"rwx\"\n",
     "dir/f.toml:12: listen.unix_socket_permissions: is not an octal mode", "0770"},
    {"log_level", "[log]\nlevel = \"loud\"\n", "dir/f.toml:12: log.level:", "warn"},
    {"exclude_without_schema", "[migration]\nexclude = [\"t\"]\n",
     "dir/f.toml:12: migration.exclude: has \"t\"", "\"schema.table\""},
    {"exclude_of_numbers", "[migration]\nexclude = [\n1]\n",
     "dir/f.toml:13: migration.exclude: has an integer", "string in quotes"},
    {"exclude_no_array", "[migration]\nexclude = \"a.b\"\n",
     "dir/f.toml:12: migration.exclude:", "an array of strings"},
    {"mapping_without_source", "[[mapping]]\ntarget = \"a.b\"\n",
     "dir/f.toml:11: mapping[].source: is missing", "write \"schema.table\""},
    {"mapping_to_no_table", "[[mapping]]\nsource = \"a.b\"\ntarget = \"b\"\n",
     "dir/f.toml:13: mapping[].target: is \"b\"", "write \"schema.table\""},
    {"mapping_that_is_no_sql",
     "[[mapping]]\nsource = \"a.b\"\ntarget = \"a.c\"\ncolumns = { x = \"lower(\" }\n",
     "dir/f.toml:14: mapping[].columns: of x, \"lower(\", is not an SQL expression", "syntax error"},
    {"mapping_with_a_subselect",
     "[[mapping]]\nsource = \"a.b\"\ntarget = \"a.c\"\nwhere = \"x = (select 1)\"\n",
     "dir/f.toml:14: mapping[].where: \"x = (select 1)\", has a sub-select",
     "use the row's columns only"},
    {"mapping_of_a_number", "[[mapping]]\nsource = \"a.b\"\ntarget = \"a.c\"\nreverse = { x = 1 }\n",
     "dir/f.toml:14: mapping[].reverse.x: is an integer", "write a string in quotes"},
    {"mapping_to_the_same_target",
     "[[mapping]]\nsource = \"a.b\"\ntarget = \"a.c\"\n[[mapping]]\nsource = \"a.d\"\ntarget = \"a.c\"\n",
     "dir/f.toml:16: mapping[].target: \"a.c\" is there twice", "has one source"},
    {"mapping_of_an_excluded_table",
     "[migration]\nexclude = [\"a.b\"]\n[[mapping]]\nsource = \"a.b\"\ntarget = \"a.c\"\n",
     "dir/f.toml:14: mapping[].source: or target is \"a.b\"", "remove one of the two"},
    {"section_is_a_value", "[shadow]\n[log]\nlevel = 1\n", "dir/f.toml:13: log.level:", "string"},
    {"users_not_an_array", "[users]\nname = \"a\"\n", "dir/f.toml:11: users: is a table",
     "[[users]]"},
    {"user_twice", "[[users]]\nname = \"a\"\n[[users]]\nname = \"a\"\n",
     "dir/f.toml:14: users[].name:", "twice"},
    {"user_without_name", "[[users]]\nsource_password = \"a\"\n",
     "dir/f.toml:11: users[].name:", "missing"},
    {"probe_interval_beyond_its_limit", "[mirror]\nprobe_interval_ms = 6000\n",
     "dir/f.toml:12: mirror.probe_interval_ms:", "must not be less than probe_interval_ms"},
    {"on_mirror_failure_unknown", "[mirror]\non_mirror_failure = \"block\"\n",
     "dir/f.toml:12: mirror.on_mirror_failure:", "journal"},
    {"lock_timeout_never_fires", "[mirror]\nlock_timeout_ms = 2000\n",
     "dir/f.toml:12: mirror.lock_timeout_ms:", "less than commit_timeout_ms"},
    {"admin_open_to_all", "[admin]\nhost = \"0.0.0.0\"\n",
     "dir/f.toml:12: admin.host:", "add an [[admin.tokens]]"},
    {"token_in_clear", "[[admin.tokens]]\nname = \"a\"\nrole = \"admin\"\nsha256 = \"secret\"\n",
     "dir/f.toml:14: admin.tokens[].sha256:", "sha256sum"},
    {"token_role", "[[admin.tokens]]\nname = \"a\"\nrole = \"root\"\n",
     "dir/f.toml:13: admin.tokens[].role: is \"root\"", "viewer, operator, admin"},
    {"token_expires_some_day", "[[admin.tokens]]\nname = \"a\"\nrole = \"admin\"\nexpires = \"soon\"\n",
     "dir/f.toml:14: admin.tokens[].expires: is \"soon\"", "2027-01-31T18:00:00Z"},
    {"admin_in_clear_for_all", "[admin]\nhost = \"0.0.0.0\"\ntokens = [{name = \"a\", role = \"admin\", sha256 = \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}]\n",
     "dir/f.toml:12: admin.host:", "sslmode = \"disable\" if something else encrypts"},
    {"admin_tls_without_certificate", "[admin]\nsslmode = \"require\"\n",
     "dir/f.toml:12: admin.sslmode: is require", "ssl_cert_file and ssl_key_file"},
    {"admin_client_certificates_of_nobody",
     "[admin]\nsslmode = \"verify-ca\"\nssl_cert_file = \"a\"\nssl_key_file = \"b\"\n",
     "dir/f.toml:12: admin.sslmode: is verify-ca", "ssl_ca_file"},
    {"hook_without_path", "[hooks]\nbefore_transition = [\"ask\"]\n",
     "dir/f.toml:12: hooks.before_transition: begins with \"ask\"", "whole path"},
    {"webhook_with_an_argument", "[hooks]\nafter_transition = [\"https://h/\", \"team\"]\n",
     "dir/f.toml:12: hooks.after_transition: has \"team\"", "Name: value"},
    {"webhook_of_another_kind", "[hooks]\nafter_transition = [\"ftp://h/\"]\n",
     "dir/f.toml:12: hooks.after_transition: begins with \"ftp", "http://"},
    {"token_without_role", "[[admin.tokens]]\nname = \"a\"\n",
     "dir/f.toml:11: admin.tokens[].role:", "is missing"},
    {"allowed_host_with_port", "[admin]\nallowed_hosts = [\"a:1\"]\n",
     "dir/f.toml:12: admin.allowed_hosts:", "bare host name"},
    {"same_ports", "[admin]\nport = 6432\n", "dir/f.toml:12: admin.port:", "write another"},
    {"bad_syntax", "[admin\n", "dir/f.toml:11:", "not valid TOML"},
    {"key_twice", "[log]\nlevel = \"info\"\nlevel = \"info\"\n",
     "dir/f.toml:13:", "not valid TOML"},
};

INSTANTIATE_TEST_SUITE_P(All, RefusedConfig, testing::ValuesIn(refusals),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(Config, missing_sections_are_named) {
    const auto parsed = parse_config("", "f.toml");
    ASSERT_FALSE(parsed);
    for (const char* key : {"source.host", "target.user", "state.directory"}) {
        EXPECT_THAT(parsed.error().message,
                    HasSubstr(std::string("f.toml: ") + key + ": is missing"));
    }
}

TEST(Config, all_problems_are_told_at_once_in_the_order_of_the_file) {
    const auto parsed = parse_config(minimal + "[log]\nlevel = 1\n[listen]\nport = -1\n", "f");
    ASSERT_FALSE(parsed);
    const auto& text = parsed.error().message;
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
    EXPECT_LT(text.find("log.level"), text.find("listen.port"));
}

TEST(Config, source_and_target_must_differ) {
    std::string text = minimal;
    text.replace(text.find("host = \"t\""), 10, "host = \"s\"");
    const auto parsed = parse_config(text, "f");
    ASSERT_FALSE(parsed);
    EXPECT_THAT(parsed.error().message, StartsWith("f:5: target: is the same database"));
}

TEST(Config, a_file_that_cannot_be_read_is_an_error_naming_it) {
    EXPECT_THAT(load_config("/nonexistent/b.toml").error().message,
                HasSubstr("/nonexistent/b.toml"));
    EXPECT_THAT(load_config("/tmp").error().message, HasSubstr("is a directory"));
}

TEST(Config, loopback_hosts_are_told_from_others) {
    for (const char* host : {"localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]"}) {
        EXPECT_TRUE(is_loopback_host(host)) << host;
    }
    for (const char* host :
         {"", "0.0.0.0", "127.evil.org", "localhost.evil.org", "::", "10.0.0.1"}) {
        EXPECT_FALSE(is_loopback_host(host)) << host;
    }
}

}  // namespace
}  // namespace banyan::router
