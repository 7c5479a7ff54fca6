// What a session may hold, and how long it may wait.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "protocol/message_limits.hpp"
#include "router/state/journal_entry.hpp"
#include "scene.hpp"

namespace banyan::test {
namespace {

using namespace std::literals;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

/// A header that announces a body of that size, and nothing more.
std::string header(char type, std::uint32_t body) {
    std::string out(1, type);
    protocol::put_int32(out, body + 4);
    return out;
}

struct Mirrored : Scene {
    explicit Mirrored(Phase phase = Phase::dual_write) : Scene(phase) {
        source.on("INSERT INTO item", Reply({"id", "name", "odd"},
                                            {{"7", "a", std::nullopt}, {"8", "a", std::nullopt}}));
        source.on("banyan refuses", refusal("42601", 1, true));
        log_in();
    }
};

TEST(Limits, TooManyClientsAreToldSoOnceTheyHaveSaidWhoTheyAre) {
    Scene scene(Phase::initial);
    scene.port.room_for_clients = false;
    EXPECT_THAT(scene.ask(startup()), ElementsAre("E 53300"));
    EXPECT_TRUE(scene.port.over);
    EXPECT_EQ(scene.count(Counter::client_connections_refused), 1U);
    // Who wants to cancel has no startup message, and is let through.
    Scene cancel(Phase::initial);
    cancel.port.room_for_clients = false;
    std::string bytes;
    protocol::encode_cancel_request(bytes, 11, 1011);
    cancel.send(bytes);
    EXPECT_TRUE(cancel.machine.cancel_request());
}

TEST(Limits, ARoleWithTooManyClientsIsToldSoWhereTheServerWould) {
    Scene scene(Phase::initial);
    scene.port.room_for_user = false;
    EXPECT_THAT(scene.ask(startup()), ElementsAre("R 0", "E 53300"));
    EXPECT_TRUE(scene.port.over);
    EXPECT_NE(scene.client_total().find("too many connections for role \"app\""),
              std::string::npos);
}

TEST(Limits, AMessageMayBeAsLongAsItsTypeAndTheStateAllow) {
    constexpr auto large = std::uint32_t{1} << 30U;
    struct Case {
        char type;
        std::uint32_t most;
    };
    for (const Case each : {Case{'Q', large},
                            {'P', large},
                            {'B', large},
                            {'d', large},
                            {'F', large},
                            {'S', 9996},
                            {'X', 9996},
                            {'D', 9996},
                            {'E', 9996},
                            {'C', 9996},
                            {'c', 9996},
                            {'H', 9996}}) {
        Scene fits(Phase::initial);
        fits.log_in();
        fits.send(header(each.type, each.most));
        EXPECT_FALSE(fits.machine.closed()) << each.type;
        Scene beyond(Phase::initial);
        beyond.log_in();
        EXPECT_THAT(beyond.ask(header(each.type, each.most + 1)), ElementsAre("E 08P01"))
            << each.type;
    }
    Scene scene(Phase::initial);
    scene.source.wants_password = true;
    scene.send(startup());
    scene.client();
    scene.send(header('p', 65535));
    EXPECT_FALSE(scene.machine.closed());
    Scene long_password(Phase::initial);
    long_password.source.wants_password = true;
    long_password.send(startup());
    long_password.client();
    EXPECT_THAT(long_password.ask(header('p', 65536)), ElementsAre("E 08P01"));
    for (const std::uint32_t size : {1024U, 1025U}) {
        Scene sasl(Phase::initial);
        sasl.source.wants_password = true;
        sasl.send(startup());
        sasl.server_says(Side::source, raw('R', "\0\0\0\12SCRAM-SHA-256\0\0"s));
        sasl.client();
        sasl.send(header('p', size));
        EXPECT_EQ(sasl.machine.closed(), size > 1024);
    }
}

TEST(Limits, AServersMessageToo) {
    struct Case {
        const char* name;
        bool logged_in;
        char type;
        std::uint32_t size;
        bool fits;
    };
    const Case cases[] = {
        {"a row", true, 'D', std::uint32_t{1} << 30U, true},
        {"a row beyond 1 GB", true, 'D', (std::uint32_t{1} << 30U) + 1, false},
        {"a long CommandComplete", true, 'C', 70'000, false},
        {"a long setting", true, 'S', 70'000, true},
        {"a longer one", true, 'S', (1U << 20U) + 1, false},
        {"a challenge", false, 'R', 65'535, true},
        {"a long challenge", false, 'R', 65'536, false},
        {"a long error before the login", false, 'E', 65'536, false},
        {"a long notice", true, 'N', 65'536, true},
    };
    for (const auto& each : cases) {
        Scene scene(Phase::initial);
        scene.source.wants_password = !each.logged_in;
        scene.send(startup());
        scene.source.hangs = true;
        scene.send(query("SELECT 1"));
        scene.server_says(Side::source, header(each.type, each.size));
        EXPECT_EQ(!scene.machine.closed(), each.fits) << each.name;
    }
}

TEST(Limits, AnIdleTransactionIsEndedAndABusyOneIsNot) {
    Scene scene(Phase::initial);
    scene.config.limits.idle_in_transaction_timeout = 7s;
    scene.log_in();
    const auto watched = [&] {
        return scene.port.deadlines.count(Deadline::idle_in_transaction) == 1;
    };
    EXPECT_FALSE(watched());
    scene.send(query("BEGIN"));
    ASSERT_TRUE(watched());
    EXPECT_EQ(scene.port.deadlines[Deadline::idle_in_transaction], 7s);
    scene.source.hangs = true;
    scene.send(query("SELECT 1"));
    EXPECT_FALSE(watched());  // that takes as long as it takes
    scene.resume(Side::source);
    EXPECT_TRUE(watched());
    scene.send(query("COMMIT"));
    EXPECT_FALSE(watched());
    scene.send(query("BEGIN"));
    scene.client();
    scene.deadline(Deadline::idle_in_transaction);
    EXPECT_THAT(scene.client(), ElementsAre("E 25P03"));
    EXPECT_TRUE(scene.port.over);
    Scene unlimited(Phase::initial);
    unlimited.log_in();
    unlimited.send(query("BEGIN"));
    EXPECT_EQ(unlimited.port.deadlines.count(Deadline::idle_in_transaction), 0U);
}

TEST(Limits, AStatementTooManyIsAnErrorAndThePipelineGoesOnBehindItsSync) {
    Mirrored scene;
    scene.config.limits.max_prepared_statements = 2;
    EXPECT_THAT(scene.ask(parse("a", "SELECT 1") + parse("b", "SELECT 1") + sync()),
                ElementsAre("1", "1", "Z I"));
    EXPECT_THAT(scene.ask(parse("c", "SELECT 1") + bind_portal("", "c") + execute() + sync() +
                          bind_portal("", "a") + execute() + sync()),
                ElementsAre("E 53400", "Z I", "2", "C SELECT 1", "Z I"));
    EXPECT_FALSE(scene.source.holds("c"));
    // The unnamed one does not count, and one that was closed makes room.
    EXPECT_THAT(scene.ask(run("SELECT 1") + close('S', "a") + parse("c", "SELECT 1") + sync()),
                ElementsAre("1", "2", "C SELECT 1", "3", "1", "Z I"));
    // Inside a transaction it fails like any other error.
    scene.send(query("BEGIN"));
    scene.client();
    EXPECT_THAT(scene.ask(parse("d", "SELECT 1") + sync() + query("ROLLBACK")),
                ElementsAre("E 53400", "Z E", "C ROLLBACK", "Z I"));
    // A name that is taken is the server's to refuse.
    EXPECT_THAT(scene.ask(parse("b", "SELECT 1") + sync()), ElementsAre("E 42P05", "Z I"));
}

TEST(Limits, RowsKeptForAFetchInPiecesHaveABound) {
    Mirrored scene;
    scene.config.limits.max_session_bytes = 2000;
    scene.source.on("RETURNING id",
                    Reply({"id", "id", "name", "odd"}, {{std::string(1500, 'x'), "7", "a", "b"},
                                                        {std::string(1500, 'x'), "8", "a", "b"}}));
    scene.send(parse("s", "INSERT INTO item VALUES (1) RETURNING id") + bind_portal("", "s") +
               execute("", 1) + sync());
    EXPECT_THAT(scene.client(), Contains("E 53200"));
    EXPECT_TRUE(scene.port.over);
    EXPECT_THAT(scene.port.intents, IsEmpty());  // never committed
}

std::string int4(std::uint32_t number) {
    std::string bytes;
    for (const unsigned shift : {24U, 16U, 8U, 0U}) {
        bytes.push_back(static_cast<char>(number >> shift));
    }
    return bytes;
}

router::RowKey item_key(std::uint32_t id) {
    router::RowKey key{100, {}};
    router::append_key_column(key.bytes, int4(id));
    return key;
}

std::vector<Values> items(std::uint32_t count) {
    std::vector<Values> rows;
    for (std::uint32_t i = 0; i < count; ++i) {
        rows.push_back({int4(10 + i), "a", std::nullopt});
    }
    return rows;
}

TEST(Limits, OfATransactionOfTooManyRowsRangesAreKeptAndItIsMirrored) {
    for (const bool by_bytes : {false, true}) {
        Mirrored scene;
        scene.source.on("INSERT INTO item", Reply({"id", "name", "odd"}, items(20)));
        if (by_bytes) {
            scene.config.limits.max_session_bytes = 1000;
            scene.server_chunk = 40;  // the mirror keeps up
        } else {
            scene.config.journal.max_transaction_keys = 5;
        }
        scene.send(query("INSERT INTO item SELECT 1"));
        ASSERT_EQ(scene.port.intents.size(), 1U);
        const CommitIntent& intent = scene.port.intents[0];
        EXPECT_THAT(intent.writes, IsEmpty());
        EXPECT_THAT(intent.suspects, IsEmpty());
        ASSERT_EQ(intent.tables.size(), 1U);
        EXPECT_EQ(intent.tables[0].table, 100U);
        EXPECT_TRUE(intent.tables[0].by_row);
        EXPECT_FALSE(intent.tables[0].removes);
        EXPECT_TRUE(intent.tables[0].rows.contains(item_key(10).bytes));
        EXPECT_TRUE(intent.tables[0].rows.contains(item_key(29).bytes));
        EXPECT_FALSE(intent.tables[0].rows.contains(item_key(30).bytes));
        EXPECT_THAT(scene.client(), ElementsAre("C INSERT 0 20", "Z I"));
        EXPECT_THAT(scene.target.log(), Contains("Query COMMIT"));
        EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
        // The next one is its own.
        scene.config.limits.max_session_bytes = 1 << 20;
        scene.config.journal.max_transaction_keys = 20;
        scene.send(query("INSERT INTO item SELECT 1"));
        EXPECT_EQ(scene.port.intents.back().writes.size(), 20U);
        EXPECT_THAT(scene.port.intents.back().tables, IsEmpty());
    }
}

TEST(Limits, OtherTablesOfALargeTransactionKeepTheirKeys) {
    Mirrored scene;
    scene.config.journal.max_transaction_keys = 5;
    scene.source.on("INSERT INTO item", Reply({"id", "name", "odd"}, items(20)));
    scene.source.on("INSERT INTO pair", Reply({"a", "b", "v"}, {{int4(1), int4(2), int4(3)}}));
    scene.send(query("BEGIN"));
    scene.send(query("INSERT INTO pair VALUES (1, 2, 3)"));
    scene.send(query("INSERT INTO item SELECT 1"));
    scene.send(query("INSERT INTO pair VALUES (1, 2, 3)"));
    scene.send(query("COMMIT"));
    ASSERT_EQ(scene.port.intents.size(), 1U);
    EXPECT_EQ(scene.port.intents[0].writes.size(), 2U);
    EXPECT_THAT(scene.port.intents[0].tables, SizeIs(1));
    EXPECT_THAT(scene.target.log(), Contains("Query COMMIT"));
}

// Their keys are not known any more, whether the delete was sent before the keys were given up or
// after: what may be dirty are the ranges.
TEST(Limits, ADeleteThatFindsNoRowMakesTheRangesOfALargeTransactionSuspect) {
    for (const std::uint64_t most : {std::uint64_t{1}, std::uint64_t{7}}) {
        Mirrored scene;
        scene.config.journal.max_transaction_keys = most;
        std::vector<Values> keys;
        for (std::uint32_t i = 0; i < 8; ++i) {
            keys.push_back({int4(10 + i)});
        }
        scene.source.on("DELETE FROM item", Reply({"id"}, keys, "DELETE 8"));
        scene.target.on("DELETE FROM ONLY \"public\".\"item\"", Reply({}, {}, "DELETE 0"));
        scene.send(query("DELETE FROM item"));
        ASSERT_EQ(scene.port.intents.size(), 1U);
        const CommitIntent& intent = scene.port.intents[0];
        ASSERT_THAT(intent.suspects, ElementsAre(Field(&SuspectMark::reason, "touched_no_row")));
        EXPECT_TRUE(intent.suspects[0].rows.contains(item_key(17).bytes));
        EXPECT_FALSE(intent.suspects[0].rows.contains(item_key(18).bytes));
        ASSERT_EQ(intent.tables.size(), 1U);
        EXPECT_TRUE(intent.tables[0].removes);
        EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
    }
}

TEST(Limits, AHundredThousandRowsTakeAFewKilobytesInTheJournal) {
    Mirrored scene;
    scene.source.on("INSERT INTO item", Reply({"id", "name", "odd"}, items(100'000)));
    scene.config.limits.max_session_bytes = std::uint64_t{1} << 30U;
    scene.send(query("INSERT INTO item SELECT 1"));
    ASSERT_EQ(scene.port.intents.size(), 1U);
    const CommitIntent& intent = scene.port.intents[0];
    EXPECT_EQ(intent.writes.capacity(), 0U);
    ASSERT_EQ(intent.tables.size(), 1U);
    EXPECT_LT(intent.tables[0].rows.bytes(), 16384U);
    EXPECT_LT(router::encode_journal_entry(intent).size(), 8192U);
    EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
}

TEST(Limits, AMirrorTooFarBehindIsGivenUpInTheMiddleOfAStatement) {
    Mirrored scene;
    scene.config.limits.max_session_bytes = 3000;
    std::vector<Values> rows;
    for (int i = 0; i < 20; ++i) {
        rows.push_back({std::to_string(i), std::string(300, 'x'), std::nullopt});
    }
    scene.source.on("INSERT INTO item", Reply({"id", "name", "odd"}, rows));
    scene.send(query("INSERT INTO item SELECT 1"));
    EXPECT_THAT(scene.client(), Contains("Z I"));
    EXPECT_FALSE(scene.machine.mirror_ready());
    EXPECT_THAT(scene.events, Contains("finish 1 not_mirrored"));
}

TEST(Limits, AClientThatDoesNotReadItsLastWordsIsWaitedForButNotForEver) {
    Scene scene(Phase::initial);
    scene.log_in();
    scene.client_reads = false;
    scene.give([&] { scene.machine.terminate(); });
    EXPECT_TRUE(scene.port.client_closed);
    EXPECT_FALSE(scene.port.over);
    ASSERT_EQ(scene.port.deadlines.count(Deadline::closing), 1U);
    scene.deadline(Deadline::closing);
    EXPECT_TRUE(scene.port.over);
    Scene reads(Phase::initial);
    reads.log_in();
    reads.client_reads = false;
    reads.give([&] { reads.machine.terminate(); });
    reads.give([&] { reads.machine.client_drained(); });
    EXPECT_TRUE(reads.port.over);
    Scene vanishes(Phase::initial);
    vanishes.log_in();
    vanishes.client_reads = false;
    vanishes.give([&] { vanishes.machine.terminate(); });
    vanishes.close_client();
    EXPECT_TRUE(vanishes.port.over);
}

}  // namespace
}  // namespace banyan::test
