// COPY FROM STDIN in DUAL_WRITE: whose data goes where, and what ends it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scene.hpp"

namespace banyan::test {
namespace {

using namespace std::literals;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr const char* parse_begin =
    "Parse banyan_begin: BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
constexpr const char* begin_mirror = "Bind :banyan_begin()";
constexpr const char* mirror_copy =
    R"(Query COPY "public"."item" ("id", "name", "Odd ""Name") FROM STDIN)";

struct CopyScene : Scene {
    CopyScene() : Scene(Phase::dual_write) {
        source.on("INSERT INTO item", Reply({"id", "name", "odd"}, {{"7", "a", std::nullopt}}));
        for (FakeServer* each : {&source, &target}) {
            each->on("COPY item", copy_in());
            each->on("COPY keyless", copy_in());
            each->on("COPY \"public\".\"item\"", copy_in());
        }
        log_in();
    }
    void begin_copy() {
        send(query("COPY item FROM STDIN"));
        EXPECT_THAT(client(), ElementsAre("G"));
    }
};

const std::string copy_item = "COPY item FROM STDIN";

TEST(Copy, ItsDataGoesToBothSidesAndItIsCommittedLikeAnyOther) {
    CopyScene scene;
    scene.begin_copy();
    scene.send(raw('d', "7\n") + raw('d', "8\n"));
    EXPECT_THAT(scene.port.intents, IsEmpty());
    scene.send(raw('c'));
    EXPECT_THAT(scene.target.log(),
                ElementsAre(parse_begin, begin_mirror, "Execute ", "Sync",
                            "Query <set copy settings>", mirror_copy, "CopyData 7\n",
                            "CopyData 8\n", "CopyDone", "Query COMMIT"));
    EXPECT_THAT(scene.client(), ElementsAre("C COPY 1", "Z I"));
    ASSERT_EQ(scene.port.intents.size(), 1U);
    EXPECT_THAT(scene.port.intents[0].suspects, IsEmpty());
    EXPECT_THAT(scene.port.intents[0].writes, IsEmpty());
    ASSERT_EQ(scene.port.intents[0].tables.size(), 1U);
    EXPECT_EQ(scene.port.intents[0].tables[0].table, 100U);
    EXPECT_FALSE(scene.port.intents[0].tables[0].removes);
    EXPECT_EQ(scene.port.finished.back().second, CommitOutcome::mirrored);
    const auto at = [&](const std::string& event) {
        return std::find(scene.events.begin(), scene.events.end(), event) - scene.events.begin();
    };
    EXPECT_LT(at("target< CopyDone"), at("journal"));
    EXPECT_LT(at("journal"), at("source< Sync"));
    EXPECT_LT(at("source< Sync"), at("target< Query COMMIT"));
}

TEST(Copy, InTheExtendedProtocolItIsCommittedByTheSyncBehindIt) {
    CopyScene scene;
    scene.send(run(copy_item) + sync());
    EXPECT_THAT(scene.client(), ElementsAre("1", "2", "G"));
    EXPECT_THAT(scene.ask(raw('d', "7\n") + flush() + sync() + raw('c') + sync()),
                ElementsAre("C COPY 1", "Z I"));
    EXPECT_THAT(scene.target.log(), Contains("CopyData 7\n"));
    EXPECT_EQ(scene.port.finished.back().second, CommitOutcome::mirrored);
    // All at once, as a client does that does not wait for the server to ask.
    EXPECT_THAT(scene.ask(run(copy_item) + raw('d', "8\n") + raw('c') +
                          run("INSERT INTO item VALUES (7)") + sync()),
                ElementsAre("1", "2", "G", "C COPY 1", "1", "2", "C INSERT 0 1", "Z I"));
    EXPECT_THAT(scene.target.log(), Contains("CopyData 8\n"));
    ASSERT_EQ(scene.port.intents.size(), 2U);
    EXPECT_EQ(scene.port.intents[1].tables.size(), 1U);
    EXPECT_EQ(scene.port.intents[1].writes.size(), 1U);
}

TEST(Copy, InABlockItIsOnePartOfTheMirrorsTransaction) {
    CopyScene scene;
    scene.send(query("BEGIN") + query("INSERT INTO item VALUES (7)") + query(copy_item) +
               raw('d', "8\n") + raw('c') + query(copy_item) + raw('d', "9\n") + raw('c'));
    EXPECT_THAT(scene.port.intents, IsEmpty());
    scene.send(query("COMMIT"));
    const auto log = scene.target.log();
    EXPECT_EQ(std::count(log.begin(), log.end(), begin_mirror), 1);
    EXPECT_EQ(std::count(log.begin(), log.end(), mirror_copy), 2);
    ASSERT_EQ(scene.port.intents.size(), 1U);
    EXPECT_EQ(scene.port.intents[0].tables.size(), 1U);
    EXPECT_EQ(scene.port.finished.back().second, CommitOutcome::mirrored);
    EXPECT_EQ(scene.client().back(), "Z I");
}

TEST(Copy, WhatThePrimaryRefusesIsFailedOnTheMirror) {
    CopyScene scene;
    scene.begin_copy();
    scene.send(raw('d', "7\n"));
    scene.give([&] { scene.source.refuse_copy("23505"); });
    scene.settle();
    EXPECT_THAT(scene.client(), ElementsAre("E 23505", "Z I"));
    scene.send(raw('d', "8\n") + raw('c'));  // on their way already: ignored on both sides
    EXPECT_THAT(scene.target.log(),
                ElementsAre(parse_begin, begin_mirror, "Execute ", "Sync",
                            "Query <set copy settings>", mirror_copy, "CopyData 7\n", "CopyFail",
                            "Query ROLLBACK"));
    EXPECT_THAT(scene.client(), IsEmpty());
    EXPECT_THAT(scene.port.intents, IsEmpty());
    EXPECT_EQ(scene.count(Counter::mirror_failures), 0U);
    scene.send(query(copy_item) + raw('c'));
    EXPECT_EQ(scene.port.finished.back().second, CommitOutcome::mirrored);
}

TEST(Copy, NothingIsWrittenIntoTheMessageThatItFailsIn) {
    CopyScene scene;
    scene.begin_copy();
    const std::string message = raw('d', "1234567890\n");
    scene.send(message.substr(0, 9));
    scene.source.refuse_copy("22P02");
    scene.settle();
    EXPECT_THAT(scene.client(), ElementsAre("E 22P02"));
    scene.send(message.substr(9) + raw('c'));
    EXPECT_THAT(scene.client(), ElementsAre("Z I"));
    EXPECT_THAT(scene.ask(query("SELECT 1")), ElementsAre("C SELECT 1", "Z I"));
}

TEST(Copy, TheClientsCopyFailIsPassedOn) {
    for (const std::string& start : {query(copy_item), run(copy_item)}) {
        CopyScene scene;
        scene.send(start + raw('d', "7\n") + raw('f', "no\0"s) + sync());
        EXPECT_THAT(scene.client(), Contains("E 57014"));
        EXPECT_THAT(scene.target.log(), Contains("CopyFail"));
        EXPECT_THAT(scene.port.intents, IsEmpty());
        EXPECT_EQ(scene.target.status(), 'I');
        EXPECT_EQ(scene.count(Counter::mirror_failures), 0U);
    }
}

// Whichever side stumbles first over a bad row, and whether or not its data were complete.
TEST(Copy, WhereBothSidesRefuseItASavepointCanBeReturnedTo) {
    for (const bool mirror_first : {false, true}) {
        for (const bool done : {false, true}) {
            CopyScene scene;
            scene.send(query("BEGIN") + query("INSERT INTO item VALUES (7)") +
                       query("SAVEPOINT a") + query(copy_item) + raw('d', "x"));
            scene.source.hangs = scene.target.hangs = done;
            scene.send(done ? raw('c') : "");
            for (const bool mirror : {mirror_first, !mirror_first}) {
                FakeServer& server = scene.server(mirror ? Side::target : Side::source);
                if (server.copying()) {
                    server.refuse_copy("22P02");
                }
                scene.settle();
            }
            scene.resume(Side::source);
            scene.resume(Side::target);
            scene.send(query("ROLLBACK TO a") + query("INSERT INTO item VALUES (7)") +
                       query("COMMIT"));
            EXPECT_EQ(scene.count(Counter::mirror_failures), 0U);
            ASSERT_EQ(scene.port.finished.size(), 1U);
            EXPECT_EQ(scene.port.finished[0].second, CommitOutcome::mirrored);
            EXPECT_THAT(scene.target.log(), Contains("Query ROLLBACK TO SAVEPOINT \"a\""));
        }
    }
}

// The mirror's answers come late, when another copy is under way already.
TEST(Copy, AnErrorIsTheOneCopysThatItAnswers) {
    for (const bool first_fails : {false, true}) {
        CopyScene scene;
        scene.send(query("BEGIN") + query("SAVEPOINT a") + query(copy_item) + raw('d', "x"));
        scene.target.hangs = true;
        if (first_fails) {  // on both sides: no failure of the mirror's
            scene.source.refuse_copy("22P02");
            scene.settle();
            scene.send(query("ROLLBACK TO a"));
        } else {  // on the mirror only: its failure, whatever comes of the second
            scene.send(raw('c') + query("SAVEPOINT b"));
        }
        scene.target.refuse_copy("22P02");
        scene.send(query(copy_item) + raw('d', "y"));
        if (!first_fails) {
            scene.source.refuse_copy("22P02");
        }
        scene.settle();
        scene.resume(Side::target);
        scene.send((first_fails ? raw('c') : query("ROLLBACK TO b")) + query("COMMIT"));
        ASSERT_EQ(scene.port.finished.size(), 1U);
        EXPECT_EQ(scene.port.finished[0].second, first_fails ? CommitOutcome::mirrored
                                                             : CommitOutcome::not_mirrored);
    }
}

TEST(Copy, AnErrorOfTheMirrorsEndsTheTeeAlone) {
    CopyScene scene;
    scene.begin_copy();
    scene.send(raw('d', "7\n"));
    scene.target.refuse_copy("23505");
    scene.settle();
    scene.target.log();
    scene.send(raw('d', "8\n") + raw('c'));
    EXPECT_THAT(scene.client(), ElementsAre("C COPY 1", "Z I"));
    EXPECT_THAT(scene.target.log(), ElementsAre("Query ROLLBACK"));
    ASSERT_EQ(scene.port.intents.size(), 1U);
    EXPECT_EQ(scene.port.intents[0].tables.size(), 1U);
    EXPECT_THAT(scene.port.finished, ElementsAre(std::pair(TxnId{1}, CommitOutcome::not_mirrored)));
    EXPECT_EQ(scene.count(Counter::mirror_failures), 1U);
}

TEST(Copy, ALostMirrorEndsTheTeeAlone) {
    CopyScene scene;
    scene.begin_copy();
    scene.lose_server(Side::target);
    EXPECT_THAT(scene.ask(raw('d', "8\n") + raw('c')), ElementsAre("C COPY 1", "Z I"));
    EXPECT_THAT(scene.port.finished, ElementsAre(std::pair(TxnId{1}, CommitOutcome::not_mirrored)));
}

std::string much_data() { return raw('d', std::string(1U << 20U, 'x') + "\n"); }

TEST(Copy, AMirrorThatDoesNotReadHoldsTheClientBackUntilItDoes) {
    CopyScene scene;
    scene.begin_copy();
    scene.target_reads = false;
    for (int i = 0; i < 4; ++i) {
        scene.send(much_data());
    }
    EXPECT_FALSE(scene.machine.wants_client_bytes());
    EXPECT_TRUE(scene.machine.waits_for_mirror());
    EXPECT_LT(scene.machine.to_server(Side::target).size(), std::size_t{4} << 20U);
    EXPECT_EQ(scene.port.deadlines.count(Deadline::mirror), 1U);
    scene.target_reads = true;
    for (int i = 0; i < 4; ++i) {
        scene.give([] {});
        scene.give([&] { scene.machine.poll(); });
    }
    EXPECT_FALSE(scene.machine.waits_for_mirror());
    EXPECT_EQ(scene.port.deadlines.count(Deadline::mirror), 0U);
    EXPECT_THAT(scene.ask(raw('c')), ElementsAre("C COPY 1", "Z I"));
    EXPECT_EQ(scene.port.finished.back().second, CommitOutcome::mirrored);
}

TEST(Copy, AMirrorThatDoesNotReadIsGivenUpAtTheDeadline) {
    CopyScene scene;
    scene.begin_copy();
    scene.target_reads = false;
    for (int i = 0; i < 4; ++i) {
        scene.send(much_data());
    }
    scene.deadline(Deadline::mirror);
    EXPECT_TRUE(scene.machine.wants_client_bytes());
    EXPECT_FALSE(scene.machine.mirror_ready());
    EXPECT_THAT(scene.ask(raw('c')), ElementsAre("C COPY 1", "Z I"));
    EXPECT_THAT(scene.port.finished, ElementsAre(std::pair(TxnId{1}, CommitOutcome::not_mirrored)));
}

TEST(Copy, AMessageInPiecesIsWholeMessagesForTheMirror) {
    CopyScene scene;
    scene.begin_copy();
    scene.client_chunk = 3;
    scene.send(raw('d', "1234567890\n"));
    std::string data;
    for (const auto& line : scene.target.log()) {
        if (line.starts_with("CopyData ")) {
            data += line.substr(9);
        }
    }
    EXPECT_EQ(data, "1234567890\n");
    // Cut off in the middle, its stream can still be ended.
    scene.client_chunk = std::string::npos;
    scene.send(raw('d', "1234567890\n").substr(0, 9));
    scene.close_client();
    EXPECT_THAT(scene.target.log(),
                ElementsAre("CopyData 1234", "CopyFail", "Query ROLLBACK", "Terminate"));
    EXPECT_TRUE(scene.port.over);
}

TEST(Copy, AClientGoneInTheMiddleLeavesNothingOpen) {
    for (const bool politely : {true, false}) {
        CopyScene scene;
        scene.begin_copy();
        scene.send(raw('d', "7\n"));
        if (politely) {
            scene.send(raw('X'));
        } else {
            scene.close_client();
        }
        EXPECT_TRUE(scene.port.over);
        EXPECT_TRUE(scene.port.closed.contains(Side::source));
        EXPECT_FALSE(scene.target.copying());
        EXPECT_EQ(scene.target.status(), 'I');
        EXPECT_THAT(scene.port.intents, IsEmpty());
    }
}

TEST(Copy, AMessageThatDoesNotBelongInItEndsTheSession) {
    CopyScene scene;
    scene.begin_copy();
    EXPECT_THAT(scene.ask(query("SELECT 1")), ElementsAre("E 08P01"));
    EXPECT_TRUE(scene.machine.closed());
    EXPECT_THAT(scene.port.intents, IsEmpty());
}

TEST(Copy, ASyncInASimpleOneIsSwallowedAndHoldsNothingUp) {
    CopyScene scene;
    EXPECT_THAT(scene.ask(query(copy_item) + sync() + raw('d', "7\n") + flush() + raw('c')),
                ElementsAre("G", "C COPY 1", "Z I"));
    EXPECT_EQ(scene.port.finished.back().second, CommitOutcome::mirrored);
}

TEST(Copy, WhatIsNotTeedGoesToThePrimaryAndItsTableIsSuspectBeforeTheCommit) {
    for (const bool extended : {false, true}) {
        CopyScene scene;
        const std::string sql = "COPY keyless FROM STDIN";
        scene.send(extended ? run(sql) + sync() : query(sql));
        EXPECT_THAT(scene.port.intents, IsEmpty());
        scene.journal_answers = false;
        scene.send(raw('d', "7\n") + raw('c') + (extended ? sync() : ""));
        const auto log = scene.source.log();
        EXPECT_EQ(std::count(log.begin(), log.end(), "CopyData 7\n"), 1);
        EXPECT_NE(log.back(), "Sync");
        scene.answer_journal(true);
        EXPECT_EQ(scene.client().back(), "Z I");
        EXPECT_THAT(scene.target.log(), IsEmpty());
        ASSERT_EQ(scene.port.intents.size(), 1U);
        ASSERT_EQ(scene.port.intents[0].suspects.size(), 1U);
        EXPECT_EQ(scene.port.intents[0].suspects[0].reason, "no_key");
    }
}

TEST(Copy, SeveralInOneQueryAreTakenOneAfterTheOther) {
    CopyScene scene;
    EXPECT_THAT(scene.ask(query("COPY item FROM STDIN; COPY keyless FROM STDIN; "
                                "INSERT INTO item VALUES (7)") +
                          raw('d', "1\n") + raw('c') + raw('d', "2\n") + raw('c')),
                ElementsAre("G", "C COPY 1", "G", "C COPY 1", "C INSERT 0 1", "Z I"));
    const auto log = scene.target.log();
    EXPECT_THAT(log, Contains("CopyData 1\n"));
    EXPECT_THAT(log, Not(Contains("CopyData 2\n")));
    ASSERT_EQ(scene.port.intents.size(), 1U);
    EXPECT_EQ(scene.port.intents[0].tables.size(), 1U);
    EXPECT_EQ(scene.port.intents[0].suspects.size(), 1U);
    EXPECT_EQ(scene.port.intents[0].writes.size(), 1U);
}

TEST(Copy, ItsRowsAreNoSurpriseToAMeasurement) {
    CopyScene scene;
    scene.source.on("pg_stat_xact_user_tables",
                    Reply({"relid", "count"}, {{"clock", "1"}, {"100", "1"}}));
    auto before = Reply({"relid", "count"}, {{"clock", "1"}});
    scene.send(query("BEGIN"));
    scene.source.on("pg_stat_xact_user_tables", before);
    scene.send(query("SELECT user_volatile()"));
    scene.source.on("pg_stat_xact_user_tables",
                    Reply({"relid", "count"}, {{"clock", "1"}, {"100", "1"}}));
    scene.send(query(copy_item) + raw('d', "7\n") + raw('c') + query("COMMIT"));
    ASSERT_EQ(scene.port.intents.size(), 1U);
    EXPECT_THAT(scene.port.intents[0].suspects, IsEmpty());
}

TEST(Copy, APreparedTransactionKeepsItsTable) {
    CopyScene scene;
    scene.send(query("BEGIN") + query(copy_item) + raw('c') + query("PREPARE TRANSACTION 'g'"));
    const auto changes = scene.port.prepared.find("g");
    ASSERT_TRUE(changes);
    ASSERT_EQ(changes->marks.size(), 1U);
    EXPECT_EQ(changes->marks[0].table, 100U);
}

TEST(Truncate, RunsOnTheMirrorWithItsTablesNamed) {
    CopyScene scene;
    EXPECT_THAT(scene.ask(query("TRUNCATE item, pair")), ElementsAre("C TRUNCATE", "Z I"));
    EXPECT_THAT(scene.target.log(),
                ElementsAre(parse_begin, begin_mirror, "Execute ", "Sync",
                            R"(Query TRUNCATE TABLE "public"."item", "public"."pair")",
                            "Query COMMIT"));
    ASSERT_EQ(scene.port.intents.size(), 1U);
    EXPECT_THAT(scene.port.intents[0].suspects, IsEmpty());
    ASSERT_EQ(scene.port.intents[0].tables.size(), 2U);
    EXPECT_TRUE(scene.port.intents[0].tables[0].removes);
    EXPECT_EQ(scene.port.finished.back().second, CommitOutcome::mirrored);
}

TEST(Truncate, ThatFailsOnTheMirrorIsNotMirrored) {
    CopyScene scene;
    scene.target.on("TRUNCATE", refusal("0A000"));
    EXPECT_THAT(scene.ask(query("TRUNCATE item")), ElementsAre("C TRUNCATE", "Z I"));
    EXPECT_THAT(scene.port.finished, ElementsAre(std::pair(TxnId{1}, CommitOutcome::not_mirrored)));
}

// PostgreSQL sets a table's counters to zero: what came before must not hide what comes after.
TEST(Truncate, StartsAMeasurementOfItsTableAnew) {
    CopyScene scene;
    scene.source.on("pg_stat_xact_user_tables",
                    Reply({"relid", "count"}, {{"clock", "1"}, {"100", "5"}}));
    scene.send(query("BEGIN") + query("INSERT INTO item VALUES (7)") +
               query("SELECT user_volatile()") + query("TRUNCATE item"));
    scene.source.on("pg_stat_xact_user_tables",
                    Reply({"relid", "count"}, {{"clock", "1"}, {"100", "1"}}));
    scene.send(query("COMMIT"));
    ASSERT_EQ(scene.port.intents.size(), 1U);
    ASSERT_EQ(scene.port.intents[0].suspects.size(), 1U);
    EXPECT_EQ(scene.port.intents[0].suspects[0].table, 100U);
}

TEST(Copy, AMirrorThatEndsItBeforeItsDataIsGivenUp) {
    CopyScene scene;
    scene.target.on("COPY \"public\".\"item\"", Reply({}, {}, "COPY 0"));
    scene.begin_copy();
    scene.send(raw('d', "7\n") + raw('c'));
    EXPECT_THAT(scene.client(), Contains("Z I"));
    EXPECT_THAT(scene.target.log(), Not(Contains("CopyDone")));
    ASSERT_EQ(scene.port.finished.size(), 1U);
    EXPECT_EQ(scene.port.finished[0].second, CommitOutcome::not_mirrored);
    // And one that ends it as the session is closed.
    CopyScene closed;
    closed.target.on("COPY \"public\".\"item\"", Reply({}, {}, "COPY 0"));
    closed.begin_copy();
    closed.close_client();
    EXPECT_TRUE(closed.machine.closed());
}

}  // namespace
}  // namespace banyan::test
