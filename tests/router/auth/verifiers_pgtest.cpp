#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>

#include "router/auth/verifiers.hpp"
#include "tests/support/postgres_cluster.hpp"

namespace banyan::router {
namespace {

using namespace std::chrono_literals;
using Answer = std::shared_ptr<const RoleVerifiers>;

/// Two databases of one cluster are two sides with the same roles.
class VerifiersTest : public testing::Test {
   protected:
    static void SetUpTestSuite() {
        cluster_ = std::make_unique<test::PostgresCluster>();
        cluster_->run(
            "SET password_encryption = 'scram-sha-256'; CREATE ROLE scram LOGIN PASSWORD 'secret';"
            "SET password_encryption = 'md5'; CREATE ROLE hashed LOGIN PASSWORD 'secret';"
            "CREATE ROLE without LOGIN; CREATE ROLE weak LOGIN");
    }
    static void TearDownTestSuite() { cluster_.reset(); }

    static Config config() {
        Config config;
        config.source = config.target = cluster_->endpoint();
        return config;
    }
    static Answer ask(Verifiers& verifiers, const std::string& user,
                      std::optional<Side> only = std::nullopt) {
        auto promise = std::make_shared<std::promise<Answer>>();
        auto future = promise->get_future();
        verifiers.request(user, only, [promise](Answer answer) { promise->set_value(answer); });
        return future.get();
    }

    static std::unique_ptr<test::PostgresCluster> cluster_;
};
std::unique_ptr<test::PostgresCluster> VerifiersTest::cluster_;

TEST_F(VerifiersTest, AreWhatTheServersKeep) {
    const auto there = config();
    Verifiers verifiers(there);
    const auto scram = ask(verifiers, "scram");
    EXPECT_TRUE(scram->of(Side::source).readable);
    EXPECT_TRUE(scram->identical());
    const auto verifier = scram->scram(Side::target);
    ASSERT_TRUE(verifier);
    EXPECT_EQ(verifier->iterations, 4096U);
    const auto keys = protocol::scram_keys(
        protocol::salt_password(protocol::Secret("secret"), verifier->salt, 4096));
    EXPECT_TRUE(keys.server_key.same(verifier->server_key));

    const auto hashed = ask(verifiers, "hashed");
    EXPECT_TRUE(hashed->identical());
    EXPECT_FALSE(hashed->scram(Side::source));
    for (const auto* user : {"without", "nobody", "", "scram' OR true --"}) {
        const auto none = ask(verifiers, user);
        EXPECT_TRUE(none->of(Side::source).readable) << user;
        EXPECT_FALSE(none->of(Side::source).text) << user;
        EXPECT_FALSE(none->identical()) << user;
    }
}

TEST_F(VerifiersTest, ThatMayNotBeReadSayWhy) {
    auto there = config();
    there.target.user = "weak";
    Verifiers verifiers(there);
    for (int i = 0; i < 2; ++i) {
        const auto answer = ask(verifiers, "scram");
        EXPECT_TRUE(answer->of(Side::source).readable);
        EXPECT_FALSE(answer->of(Side::target).readable);
        EXPECT_NE(answer->of(Side::target).error.find("permission denied"), std::string::npos);
        EXPECT_FALSE(answer->identical());
    }
    cluster_->run("GRANT SELECT ON pg_authid TO weak");
    EXPECT_TRUE(ask(verifiers, "scram")->identical());
    cluster_->run("REVOKE SELECT ON pg_authid FROM weak");
}

TEST_F(VerifiersTest, OfAServerThatIsDownOrHangsAreNotWaitedFor) {
    const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), size), 0);
    ASSERT_EQ(::listen(listener, 8), 0);
    ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
    auto there = config();
    there.target.host = "127.0.0.1";
    there.target.port = ntohs(address.sin_port);
    there.target.connect_timeout = 2000ms;
    {
        Verifiers verifiers(there);
        // The side that hangs holds up nobody who asks for the other one.
        std::promise<Answer> promise;
        auto hanging = promise.get_future();
        verifiers.request("scram", std::nullopt,
                          [&](Answer answer) { promise.set_value(std::move(answer)); });
        EXPECT_TRUE(ask(verifiers, "scram", Side::source)->scram(Side::source));
        EXPECT_EQ(hanging.wait_for(0s), std::future_status::timeout);
        const auto answer = hanging.get();
        EXPECT_TRUE(answer->of(Side::source).readable);
        EXPECT_FALSE(answer->of(Side::target).readable);
        EXPECT_FALSE(answer->of(Side::target).error.empty());
    }
    ::close(listener);
    Verifiers refused(there);
    EXPECT_FALSE(ask(refused, "scram", Side::target)->of(Side::target).readable);
}

TEST_F(VerifiersTest, ComeAgainAfterTheServerWasAway) {
    const auto there = config();
    Verifiers verifiers(there);
    EXPECT_TRUE(ask(verifiers, "scram")->identical());
    cluster_->stop();
    EXPECT_FALSE(ask(verifiers, "scram")->of(Side::source).readable);
    cluster_->restart();
    EXPECT_TRUE(ask(verifiers, "scram")->identical());
    // A kept connection that dies unseen costs no answer.
    cluster_->run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = "
        "'banyan-verifiers'");
    EXPECT_TRUE(ask(verifiers, "scram")->identical());
}

}  // namespace
}  // namespace banyan::router
