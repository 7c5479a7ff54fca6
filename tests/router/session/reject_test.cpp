// [mirror] on_mirror_failure = "reject", route by route; and the session's waits for the mirror.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scene.hpp"

namespace banyan::test {
namespace {

using namespace std::literals;
using router::MirrorFault;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr const char* insert = "INSERT INTO item VALUES (7)";
constexpr const char* mirror_insert = "INSERT INTO \"public\".\"item\"";

struct MirrorScene : Scene {
    explicit MirrorScene(bool reject) : Scene(Phase::dual_write) {
        config.mirror.on_failure = reject ? "reject" : "journal";
        source.on("INSERT INTO item", Reply({"id", "name", "odd"}, {{"7", "a", std::nullopt}}));
        source.on("banyan refuses", refusal("42601"));
        for (FakeServer* each : {&source, &target}) {
            each->on("COPY item", copy_in());
            each->on("COPY \"public\".\"item\"", copy_in());
        }
        log_in();
    }
    void open_breaker() { port.the_breaker.open(MirrorFault::read_only, "25006", port.clock); }
    /// From the second measurement on, table 101 has changed.
    void changes_a_table() {
        const auto oid = std::to_string(port.current->table_by_id(101)->oid);
        Reply reply({"relid", "count"}, {{"clock", "1"}, {oid, "3"}});
        reply.passes = 2;
        source.on("pg_stat_xact_user_tables", std::move(reply));
    }
    /// The same transaction again, with the mirror well: nothing of what was refused is left.
    void expect_well() {
        port.the_breaker.close();
        target.on(mirror_insert, Reply());
        forget();
        EXPECT_THAT(ask(query(insert)), ElementsAre("C INSERT 0 1", "Z I"));
        EXPECT_THAT(events.back(), ::testing::EndsWith(" mirrored"));
    }
};

struct Reject : MirrorScene {
    Reject() : MirrorScene(true) {}
    void expect_nothing_committed() {
        EXPECT_EQ(source.status(), 'I');
        EXPECT_THAT(target.log(), Not(Contains("Query COMMIT")));
        EXPECT_THAT(events, Not(Contains(::testing::EndsWith("mirrored"))));
    }
};

TEST(Reject, AMirrorThatIsWellChangesNothing) {
    Reject scene;
    EXPECT_THAT(scene.ask(query(insert)), ElementsAre("C INSERT 0 1", "Z I"));
    EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
    EXPECT_THAT(scene.source.log(), Not(Contains(::testing::HasSubstr("banyan refuses"))));
}

TEST(Reject, AStatementOutsideOfABlockIsRolledBackWhereTheMirrorErrs) {
    Reject scene;
    scene.target.on(mirror_insert, refusal("53100"));
    EXPECT_THAT(scene.ask(query(insert)), ElementsAre("E 40001", "Z I"));
    EXPECT_THAT(scene.port.intents, IsEmpty());
    scene.expect_nothing_committed();
    EXPECT_EQ(scene.count(Counter::writes_rejected), 1U);
    EXPECT_EQ(scene.count(Counter::mirror_skipped), 0U);
    scene.expect_well();
}

TEST(Reject, AMirrorThatDoesNotAnswerFailsTheTransactionAtItsDeadline) {
    Reject scene;
    scene.target.hangs = true;
    scene.send(query(insert));
    EXPECT_THAT(scene.client(), IsEmpty());
    scene.deadline(Deadline::mirror);
    EXPECT_THAT(scene.client(), ElementsAre("E 40001", "Z I"));
    scene.expect_nothing_committed();
    EXPECT_EQ(scene.count(Counter::mirror_waits_timed_out), 1U);
    // From now on without a wait, and reads go on.
    scene.source.log();
    EXPECT_THAT(scene.ask(query(insert)), ElementsAre("E 40001", "Z I"));
    EXPECT_THAT(scene.source.log(), Not(Contains(::testing::HasSubstr("INSERT"))));
    EXPECT_EQ(scene.port.deadlines.count(Deadline::mirror), 0U);
    EXPECT_THAT(scene.ask(query("SELECT 1")), ElementsAre("C SELECT 1", "Z I"));
}

TEST(Reject, ABlocksCommitIsAnsweredByTheErrorAndTheBlockIsOver) {
    for (const bool extended : {false, true}) {
        Reject scene;
        const auto say = [&](const std::string& sql) {
            return scene.ask(extended ? run(sql) + sync() : query(sql));
        };
        scene.target.on(mirror_insert, refusal("XX000"));
        say("BEGIN");
        say(insert);
        scene.forget();
        const auto answer = say("COMMIT");
        EXPECT_THAT(answer, AllOf(Contains("E 40001"), Contains("Z I"), Not(Contains("Z E")),
                                  Not(Contains("C COMMIT")), Not(Contains("C ROLLBACK"))));
        EXPECT_THAT(scene.port.intents, IsEmpty());
        scene.expect_nothing_committed();
        scene.expect_well();
    }
}

TEST(Reject, BehindAMirrorLostInABlockItsWritesAreRefusedAndTheBlockIsAborted) {
    Reject scene;
    scene.ask(query("BEGIN"));
    EXPECT_THAT(scene.ask(query(insert)), ElementsAre("C INSERT 0 1", "Z T"));
    scene.lose_server(Side::target);
    EXPECT_THAT(scene.ask(query("SELECT 1")), ElementsAre("C SELECT 1", "Z T"));
    EXPECT_THAT(scene.ask(query(insert)), ElementsAre("E 40001", "Z E"));
    EXPECT_EQ(scene.source.status(), 'E') << "so that the server itself says 25P02 from here on";
    EXPECT_THAT(scene.ask(query("ROLLBACK")), ElementsAre("C ROLLBACK", "Z I"));
    scene.expect_nothing_committed();
    scene.expect_well();
}

TEST(Reject, APipelineLosesTheTransactionOfItsSyncOnly) {
    Reject scene;
    scene.target.on(mirror_insert, refusal("53100"));
    const auto answer = scene.ask(run(insert) + run(insert) + sync() + run("SELECT 1") + sync());
    EXPECT_EQ(std::count(answer.begin(), answer.end(), "E 40001"), 1);
    EXPECT_EQ(std::count(answer.begin(), answer.end(), "C INSERT 0 1"), 2);
    EXPECT_EQ(std::count(answer.begin(), answer.end(), "Z I"), 2);
    EXPECT_THAT(answer, Contains("C SELECT 1"));
    scene.expect_nothing_committed();
}

TEST(Reject, WhileTheBreakerIsOpenWritesOfEachKindAreRefusedBeforeTheyRun) {
    for (const std::string sql :
         {insert, "TRUNCATE item", "CREATE TABLE n (id int)", "COPY item FROM STDIN",
          "DO $$ begin commit; end $$", "COMMIT PREPARED 'one'",
          "CREATE INDEX CONCURRENTLY i ON item (id)", "SELECT 1; INSERT INTO item VALUES (7)"}) {
        for (const bool extended : {false, true}) {
            if (extended && sql.starts_with("SELECT")) {
                continue;
            }
            Reject scene;
            scene.open_breaker();
            const auto answer = scene.ask(extended ? run(sql) + sync() : query(sql));
            EXPECT_THAT(answer, AllOf(Contains("E 40001"), Contains("Z I"))) << sql;
            const auto sent = scene.source.log();
            for (const auto& line : sent) {
                EXPECT_FALSE(line.starts_with("Execute") && !sql.starts_with("SELECT"))
                    << sql << ": " << line;
                EXPECT_FALSE(line.starts_with("Query")) << sql << ": " << line;
            }
            EXPECT_THAT(scene.port.intents, IsEmpty()) << sql;
            EXPECT_THAT(scene.port.deadlines, IsEmpty()) << sql;
            scene.expect_well();
        }
    }
}

TEST(Reject, ReadsAndSettingsGoOnWhileTheBreakerIsOpen) {
    for (const std::string sql : {"SELECT * FROM item", "SET x.y = '1'", "BEGIN", "SHOW all"}) {
        Reject scene;
        scene.open_breaker();
        EXPECT_THAT(scene.ask(query(sql)), Not(Contains("E 40001"))) << sql;
    }
}

// What an opaque statement writes is measured, and never on the mirror at once: it may commit as long
// as the mirror is well, and makes its tables suspect.
TEST(Reject, AnOpaqueStatementNeedsAMirrorThatIsWellIfItHasWritten) {
    for (const bool well : {true, false}) {
        Reject scene;
        scene.changes_a_table();
        if (!well) {
            scene.open_breaker();
        }
        const auto answer = scene.ask(query("MERGE INTO item USING pair ON id = a WHEN MATCHED THEN DELETE"));
        EXPECT_EQ(std::count(answer.begin(), answer.end(), "E 40001"), well ? 0 : 1);
        EXPECT_THAT(answer, Contains("Z I"));
        EXPECT_EQ(scene.port.intents.size(), well ? 1U : 0U);
    }
}

TEST(Reject, ACopyWhoseDataTheMirrorRefusesIsRolledBack) {
    Reject scene;
    EXPECT_THAT(scene.ask(query("COPY item FROM STDIN")), ElementsAre("G"));
    scene.send(raw('d', "7\n"));
    scene.target.refuse_copy("53100");
    scene.settle();
    scene.send(raw('c'));
    EXPECT_THAT(scene.client(), AllOf(Contains("E 40001"), Contains("Z I"), Not(Contains("C COPY 1"))));
    scene.expect_nothing_committed();
}

TEST(Reject, AJournalThatCannotBeWrittenFailsTheTransaction) {
    for (const bool block : {false, true}) {
        Reject scene;
        scene.journal_answers = false;
        if (block) {
            scene.ask(query("BEGIN"));
            scene.ask(query(insert));
            scene.send(query("COMMIT"));
        } else {
            scene.send(query(insert));
        }
        scene.answer_journal(false);
        EXPECT_THAT(scene.client(), ElementsAre("E 40001", "Z I"));
        EXPECT_THAT(scene.events, Contains("finish 1 rolled_back"));
        EXPECT_EQ(scene.source.status(), 'I');
        EXPECT_EQ(scene.target.log().back(), "Query ROLLBACK");
        scene.journal_answers = true;
        scene.expect_well();
    }
}

TEST(Reject, WhatTheMirrorDoesAtItsOwnCommitIsTheJournalsBusiness) {
    Reject scene;
    scene.target.commit_error = "53100";
    EXPECT_THAT(scene.ask(query(insert)), ElementsAre("C INSERT 0 1", "Z I"));
    EXPECT_THAT(scene.events, Contains("finish 1 not_mirrored"));
}

TEST(Reject, TheFunctionCallOfAFailedTransactionIsToldOnce) {
    Reject scene;
    scene.changes_a_table();
    scene.open_breaker();
    const auto answer = scene.ask(raw('F', "\0\0\0\1"s));
    EXPECT_EQ(std::count(answer.begin(), answer.end(), "E 40001"), 1);
    EXPECT_THAT(answer, AllOf(Not(Contains("E 40000")), Contains("Z I")));
    scene.expect_well();
}

// --- waits, in journal mode ---

struct Waits : MirrorScene {
    Waits() : MirrorScene(false) {}
    /// A write that the mirror answers after so long.
    void slow_write(std::chrono::milliseconds time) {
        target.hangs = true;
        send(query(insert));
        port.clock += time;
        resume(Side::target);
        EXPECT_THAT(client(), ElementsAre("C INSERT 0 1", "Z I"));
    }
};

TEST(MirrorWaits, AnErrorOfTheMirrorItselfCountsForTheBreakerAndOneOfTheTransactionDoesNot) {
    for (const auto* sqlstate : {"53100", "25006", "XX001"}) {
        for (const bool at_commit : {false, true}) {
            Waits scene;
            if (!at_commit) {
                scene.target.on(mirror_insert, refusal(sqlstate));
            }
            for (int i = 0; i < 3; ++i) {
                scene.target.commit_error = at_commit ? sqlstate : "";
                EXPECT_TRUE(scene.port.the_breaker.allows());
                EXPECT_THAT(scene.ask(query(insert)), ElementsAre("C INSERT 0 1", "Z I"));
            }
            EXPECT_FALSE(scene.port.the_breaker.allows()) << sqlstate;
            scene.forget();
            EXPECT_THAT(scene.ask(query(insert)), ElementsAre("C INSERT 0 1", "Z I"));
            EXPECT_THAT(scene.target.log(), IsEmpty()) << "journaled only";
            EXPECT_EQ(scene.count(Counter::mirror_waits_timed_out), 0U);
        }
    }
    for (const auto* sqlstate : {"23505", "42P01", "42501", "40001", "55P03"}) {
        Waits scene;
        scene.target.on(mirror_insert, refusal(sqlstate));
        for (int i = 0; i < 5; ++i) {
            scene.send(query(insert));
        }
        EXPECT_TRUE(scene.port.the_breaker.allows()) << sqlstate;
    }
}

TEST(MirrorWaits, AHotStandbyIsReadOnlyAlthoughItSaysOtherwise) {
    Waits scene;
    scene.target.on("BEGIN ISOLATION", refusal("0A000"));
    for (int i = 0; i < 3; ++i) {
        scene.send(query(insert));
    }
    EXPECT_EQ(scene.port.the_breaker.report().fault, MirrorFault::read_only);
}

TEST(MirrorWaits, AMirrorThatIsAlwaysLateCostsASessionACommitsTimeInAll) {
    Waits scene;
    const auto whole = scene.config.mirror.commit_timeout;
    EXPECT_EQ(whole, 2000ms);
    scene.slow_write(900ms);
    scene.slow_write(900ms);
    EXPECT_EQ(scene.count(Counter::mirror_waits_slow), 2U);
    scene.target.hangs = true;
    scene.send(query(insert));
    EXPECT_EQ(scene.port.deadlines.at(Deadline::mirror), 500ms) << "but enough for a prompt answer";
    scene.port.clock += 500ms;
    scene.deadline(Deadline::mirror);
    EXPECT_THAT(scene.client(), ElementsAre("C INSERT 0 1", "Z I"));
    EXPECT_EQ(scene.port.the_breaker.report().fault, MirrorFault::slow);
    EXPECT_TRUE(scene.port.the_breaker.allows()) << "one session's word is not enough";
}

TEST(MirrorWaits, APromptAnswerAndANewIncidentMakePatienceWholeAgain) {
    Waits scene;
    scene.slow_write(1500ms);
    scene.slow_write(100ms);
    EXPECT_EQ(scene.count(Counter::mirror_waits_answered), 1U);
    scene.slow_write(1500ms);
    scene.open_breaker();
    scene.port.the_breaker.close();
    scene.target.hangs = true;
    scene.send(query(insert));
    EXPECT_EQ(scene.port.deadlines.at(Deadline::mirror), 2000ms);
}

TEST(MirrorWaits, ACommitThatTheMirrorNeverAnswersHasADeadlineThoughNobodyWaits) {
    Waits scene;
    scene.journal_answers = false;
    scene.send(query(insert));
    scene.target.hangs = true;
    scene.answer_journal(true);
    EXPECT_THAT(scene.client(), ElementsAre("C INSERT 0 1", "Z I"));
    ASSERT_EQ(scene.port.deadlines.count(Deadline::mirror_commit), 1U);
    scene.deadline(Deadline::mirror_commit);
    EXPECT_THAT(scene.port.lost, ElementsAre("lose 1 target:22"));
    EXPECT_FALSE(scene.port.the_breaker.allows());
    EXPECT_EQ(scene.count(Counter::mirror_waits_timed_out), 0U) << "no client has waited";
}

TEST(MirrorWaits, AnAnsweredCommitGivesTheNextTheWholeTimeAndTheLastNone) {
    Waits scene;
    scene.send(query(insert));
    EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
    EXPECT_EQ(scene.port.deadlines.count(Deadline::mirror_commit), 0U);
}

TEST(MirrorWaits, AMirrorWithoutAConnectionToSpareIsNotTriedByEverySession) {
    Scene scene(Phase::dual_write);
    scene.target.hangs = true;
    scene.send(startup());
    scene.server_says(Side::target, raw('E', "SFATAL\0C53300\0Mno\0\0"s));
    for (int i = 0; i < 5; ++i) {
        scene.send(query(insert));
    }
    EXPECT_THAT(scene.port.connects, IsEmpty());
    EXPECT_TRUE(scene.port.the_breaker.allows()) << "those that have a connection go on with it";
    EXPECT_FALSE(scene.port.the_breaker.allows_login(scene.port.clock));
    scene.target.hangs = false;
    scene.port.clock += 1s;
    scene.send(query(insert));
    EXPECT_TRUE(scene.machine.mirror_ready());
}

}  // namespace
}  // namespace banyan::test
