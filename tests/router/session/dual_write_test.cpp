// DUAL_WRITE, simple queries: the order of a commit, savepoints, and everything that goes wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scene.hpp"

namespace banyan::test {
namespace {

using namespace std::literals;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr const char* parse_begin =
    "Parse banyan_begin: BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
constexpr const char* begin_with_savepoint =
    "Query BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SAVEPOINT \"a\"";

/// A session in DUAL_WRITE that has read its settings. Item 7 can be written and deleted.
struct DualWrite : Scene {
    DualWrite() : Scene(Phase::dual_write) {
        source.on("INSERT INTO item", Reply({"id", "name", "odd"}, {{"7", "a", std::nullopt}}));
        source.on("DELETE FROM item", Reply({"id"}, {{"7"}}));
        log_in();
    }
    std::string key_of_write(std::size_t intent, std::size_t write) const {
        return port.intents.at(intent).writes.at(write).key.bytes;
    }
};

std::string key(std::string_view value) {
    std::string bytes;
    router::append_key_column(bytes, value);
    return bytes;
}

TEST(DualWrite, AnInsertIsAppliedJournaledCommittedAnsweredAndMirroredInThisOrder) {
    DualWrite scene;
    scene.send(query("INSERT INTO item VALUES (7, 1)"));
    EXPECT_THAT(scene.events,
                ElementsAre("source< Parse INSERT INTO item VALUES (7, 1) ~",
                            "source< Bind :()/1,1,1", "source< Execute ", "source< Flush",
                            std::string("target< ") + parse_begin,
                            "target< Bind :banyan_begin()", "target< Execute ",
                            "target< Parse banyan_upsert_100_1: <upsert item>",
                            "target< Bind :banyan_upsert_100_1(7,a,-)", "target< Execute ",
                            "target< Sync", "journal", "source< Close S ", "source< Sync",
                            "client< C INSERT 0 1", "client< Z I", "target< Query COMMIT",
                            "finish 1 mirrored"));
    ASSERT_EQ(scene.port.intents.size(), 1U);
    ASSERT_EQ(scene.port.intents[0].writes.size(), 1U);
    EXPECT_EQ(scene.key_of_write(0, 0), key("7"));
    EXPECT_EQ(scene.port.intents[0].writes[0].key.table, 100U);
    EXPECT_FALSE(scene.port.intents[0].writes[0].removes);
    EXPECT_FALSE(scene.port.intents[0].writes[0].dirty);
    EXPECT_EQ(scene.target.status(), 'I');
}

TEST(DualWrite, NothingIsCommittedBeforeTheJournalAnswers) {
    DualWrite scene;
    scene.journal_answers = false;
    scene.send(query("INSERT INTO item VALUES (7)"));
    EXPECT_THAT(scene.source.log(), Not(Contains("Sync")));
    EXPECT_THAT(scene.client(), IsEmpty());
    scene.answer_journal(true);
    EXPECT_THAT(scene.source.log(), Contains("Sync"));
    EXPECT_THAT(scene.client(), ElementsAre("C INSERT 0 1", "Z I"));
}

TEST(DualWrite, NothingIsCommittedBeforeTheMirrorHasAppliedEverything) {
    DualWrite scene;
    scene.target.hangs = true;
    scene.send(query("BEGIN") + query("INSERT INTO item VALUES (7)"));
    scene.forget();
    scene.send(query("COMMIT"));
    EXPECT_THAT(scene.events, Not(Contains("source< Query COMMIT")));
    EXPECT_EQ(scene.port.deadlines.count(Deadline::mirror), 1U);
    scene.resume(Side::target);
    EXPECT_EQ(scene.port.deadlines.count(Deadline::mirror), 0U);
    EXPECT_THAT(scene.client(), ElementsAre("C COMMIT", "Z I"));
    EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
}

TEST(DualWrite, TheMirrorsCommitDelaysNobody) {
    DualWrite scene;
    scene.journal_answers = false;
    scene.send(query("INSERT INTO item VALUES (7)"));
    scene.target.hangs = true;
    scene.answer_journal(true);
    EXPECT_THAT(scene.client(), ElementsAre("C INSERT 0 1", "Z I"));
    EXPECT_THAT(scene.port.finished, IsEmpty());
    EXPECT_THAT(scene.ask(query("SELECT 1")), ElementsAre("C SELECT 1", "Z I"));
    scene.resume(Side::target);
    EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
}

TEST(DualWrite, ReadsAndEmptyQueriesGoAsTheyAre) {
    for (const std::string sql : {"SELECT * FROM item", "", "-- nothing", "SHOW all", "VACUUM"}) {
        DualWrite scene;
        scene.send(query(sql));
        EXPECT_THAT(scene.source.log(), ElementsAre("Query " + sql));
        EXPECT_THAT(scene.target.log(), IsEmpty());
        EXPECT_THAT(scene.port.intents, IsEmpty());
    }
}

TEST(DualWrite, ABlockIsMirroredWithItsSavepoints) {
    DualWrite scene;
    EXPECT_THAT(scene.ask(query("BEGIN")), ElementsAre("C BEGIN", "Z T"));
    EXPECT_THAT(scene.ask(query("INSERT INTO item VALUES (7)")),
                ElementsAre("C INSERT 0 1", "Z T"));
    scene.ask(query("SAVEPOINT a"));
    scene.ask(query("INSERT INTO item VALUES (7)"));
    scene.ask(query("ROLLBACK TO a"));
    scene.ask(query("DELETE FROM item WHERE id = 7"));
    scene.ask(query("RELEASE a"));
    EXPECT_THAT(scene.port.intents, IsEmpty());
    EXPECT_THAT(scene.ask(query("COMMIT")), ElementsAre("C COMMIT", "Z I"));
    EXPECT_THAT(
        scene.target.log(),
        ElementsAre(parse_begin, "Bind :banyan_begin()", "Execute ",
                    "Parse banyan_upsert_100_1: <upsert item>",
                    "Bind :banyan_upsert_100_1(7,a,-)", "Execute ", "Sync", "Query SAVEPOINT \"a\"",
                    "Bind :banyan_upsert_100_1(7,a,-)", "Execute ", "Sync",
                    "Query ROLLBACK TO SAVEPOINT \"a\"", "Parse banyan_delete_100_1: <delete item>",
                    "Bind :banyan_delete_100_1(7)", "Execute ", "Sync",
                    "Query RELEASE SAVEPOINT \"a\"", "Query COMMIT"));
    // Every key that was touched is in the journal, those rolled back to the savepoint too.
    ASSERT_EQ(scene.port.intents.size(), 1U);
    EXPECT_EQ(scene.port.intents[0].writes.size(), 3U);
    EXPECT_TRUE(scene.port.intents[0].writes[2].removes);
    EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
}

TEST(DualWrite, SavepointsOfBeforeTheFirstWriteAreMadeUpFor) {
    DualWrite scene;
    scene.send(query("BEGIN") + query("SAVEPOINT a") + query("SAVEPOINT b") + query("RELEASE b") +
               query("INSERT INTO item VALUES (7)") + query("ROLLBACK TO a") + query("COMMIT"));
    EXPECT_THAT(scene.target.log(),
                AllOf(Contains(begin_with_savepoint),
                      Contains("Query ROLLBACK TO SAVEPOINT \"a\"")));
}

TEST(DualWrite, ARollbackIsOneOnBothSides) {
    DualWrite scene;
    scene.send(query("BEGIN") + query("INSERT INTO item VALUES (7)"));
    scene.client();
    EXPECT_THAT(scene.ask(query("ROLLBACK")), ElementsAre("C ROLLBACK", "Z I"));
    EXPECT_EQ(scene.target.log().back(), "Query ROLLBACK");
    EXPECT_EQ(scene.target.status(), 'I');
    EXPECT_THAT(scene.port.intents, IsEmpty());
}

// What is sent behind BEGIN and its Sync, if BEGIN is refused, is written all the same, and stays.
TEST(DualWrite, ATableIsSuspectIfTheMirrorRefusedBegin) {
    DualWrite scene;
    scene.target.on("BEGIN", refusal("25006"));
    scene.send(query("BEGIN"));
    scene.target.hangs = true;
    // Too many to wait for more of them: two groups are on their way before BEGIN is answered.
    for (int i = 0; i < 40; ++i) {
        scene.send(query("INSERT INTO item VALUES (7)"));
    }
    scene.resume(Side::target);
    scene.send(query("ROLLBACK"));
    EXPECT_EQ(scene.client().back(), "Z I");
    ASSERT_FALSE(scene.port.suspects.empty());
    EXPECT_EQ(scene.port.suspects[0].table, 100U);
    EXPECT_EQ(scene.port.suspects[0].reason, "written_outside_transaction");
}

TEST(DualWrite, WhatIsSentWithARefusedBeginIsSkippedWithIt) {
    DualWrite scene;
    scene.target.on("BEGIN", refusal("25006"));
    scene.send(query("BEGIN") + query("INSERT INTO item VALUES (7)") + query("COMMIT"));
    EXPECT_EQ(scene.client().back(), "Z I");
    EXPECT_THAT(scene.port.suspects, IsEmpty());
    EXPECT_THAT(scene.events, Contains("finish 1 not_mirrored"));
}

// --- what a block writes goes to the mirror together ---

TEST(DualWrite, AScriptBehindAChainedCommitIsInItsBlock) {
    DualWrite scene;
    scene.send(query("BEGIN") + query("INSERT INTO item VALUES (7)"));
    EXPECT_EQ(scene.ask(query("COMMIT AND CHAIN; INSERT INTO item VALUES (7)")).back(), "Z T");
    EXPECT_EQ(scene.port.intents.size(), 1U);
    EXPECT_EQ(scene.target.status(), 'T');
    scene.ask(query("ROLLBACK"));
    EXPECT_EQ(scene.port.finished.size(), 1U);
}

// Rows that were still waiting are sent at once: a moment later their row locks may be gone.
TEST(DualWrite, WhatWaitsBehindARefusedBeginIsSentAtOnce) {
    DualWrite scene;
    scene.target.on("BEGIN", refusal("25006"));
    scene.send(query("BEGIN"));
    scene.target.hangs = true;
    for (int i = 0; i < 20; ++i) {
        scene.send(query("INSERT INTO item VALUES (7)"));
    }
    EXPECT_TRUE(scene.machine.rows_can_wait());
    scene.resume(Side::target);
    EXPECT_FALSE(scene.machine.rows_can_wait());
    EXPECT_THAT(scene.port.suspects, ::testing::SizeIs(1));
    scene.send(query("ROLLBACK"));
    EXPECT_THAT(scene.port.suspects, ::testing::SizeIs(2));
}

TEST(DualWrite, TheRowsOfABlockWaitForItsCommit) {
    DualWrite scene;
    scene.send(query("BEGIN"));
    for (int i = 0; i < 3; ++i) {
        scene.send(query("INSERT INTO item VALUES (7)"));
        EXPECT_TRUE(scene.machine.rows_can_wait());
    }
    EXPECT_THAT(scene.target.log(), Not(Contains("Sync")));
    scene.send(query("COMMIT"));
    EXPECT_FALSE(scene.machine.rows_can_wait());
    EXPECT_THAT(scene.target.log(), ElementsAre("Sync", "Query COMMIT"));
}

TEST(DualWrite, ManyRowsDoNotWait) {
    DualWrite scene;
    scene.send(query("BEGIN"));
    int waited = 0;
    for (int i = 0; i < 20; ++i) {
        scene.send(query("INSERT INTO item VALUES (7)"));
        waited += scene.machine.rows_can_wait() ? 1 : 0;
    }
    EXPECT_EQ(waited, 19);  // with BEGIN the 16th is one too many; then they gather again
    DualWrite large;
    large.source.on("INSERT INTO item",
                    Reply({"id", "name", "odd"}, {{"7", std::string(9000, 'x'), "b"}}));
    large.target_reads = false;  // what is not taken counts as waiting
    large.send(query("BEGIN") + query("INSERT INTO item VALUES (7)"));
    EXPECT_FALSE(large.machine.rows_can_wait());
}

TEST(DualWrite, WhatIsNotARowDoesNotWaitAndNeitherDoWhatStandsBeforeIt) {
    DualWrite scene;
    scene.send(query("BEGIN") + query("INSERT INTO item VALUES (7)") + query("SAVEPOINT a"));
    EXPECT_FALSE(scene.machine.rows_can_wait());
    EXPECT_EQ(scene.target.log().back(), "Query SAVEPOINT \"a\"");
}

TEST(DualWrite, TheJournalIsWrittenWhileTheMirrorApplies) {
    DualWrite scene;
    scene.send(query("BEGIN") + query("INSERT INTO item VALUES (7)"));
    scene.target.hangs = true;
    scene.send(query("COMMIT"));
    EXPECT_THAT(scene.events, Contains("journal"));
    EXPECT_THAT(scene.events, Not(Contains("source< Query COMMIT")));
    scene.lose_server(Side::target);  // it has applied nothing
    EXPECT_THAT(scene.client().back(), "Z I");
    EXPECT_THAT(scene.events, Contains("finish 1 not_mirrored"));
}

// Its answers may change what is journaled, or say that nothing is to be.
TEST(DualWrite, TheJournalIsWrittenBehindAnswersThatMayChangeIt) {
    for (const std::string sql : {"DELETE FROM item WHERE id = 7", "SAVEPOINT a"}) {
        DualWrite scene;
        scene.send(query("BEGIN") + query("INSERT INTO item VALUES (7)"));
        scene.target.hangs = true;
        scene.send(query(sql));
        scene.send(query("COMMIT"));
        EXPECT_THAT(scene.events, Not(Contains("journal"))) << sql;
        scene.resume(Side::target);
        EXPECT_THAT(scene.events, Contains("finish 1 mirrored")) << sql;
    }
    DualWrite rejecting;
    rejecting.config.mirror.on_failure = "reject";
    rejecting.send(query("BEGIN") + query("INSERT INTO item VALUES (7)"));
    rejecting.target.hangs = true;
    rejecting.send(query("COMMIT"));
    EXPECT_THAT(rejecting.events, Not(Contains("journal")));
}

TEST(DualWrite, AClientThatLeavesWhileTheMirrorAppliesHasCommittedNothing) {
    DualWrite scene;
    scene.send(query("BEGIN") + query("INSERT INTO item VALUES (7)"));
    scene.target.hangs = true;
    scene.send(query("COMMIT"));
    scene.close_client();
    EXPECT_THAT(scene.events, Contains("finish 1 rolled_back"));
    EXPECT_THAT(scene.events, Not(Contains("source< Query COMMIT")));
}

TEST(DualWrite, AnErrorInAStatementReachesTheClientInItsOwnPlace) {
    DualWrite scene;
    scene.source.on("INSERT INTO item", refusal("23505", 13));
    EXPECT_THAT(scene.ask(query("INSERT INTO item VALUES (7)")),
                ElementsAre("E 23505 at 13", "Z I"));
    // The position counts the characters of the whole query, in UTF-8.
    EXPECT_THAT(scene.ask(query("SELECT '\xC3\xA4'; INSERT INTO item VALUES (7)")),
                ElementsAre("C SELECT 1", "E 23505 at 25", "Z I"));
    EXPECT_THAT(scene.port.intents, IsEmpty());
    EXPECT_THAT(scene.target.log(), Not(Contains("Query COMMIT")));
    EXPECT_EQ(scene.source.status(), 'I');
}

TEST(DualWrite, AnErrorInABlockFailsItOnBothSides) {
    DualWrite scene;
    scene.send(query("BEGIN") + query("INSERT INTO item VALUES (7)"));
    scene.source.on("UPDATE", refusal("23505"));
    scene.client();
    EXPECT_THAT(scene.ask(query("UPDATE item SET name = 1")), ElementsAre("E 23505", "Z E"));
    EXPECT_THAT(scene.ask(query("COMMIT")), ElementsAre("C ROLLBACK", "Z I"));
    EXPECT_EQ(scene.target.log().back(), "Query ROLLBACK");
    for (const auto& [txn, outcome] : scene.port.finished) {
        EXPECT_EQ(outcome, CommitOutcome::rolled_back);
    }
}

TEST(DualWrite, ACommitThatFailsAtSyncShowsNoCompletionAndIsUndoneOnTheMirror) {
    DualWrite scene;
    scene.source.commit_error = "23503";  // a deferred constraint
    EXPECT_THAT(scene.ask(query("INSERT INTO item VALUES (7)")), ElementsAre("E 23503", "Z I"));
    EXPECT_EQ(scene.target.log().back(), "Query ROLLBACK");
    EXPECT_THAT(scene.events, Contains("finish 1 rolled_back"));
    // Nothing of it is left for the next statement.
    EXPECT_THAT(scene.ask(query("INSERT INTO item VALUES (7)")),
                ElementsAre("C INSERT 0 1", "Z I"));
    EXPECT_THAT(scene.events, Contains("finish 2 mirrored"));
}

TEST(DualWrite, ACommitOfABlockThatFailsIsUndoneOnTheMirror) {
    DualWrite scene;
    scene.send(query("BEGIN") + query("INSERT INTO item VALUES (7)"));
    scene.source.commit_error = "40001";
    scene.client();
    EXPECT_THAT(scene.ask(query("COMMIT")), ElementsAre("E 40001", "Z I"));
    EXPECT_EQ(scene.target.log().back(), "Query ROLLBACK");
    EXPECT_THAT(scene.events, Contains("finish 1 rolled_back"));
}

TEST(DualWrite, SeveralStatementsInOneQueryAreOneTransaction) {
    DualWrite scene;
    EXPECT_THAT(scene.ask(query("INSERT INTO item VALUES (7); DELETE FROM item WHERE id = 7")),
                ElementsAre("C INSERT 0 1", "C DELETE 1", "Z I"));
    EXPECT_EQ(scene.port.intents.size(), 1U);
    const auto log = scene.source.log();
    EXPECT_EQ(std::count(log.begin(), log.end(), "Sync"), 1);
    // The first completion may go out, the last one waits for the commit.
    scene.source.commit_error = "23503";
    EXPECT_THAT(scene.ask(query("INSERT INTO item VALUES (7); DELETE FROM item WHERE id = 7")),
                ElementsAre("C INSERT 0 1", "E 23503", "Z I"));
}

TEST(DualWrite, AReturningClientSeesItsOwnColumnsOnly) {
    DualWrite scene;
    scene.source.on("RETURNING name",
                    Reply({"name", "id", "name", "odd"}, {{"mine", "7", "a", "b"}}));
    EXPECT_THAT(scene.ask(query("INSERT INTO item VALUES (7) RETURNING name")),
                ElementsAre("T name", "D mine", "C INSERT 0 1", "Z I"));
    EXPECT_EQ(scene.key_of_write(0, 0), key("7"));
    EXPECT_THAT(scene.source.log(), Contains("Bind :()/0,1,1,1"));
}

TEST(DualWrite, ADeleteOfNoRowOnTheMirrorIsDirtyInTheIntent) {
    DualWrite scene;
    scene.target.on("DELETE FROM ONLY \"public\".\"item\"", Reply({}, {}, "DELETE 0"));
    scene.send(query("DELETE FROM item WHERE id = 7"));
    ASSERT_EQ(scene.port.intents.size(), 1U);
    EXPECT_TRUE(scene.port.intents[0].writes[0].dirty);
    EXPECT_TRUE(scene.port.intents[0].writes[0].removes);
    EXPECT_EQ(scene.count(Counter::mirror_zero_row_deletes), 1U);
    EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
}

TEST(DualWrite, AnErrorOfTheMirrorIsNeverTheClients) {
    DualWrite scene;
    scene.target.on("INSERT INTO \"public\".\"item\"", refusal("23503"));
    EXPECT_THAT(scene.ask(query("INSERT INTO item VALUES (7)")),
                ElementsAre("C INSERT 0 1", "Z I"));
    EXPECT_THAT(scene.events, Contains("finish 1 not_mirrored"));
    EXPECT_EQ(scene.target.log().back(), "Query ROLLBACK");
    EXPECT_EQ(scene.count(Counter::mirror_skipped), 1U);
    // The next transaction is mirrored again.
    scene.target.on("INSERT INTO \"public\".\"item\"", Reply());
    scene.send(query("INSERT INTO item VALUES (7)"));
    EXPECT_THAT(scene.events, Contains("finish 2 mirrored"));
}

TEST(DualWrite, AMirrorThatErrsAtItsCommitTurnsTheKeysDirty) {
    DualWrite scene;
    scene.target.commit_error = "57014";
    EXPECT_THAT(scene.ask(query("INSERT INTO item VALUES (7)")),
                ElementsAre("C INSERT 0 1", "Z I"));
    EXPECT_THAT(scene.events, Contains("finish 1 not_mirrored"));
}

TEST(DualWrite, AMirrorThatHangsIsGivenUpAtItsDeadline) {
    DualWrite scene;
    scene.target.hangs = true;
    scene.send(query("INSERT INTO item VALUES (7)"));
    EXPECT_THAT(scene.client(), IsEmpty());
    scene.deadline(Deadline::mirror);
    EXPECT_THAT(scene.client(), ElementsAre("C INSERT 0 1", "Z I"));
    EXPECT_THAT(scene.events, Contains("finish 1 not_mirrored"));
    EXPECT_FALSE(scene.port.the_breaker.allows());
    EXPECT_TRUE(scene.port.closed.contains(Side::target));
    // From now on keys are journaled only, without any wait.
    EXPECT_THAT(scene.ask(query("INSERT INTO item VALUES (7)")),
                ElementsAre("C INSERT 0 1", "Z I"));
    EXPECT_THAT(scene.events, Contains("finish 2 not_mirrored"));
}

TEST(DualWrite, AMirrorLostInTheMiddleTurnsTheKeysDirty) {
    DualWrite scene;
    scene.send(query("BEGIN") + query("INSERT INTO item VALUES (7)"));
    scene.lose_server(Side::target);
    scene.send(query("INSERT INTO item VALUES (7)"));
    scene.client();
    EXPECT_THAT(scene.ask(query("COMMIT")), ElementsAre("C COMMIT", "Z I"));
    ASSERT_EQ(scene.port.intents.size(), 1U);
    EXPECT_EQ(scene.port.intents[0].writes.size(), 2U);
    EXPECT_THAT(scene.events, Contains("finish 1 not_mirrored"));
}

TEST(DualWrite, AMirrorLostWithItsCommitUnansweredIsAnUnknownOutcome) {
    DualWrite scene;
    scene.journal_answers = false;
    scene.send(query("INSERT INTO item VALUES (7)"));
    scene.target.hangs = true;
    scene.answer_journal(true);
    scene.lose_server(Side::target);
    EXPECT_THAT(scene.port.lost, ElementsAre("lose 1 target:22"));
    EXPECT_THAT(scene.port.finished, IsEmpty());
    EXPECT_TRUE(scene.machine.logged_in());
}

TEST(DualWrite, AJournalThatCannotBeWrittenIsNotTheClientsProblem) {
    DualWrite scene;
    scene.journal_answers = false;
    scene.send(query("INSERT INTO item VALUES (7)"));
    scene.answer_journal(false);
    EXPECT_THAT(scene.client(), ElementsAre("C INSERT 0 1", "Z I"));
    EXPECT_THAT(scene.events, Contains("finish 1 not_mirrored"));
    EXPECT_EQ(scene.target.log().back(), "Query ROLLBACK");
}

TEST(DualWrite, APrimaryLostWithTheCommitSentIsAnUnknownOutcome) {
    DualWrite scene;
    scene.journal_answers = false;
    scene.send(query("INSERT INTO item VALUES (7)"));
    scene.source.hangs = true;
    scene.answer_journal(true);
    scene.lose_server(Side::source);
    EXPECT_THAT(scene.port.lost, ElementsAre("lose 1 source:11"));
    EXPECT_THAT(scene.port.finished, IsEmpty());
    EXPECT_THAT(scene.client(), IsEmpty());  // neither success nor failure is known
    EXPECT_TRUE(scene.port.client_closed);
    EXPECT_THAT(scene.target.log(), Not(Contains("Query COMMIT")));
}

TEST(DualWrite, APrimaryLostBeforeTheCommitIsARollback) {
    DualWrite scene;
    scene.journal_answers = false;
    scene.send(query("INSERT INTO item VALUES (7)"));
    scene.lose_server(Side::source);
    EXPECT_THAT(scene.events, Contains("finish 1 rolled_back"));
    EXPECT_THAT(scene.client(), ElementsAre("E 57P01"));
    EXPECT_THAT(scene.target.log(), Contains("Query ROLLBACK"));
}

TEST(DualWrite, AClientGoneWithTheCommitSentIsWaitedForInSilence) {
    DualWrite scene;
    scene.journal_answers = false;
    scene.send(query("INSERT INTO item VALUES (7)"));
    scene.source.hangs = true;
    scene.answer_journal(true);
    scene.close_client();
    EXPECT_FALSE(scene.port.over);
    scene.resume(Side::source);
    EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
    EXPECT_TRUE(scene.port.over);
}

TEST(DualWrite, AClientGoneBeforeTheCommitIsARollback) {
    DualWrite scene;
    scene.send(query("BEGIN") + query("INSERT INTO item VALUES (7)"));
    scene.close_client();
    EXPECT_THAT(scene.target.log(), AllOf(Contains("Query ROLLBACK"), Contains("Terminate")));
    EXPECT_THAT(scene.source.log(), Contains("Terminate"));
    EXPECT_THAT(scene.port.intents, IsEmpty());
    EXPECT_TRUE(scene.port.over);
}

TEST(DualWrite, AGarbledMirrorCostsTheMirrorOnly) {
    for (const auto& bytes : {raw('Z', "I"), raw('?', ""), "D\0\0\0\2"s, "\xFF\xFF\xFF\xFF\xFF"s}) {
        DualWrite scene;
        scene.server_says(Side::target, bytes);
        EXPECT_TRUE(scene.machine.logged_in());
        EXPECT_TRUE(scene.port.closed.contains(Side::target));
        EXPECT_THAT(scene.client(), IsEmpty());
        EXPECT_THAT(scene.ask(query("SELECT 1")), ElementsAre("C SELECT 1", "Z I"));
    }
}

}  // namespace
}  // namespace banyan::test
