#include "router/config/reload.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace banyan::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

Config parsed(const std::string& text, const std::string& listen = "") {
    const std::string minimal = R"(
[source]
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
    auto config = parse_config("[listen]\n" + listen + minimal + text, "test");
    EXPECT_TRUE(config) << (config ? "" : config.error().message);
    return config ? *config : Config();
}

std::vector<std::string> names(const std::vector<KeptKey>& kept) {
    std::vector<std::string> keys;
    for (const auto& each : kept) {
        keys.push_back(each.key + "=" + each.value);
    }
    return keys;
}

TEST(Reload, NothingChangesIfTheFileSaysTheSameInOtherWords) {
    const auto running = parsed("[limits]\nmax_clients = 1000\n");
    const auto plan = plan_reload(running, parsed("# a comment\n"));
    EXPECT_THAT(plan.applied, IsEmpty());
    EXPECT_THAT(plan.kept, IsEmpty());
}

TEST(Reload, LiveKeysTakeEffectAndTheOthersAreNamed) {
    const auto running = parsed("[limits]\nmax_clients = 5\n", "port = 6432\n");
    const auto fresh = parsed(
        "[limits]\nmax_clients = 7\nmax_session_bytes = 2000000\n[proxy]\nthreads = 3\n[mirror]\n"
        "commit_timeout_ms = 9000\nlogins = [\"users\"]\n[log]\nlevel = \"debug\"\n",
        "port = 7000\n");
    const auto plan = plan_reload(running, fresh);
    EXPECT_THAT(plan.applied, ElementsAre("limits.max_clients", "limits.max_session_bytes",
                                          "log.level", "mirror.commit_timeout_ms"));
    EXPECT_THAT(names(plan.kept), ElementsAre("listen.port=6432", "mirror.logins=users, scram_keys",
                                              "proxy.threads=0"));
    EXPECT_EQ(plan.config.limits.max_clients, 7U);
    EXPECT_EQ(plan.config.limits.max_session_bytes, 2'000'000U);
    EXPECT_EQ(plan.config.log.level, "debug");
    EXPECT_EQ(plan.config.mirror.commit_timeout, std::chrono::milliseconds(9000));
    EXPECT_EQ(plan.config.listen.port, 6432);
    EXPECT_EQ(plan.config.threads, 0U);
    EXPECT_EQ(plan.config.mirror.logins.size(), 2U);
    // The next reload compares with what is in force: what needs a restart is named again.
    const auto again = plan_reload(plan.config, fresh);
    EXPECT_THAT(again.applied, IsEmpty());
    EXPECT_EQ(again.kept.size(), 3U);
}

TEST(Reload, TablesOfAnArrayCountAsOneAndSecretsAreNotShown) {
    const auto running =
        parsed("[[users]]\nname = \"a\"\nsource_password = \"x\"\n[[users]]\nname = \"b\"\n");
    const auto fresh =
        parsed("[[users]]\nname = \"a\"\n[[users]]\nname = \"b\"\nsource_password = \"x\"\n");
    auto plan = plan_reload(running, fresh);
    EXPECT_THAT(plan.applied, ElementsAre("users[].source_password"));
    EXPECT_EQ(plan.config.user("b")->source_password, "x");
    plan = plan_reload(running, parsed(""));
    EXPECT_THAT(plan.config.users, IsEmpty());
    auto secret = running;
    secret.values["source.password"] = std::string("secret\0", 7);
    EXPECT_THAT(names(plan_reload(secret, running).kept), ElementsAre("source.password="));
}

// A key that nobody thought of needs a restart: that is never wrong, but it must be meant.
TEST(Reload, EveryKeyIsLiveOrNotOnPurpose) {
    std::vector<std::string> kept;
    for (const auto& key : config_keys()) {
        if (!is_live(key) && !key.starts_with("source.") && !key.starts_with("target.") &&
            !key.starts_with("mapping[]") && !key.starts_with("tcp.")) {
            kept.push_back(key);
        }
    }
    std::sort(kept.begin(), kept.end());
    EXPECT_THAT(
        kept, ElementsAre("admin.host", "admin.port", "admin.port_file",
                          "admin.ssl_ca_file", "admin.ssl_cert_file", "admin.ssl_key_file",
                          "admin.sslmode", "backfill.workers",
                          "journal.durability", "journal.max_dirty_keys",
                          "journal.max_transaction_keys", "lease.ttl_ms", "listen.host",
                          "listen.port", "listen.port_file", "listen.proxy_protocol",
                          "listen.sslmode", "listen.unix_socket_directory",
                          "listen.unix_socket_permissions", "migration.database",
                          "migration.exclude", "mirror.logins",
                          "mirror.synchronous_commit",
                          "proxy.sessions_before_next_thread", "proxy.threads", "repair.adaptive", "repair.max_keys_per_second",
                          "shadow.log", "shadow.max_discrepancies", "state.directory"));
}

TEST(Reload, WorkersReadTheLatestAndKeepWhatTheyHold) {
    Config config = parsed("");
    EXPECT_EQ(config.latest().get(), &config);
    config.reloads = std::make_shared<LatestConfig>();
    EXPECT_EQ(config.latest().get(), &config);
    const auto plan = plan_reload(config, parsed("[shadow]\nmin_samples = 3\n"));
    config.reloads->config = std::make_shared<const Config>(plan.config);
    const auto held = config.latest();
    config.reloads->config = std::make_shared<const Config>(parsed(""));
    EXPECT_EQ(held->shadow.min_samples, 3U);
    EXPECT_EQ(config.latest()->shadow.min_samples, 100U);
}

}  // namespace
}  // namespace banyan::router
