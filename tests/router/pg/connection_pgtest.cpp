#include "router/pg/connection.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>
#include <memory>

#include "router/pg/answer.hpp"
#include "router/pg/lifelines.hpp"
#include "tests/support/postgres_cluster.hpp"

namespace banyan::router {
namespace {

using namespace std::chrono_literals;

class ConnectionTest : public testing::Test {
   protected:
    static void SetUpTestSuite() { cluster_ = std::make_unique<test::PostgresCluster>(); }
    static void TearDownTestSuite() { cluster_.reset(); }
    static std::unique_ptr<test::PostgresCluster> cluster_;
};

std::unique_ptr<test::PostgresCluster> ConnectionTest::cluster_;

TEST_F(ConnectionTest, SettingsAreFixedWhateverTheRoleSays) {
    cluster_->run(
        "DROP ROLE IF EXISTS odd; CREATE ROLE odd LOGIN;"
        "ALTER ROLE odd SET DateStyle = 'German'; ALTER ROLE odd SET search_path = 'public';"
        "ALTER ROLE odd SET statement_timeout = '1min'; ALTER ROLE odd SET bytea_output = 'escape';"
        "ALTER ROLE odd SET default_transaction_read_only = on;"
        "ALTER ROLE odd SET default_transaction_isolation = 'serializable'");
    Endpoint endpoint = cluster_->endpoint();
    endpoint.user = "odd";
    auto connection = Connection::open(endpoint, "banyan-test");
    ASSERT_TRUE(connection) << connection.error().message;
    struct Case {
        const char* name;
        const char* value;
    };
    for (const Case& c : {Case{"DateStyle", "ISO, MDY"}, Case{"search_path", "pg_catalog"},
                          Case{"statement_timeout", "0"}, Case{"bytea_output", "hex"},
                          Case{"TimeZone", "UTC"}, Case{"extra_float_digits", "3"},
                          Case{"default_transaction_read_only", "off"}, Case{"row_security", "off"},
                          Case{"default_transaction_isolation", "read committed"},
                          Case{"client_encoding", "UTF8"}, Case{"lc_monetary", "C"},
                          Case{"application_name", "banyan-test"}}) {
        auto rows = connection->exec(std::string("SHOW ") + c.name);
        ASSERT_TRUE(rows) << c.name;
        EXPECT_EQ(rows->text(0, 0), c.value) << c.name;
    }
}

TEST_F(ConnectionTest, ParametersTravelAsTextBinaryAndNull) {
    auto connection = cluster_->connect();
    auto rows = connection.exec("SELECT $1::int8, $2::bytea, $3::text IS NULL",
                                {Param::number(-7), Param::raw({"\0a", 2}), Param::null()});
    ASSERT_TRUE(rows) << rows.error().message;
    EXPECT_EQ(rows->number(0, 0), -7);
    EXPECT_EQ(rows->view(0, 1), "\\x0061");
    EXPECT_TRUE(rows->truth(0, 2));
    auto binary = connection.exec("SELECT 1::int4", {}, true);
    ASSERT_TRUE(binary);
    EXPECT_EQ(binary->view(0, 0), std::string_view("\0\0\0\1", 4));
}

TEST_F(ConnectionTest, AnErrorCarriesSqlstateAndConstraint) {
    auto connection = cluster_->connect();
    auto missing = connection.exec("SELECT * FROM nowhere");
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().sqlstate, "42P01");
    EXPECT_EQ(missing.error().message, "relation \"nowhere\" does not exist");
    ASSERT_TRUE(connection.exec("CREATE TEMP TABLE u (a int CONSTRAINT only_one UNIQUE)"));
    ASSERT_TRUE(connection.prepare("put", "INSERT INTO pg_temp.u VALUES ($1)"));
    auto put = connection.exec_prepared("put", {Param::number(1)});
    ASSERT_TRUE(put);
    EXPECT_EQ(put->affected(), 1);
    auto again = connection.exec_prepared("put", {Param::number(1)});
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().sqlstate, "23505");
    EXPECT_EQ(connection.violated_constraint(), "only_one");
    EXPECT_EQ(again.error().message.find("(1)"), std::string::npos) << "quotes a value";
}

TEST_F(ConnectionTest, CopyGoesOutAndIn) {
    auto connection = cluster_->connect();
    ASSERT_TRUE(connection.exec("CREATE TEMP TABLE c (a int)"));
    ASSERT_TRUE(connection.copy_begin("COPY pg_temp.c FROM STDIN"));
    ASSERT_TRUE(connection.copy_data("1\n2\n"));
    ASSERT_TRUE(connection.copy_data("3\n"));
    auto in = connection.copy_end();
    ASSERT_TRUE(in) << in.error().message;
    EXPECT_EQ(*in, 3);
    std::string text;
    auto out = connection.copy_out("COPY pg_temp.c TO STDOUT",
                                   [&](std::string_view data) -> Result<void> {
                                       text += data;
                                       return {};
                                   });
    ASSERT_TRUE(out) << out.error().message;
    EXPECT_EQ(*out, 3);
    EXPECT_EQ(text, "1\n2\n3\n");
    ASSERT_TRUE(connection.copy_begin("COPY pg_temp.c FROM STDIN"));
    ASSERT_TRUE(connection.copy_data("x\n"));
    auto bad = connection.copy_end();
    ASSERT_FALSE(bad);
    EXPECT_EQ(bad.error().sqlstate, "22P02");
    EXPECT_TRUE(connection.exec("SELECT 1")) << "usable after a failed COPY";
}

TEST_F(ConnectionTest, ACopyWhoseSinkRefusesIsCancelled) {
    auto connection = cluster_->connect();
    auto out = connection.copy_out(
        "COPY (SELECT generate_series(1, 100000000)) TO STDOUT",
        [](std::string_view) -> Result<void> { return Error{"enough", ""}; });
    ASSERT_FALSE(out);
    EXPECT_EQ(out.error().message, "enough");
    EXPECT_TRUE(connection.exec("SELECT 1"));
}

TEST_F(ConnectionTest, NothingListeningIsAnErrorThatNamesTheServer) {
    Endpoint endpoint = cluster_->endpoint();
    endpoint.port = 1;
    auto connection = Connection::open(endpoint, "test");
    ASSERT_FALSE(connection);
    EXPECT_NE(connection.error().message.find("127.0.0.1:1/postgres"), std::string::npos);
}

TEST_F(ConnectionTest, AServerThatNeverAnswersEndsAtTheTimeout) {
    // A connection to a listener that never accepts stays unanswered.
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(::listen(listener, 5), 0);
    socklen_t size = sizeof address;
    ASSERT_EQ(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), 0);
    Endpoint endpoint = cluster_->endpoint();
    endpoint.port = ntohs(address.sin_port);
    endpoint.connect_timeout = 150ms;
    auto connection = Connection::open(endpoint, "test");
    ::close(listener);
    ASSERT_FALSE(connection);
    EXPECT_NE(connection.error().message.find("no answer within 150 ms"), std::string::npos);
}

TEST_F(ConnectionTest, AnAnswerThatTakesTooLongIsGivenUpByThoseWhoSaySo) {
    auto connection = cluster_->connect();
    auto late = exec_within(connection, "SELECT pg_sleep(30)", 150ms);
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error().sqlstate, no_answer);
    auto other = cluster_->connect();
    auto answer = exec_within(other, "SELECT 1; SELECT 2", 20s);
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->text(0, 0), "2");
    auto wrong = exec_within(other, "SELECT 1; SELECT 1/0; SELECT 3", 20s);
    ASSERT_FALSE(wrong);
    EXPECT_EQ(wrong.error().sqlstate, "22012");
    EXPECT_TRUE(other.alive());
}

TEST_F(ConnectionTest, AWaitForAServerThatWillNotAnswerCanBeCut) {
    auto connection = cluster_->connect();
    auto other = cluster_->connect();
    auto waits = std::async(std::launch::async, [&] { return connection.exec("SELECT pg_sleep(60)"); });
    for (bool asleep = false; !asleep;) {
        asleep = other.exec("SELECT FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND "
                            "state = 'active'")
                     ->size() == 1;
    }
    EXPECT_EQ(Lifelines::all().cut("127.0.0.1", 1), 0U);
    EXPECT_GE(Lifelines::all().cut("127.0.0.1", cluster_->port()), 2U);
    EXPECT_FALSE(waits.get());
    EXPECT_FALSE(connection.alive());
    EXPECT_FALSE(other.exec("SELECT 1"));
}

TEST_F(ConnectionTest, ItsCommitsAreDurableWhateverTheServerSays) {
    cluster_->create_database("lazy");
    cluster_->run("ALTER DATABASE lazy SET synchronous_commit = off");
    EXPECT_EQ(cluster_->run("SHOW synchronous_commit", "lazy").text(0, 0), "on");
    cluster_->run("ALTER DATABASE lazy SET synchronous_commit = 'local'");
    EXPECT_EQ(cluster_->run("SHOW synchronous_commit", "lazy").text(0, 0), "local");
}

TEST_F(ConnectionTest, AKilledBackendIsNoticed) {
    auto connection = cluster_->connect();
    cluster_->run("SELECT pg_terminate_backend(" + std::to_string(connection.process_id()) + ", 5000)");
    EXPECT_FALSE(connection.exec("SELECT 1"));
    EXPECT_FALSE(connection.alive());
}

}  // namespace
}  // namespace banyan::router
