// DUAL_WRITE, the extended protocol: captured columns stay hidden, pipelines keep their order, and
// every commit has a barrier of its own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "scene.hpp"

namespace banyan::test {
namespace {

using namespace std::literals;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::IsEmpty;
using ::testing::Not;

struct Extended : Scene {
    Extended() : Scene(Phase::dual_write) {
        source.on("INSERT INTO item", Reply({"id", "name", "odd"}, {{"7", "a", "b"}}));
        source.on("RETURNING id, name", Reply({"id", "name", "id", "name", "odd"},
                                              {{"1", "one", "1", "one", "x"},
                                               {"2", "two", "2", "two", "y"},
                                               {"3", "three", "3", "three", "z"}}));
        source.on("SELECT id FROM item", Reply({"id"}, {{"1"}, {"2"}}));
        log_in();
    }
};

constexpr const char* insert = "INSERT INTO item VALUES ($1)";
constexpr const char* returning = "INSERT INTO item VALUES ($1) RETURNING id, name";

TEST(DualWriteExtended, OneInsertUpToSync) {
    Extended scene;
    scene.send(parse("", insert) + bind_portal("", "", {"7"}) + describe('P', "") + execute() +
               sync());
    EXPECT_THAT(scene.events,
                ElementsAre("source< Parse INSERT INTO item VALUES ($1) ~",
                            "source< Bind :(7)/1,1,1", "source< Describe P ", "source< Execute ",
                            "source< Flush", "client< 1", "client< 2", "client< n",
                            "client< C INSERT 0 1",
                            "target< Parse banyan_begin: BEGIN ISOLATION LEVEL READ COMMITTED READ "
                            "WRITE",
                            "target< Bind :banyan_begin()", "target< Execute ",
                            "target< Parse banyan_upsert_100_1: <upsert item>",
                            "target< Bind :banyan_upsert_100_1(7,a,b)", "target< Execute ",
                            "target< Sync", "journal", "source< Sync", "client< Z I",
                            "target< Query COMMIT", "finish 1 mirrored"));
}

TEST(DualWriteExtended, AFailedCommitAtSyncIsAnErrorAndUndoneOnTheMirror) {
    Extended scene;
    scene.source.commit_error = "23503";
    EXPECT_THAT(scene.ask(run(insert, {"7"}) + sync()),
                ElementsAre("1", "2", "C INSERT 0 1", "E 23503", "Z I"));
    EXPECT_EQ(scene.target.log().back(), "Query ROLLBACK");
    EXPECT_THAT(scene.events, Contains("finish 1 rolled_back"));
}

// --- fewer round trips: BEGIN and COMMIT with their Sync ---

std::string in_one_message(const std::string& sql) {
    return parse("", sql) + bind_portal("", "") + describe('P', "") + execute() + sync();
}

std::size_t flushes(const Lines& events) {
    return static_cast<std::size_t>(std::count(events.begin(), events.end(), "source< Flush"));
}

TEST(DualWriteExtended, BeginAndCommitGoWithTheirSync) {
    Extended scene;
    EXPECT_THAT(scene.ask(in_one_message("BEGIN")), ElementsAre("1", "2", "n", "C BEGIN", "Z T"));
    EXPECT_EQ(flushes(scene.events), 0U);
    scene.ask(run(insert, {"7"}) + sync());
    scene.events.clear();
    EXPECT_THAT(scene.ask(in_one_message("COMMIT")), ElementsAre("1", "2", "n", "C COMMIT", "Z I"));
    EXPECT_EQ(flushes(scene.events), 0U);
    EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
    const auto at = [&](const char* line) {
        return std::find(scene.events.begin(), scene.events.end(), line) - scene.events.begin();
    };
    EXPECT_LT(at("target< Sync"), at("source< Execute "));
    EXPECT_LT(at("journal"), at("source< Execute "));
    EXPECT_LT(at("source< Sync"), at("target< Query COMMIT"));
    EXPECT_LT(at("client< C COMMIT"), at("finish 1 mirrored"));
}

TEST(DualWriteExtended, ACommitWithNothingToCommitWaitsForNothing) {
    Extended scene;
    scene.ask(in_one_message("BEGIN"));
    scene.ask(run("SELECT id FROM item") + sync());
    scene.events.clear();
    EXPECT_THAT(scene.ask(in_one_message("COMMIT")), ElementsAre("1", "2", "n", "C COMMIT", "Z I"));
    EXPECT_EQ(flushes(scene.events), 0U);
    EXPECT_THAT(scene.port.intents, IsEmpty());
}

// Where the Sync comes later, the answer must not wait for it.
TEST(DualWriteExtended, BeginAndCommitAreFlushedIfTheirSyncIsNotThere) {
    Extended scene;
    EXPECT_THAT(scene.ask(run("BEGIN")), ElementsAre("1", "2", "C BEGIN"));
    EXPECT_THAT(scene.ask(sync()), ElementsAre("Z T"));
    scene.ask(run(insert, {"7"}) + sync());
    EXPECT_THAT(scene.ask(run("COMMIT")), ElementsAre("1", "2", "C COMMIT"));
    EXPECT_THAT(scene.ask(sync()), ElementsAre("Z I"));
    EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
    for (std::size_t chunk = 1; chunk < 40; ++chunk) {
        Extended pieces;
        pieces.client_chunk = chunk;
        pieces.send(in_one_message("BEGIN") + run(insert, {"7"}) + sync() +
                    in_one_message("COMMIT"));
        EXPECT_EQ(pieces.client().back(), "Z I") << chunk;
        EXPECT_THAT(pieces.events, Contains("finish 1 mirrored")) << chunk;
    }
}

TEST(DualWriteExtended, NothingStartsBehindACommitUntilItIsDecided) {
    Extended scene;
    scene.journal_answers = false;
    scene.send(in_one_message("BEGIN") + run(insert, {"7"}) + sync() + in_one_message("COMMIT") +
               run("SELECT id FROM item") + sync());
    EXPECT_THAT(scene.client().back(), "Z T");
    scene.source.hangs = true;
    scene.answer_journal(true);
    EXPECT_THAT(scene.source.log(), Not(Contains("Parse SELECT id FROM item ~")));
    scene.resume(Side::source);
    EXPECT_EQ(scene.client().back(), "Z I");
}

// What comes before its Execute fails: there is no COMMIT, whatever was journaled for it, and the block
// is in error. It may be known before the journal has answered, or when Execute is on its way.
TEST(DualWriteExtended, ACommitThatIsNeverReachedIsARollback) {
    for (const bool on_its_way : {false, true}) {
        Extended scene;
        scene.ask(in_one_message("BEGIN"));
        scene.ask(run(insert, {"7"}) + sync());
        scene.events.clear();
        scene.journal_answers = false;
        scene.source.on("COMMIT", refusal("53200", 0, true));
        scene.source.hangs = true;
        scene.send(parse("", "COMMIT") + bind_portal("", "") + execute() + sync());
        EXPECT_THAT(scene.events, Contains("journal"));
        if (on_its_way) {
            scene.answer_journal(true);
            scene.resume(Side::source);
        } else {
            scene.resume(Side::source);
            scene.answer_journal(true);
            EXPECT_THAT(scene.events, Not(Contains("source< Execute ")));
        }
        EXPECT_THAT(scene.events, Contains("finish 1 rolled_back"));
        EXPECT_THAT(scene.client(), ElementsAre("E 53200", "Z E"));
        scene.ask(query("ROLLBACK"));
        EXPECT_EQ(scene.target.status(), 'I');
        EXPECT_EQ(scene.port.finished.size(), 1U);
    }
}

// In a pipeline, CALL may commit what stands before it, whose rows must be on the mirror first.
TEST(DualWriteExtended, AStatementThatMayCommitWaitsForTheRowsBeforeIt) {
    Extended scene;
    router::Catalog catalog = router::sample_catalog();
    catalog.version = scene.port.current->version;
    catalog.committing_procedures = true;
    scene.port.current = std::make_shared<const router::Catalog>(std::move(catalog));
    scene.target.hangs = true;
    scene.send(run(insert, {"7"}) + run("CALL p()") + sync());
    EXPECT_THAT(scene.client(), Contains("C INSERT 0 1"));
    EXPECT_THAT(scene.events, Not(Contains("journal")));
    scene.resume(Side::target);
    EXPECT_EQ(scene.client().back(), "Z I");
    EXPECT_THAT(scene.events, Contains("finish 2 mirrored"));
}

// A COMMIT outside of a block commits all the same, with a warning; its answer must be asked for.
TEST(DualWriteExtended, ACommitOutsideOfABlockIsAnsweredBeforeItsSync) {
    Extended scene;
    EXPECT_EQ(scene.ask(run(insert, {"7"}) + run("COMMIT") + sync()).back(), "Z I");
    EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
    EXPECT_EQ(scene.ask(run("BEGIN") + run(insert, {"7"}) + run("COMMIT") + run(insert, {"7"}) +
                        run("COMMIT") + sync())
                  .back(),
              "Z I");
    EXPECT_THAT(scene.events, Contains("finish 3 mirrored"));
    EXPECT_EQ(scene.target.status(), 'I');
}

// The block's own commit has nothing to wait for; what follows it in the pipeline is another transaction.
TEST(DualWriteExtended, WhatIsWrittenBehindACommitIsCommittedByTheSync) {
    for (std::size_t chunk : {std::string::npos, std::size_t{1}, std::size_t{90}}) {
        Extended scene;
        scene.client_chunk = chunk;
        scene.send(run("BEGIN") + run("SELECT id FROM item") + run("COMMIT") + run(insert, {"7"}) +
                   sync());
        EXPECT_EQ(scene.client().back(), "Z I");
        EXPECT_EQ(scene.port.intents.size(), 1U);
        EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
    }
}

TEST(DualWriteExtended, AChainedBlockIsNotCommittedByASync) {
    for (const std::string end : {"COMMIT AND CHAIN", "ROLLBACK AND CHAIN"}) {
        Extended scene;
        scene.send(run("BEGIN") + run(insert, {"7"}) + run(end) + run(insert, {"7"}) + sync());
        EXPECT_EQ(scene.client().back(), "Z T") << end;
        const std::size_t committed = end.starts_with("COMMIT") ? 1 : 0;
        EXPECT_EQ(scene.port.intents.size(), committed) << end;
        EXPECT_EQ(scene.target.status(), 'T') << end;
        scene.ask(query("ROLLBACK"));
        EXPECT_EQ(scene.port.finished.size(), committed) << end;
        EXPECT_EQ(scene.target.status(), 'I') << end;
    }
}

// Clients do not do that, and what they wrote must not be lost if they do.
TEST(DualWriteExtended, AQueryCommitsWhatTheExtendedProtocolHasLeftOpen) {
    Extended scene;
    scene.send(run(insert, {"7"}) + query("SELECT id FROM item"));
    EXPECT_EQ(scene.client().back(), "Z I");
    EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
}

TEST(DualWriteExtended, DescribeShowsTheClientsColumnsOnly) {
    Extended scene;
    EXPECT_THAT(scene.ask(parse("s", returning) + describe('S', "s") + bind_portal("p", "s", {"1"}) +
                          describe('P', "p") + execute("p") + sync()),
                ElementsAre("1", "t", "T id,name", "2", "T id,name", "D 1,one", "D 2,two",
                            "D 3,three", "C INSERT 0 3", "Z I"));
    ASSERT_EQ(scene.port.intents.size(), 1U);
    EXPECT_EQ(scene.port.intents[0].writes.size(), 3U);
}

TEST(DualWriteExtended, ResultFormatsAreTheClientsAndBehindThemOurs) {
    struct Case {
        const char* name;
        std::vector<std::uint16_t> asked;
        const char* sent;
    };
    const Case cases[] = {
        {"none: text", {}, "Bind p:s(1)/0,0,1,1,1"},
        {"one for all", {1}, "Bind p:s(1)/1,1,1,1,1"},
        {"one each", {0, 1}, "Bind p:s(1)/0,1,1,1,1"},
    };
    for (const auto& each : cases) {
        Extended scene;
        scene.send(parse("s", returning) + bind_portal("p", "s", {"1"}, each.asked) +
                   execute("p") + sync());
        EXPECT_THAT(scene.source.log(), Contains(each.sent)) << each.name;
    }
}

TEST(DualWriteExtended, PipelinedTransactionsHaveABarrierEach) {
    Extended scene;
    scene.journal_answers = false;
    scene.send(run(insert, {"7"}) + sync() + run(insert, {"8"}) + sync());
    EXPECT_EQ(scene.port.intents.size(), 1U);
    scene.answer_journal(true);
    // The second transaction stands written, but is not committed with the first one's journal.
    EXPECT_EQ(scene.port.intents.size(), 2U);
    const auto log = scene.source.log();
    EXPECT_EQ(std::count(log.begin(), log.end(), "Sync"), 1);
    EXPECT_EQ(log.back(), "Flush");
    scene.answer_journal(true);
    EXPECT_THAT(scene.source.log(), ElementsAre("Sync"));
    EXPECT_THAT(scene.client(), ElementsAre("1", "2", "C INSERT 0 1", "Z I", "1", "2",
                                            "C INSERT 0 1", "Z I"));
    EXPECT_THAT(scene.port.finished,
                ElementsAre(std::pair(1U, CommitOutcome::mirrored),
                            std::pair(2U, CommitOutcome::mirrored)));
}

TEST(DualWriteExtended, ACommitInAPipelineIsHeldBackToo) {
    Extended scene;
    scene.journal_answers = false;
    scene.send(run("BEGIN") + run(insert, {"7"}) + run("COMMIT") + run(insert, {"8"}) + sync());
    auto log = scene.source.log();
    EXPECT_EQ(log.back(), "Flush");
    EXPECT_EQ(scene.port.intents.size(), 1U);
    EXPECT_THAT(scene.client(),
                ElementsAre("1", "2", "C BEGIN", "1", "2", "C INSERT 0 1", "1", "2"));
    scene.answer_journal(true);
    EXPECT_EQ(scene.port.intents.size(), 2U);  // the insert behind COMMIT is a new transaction
    scene.answer_journal(true);
    EXPECT_THAT(scene.client(), ElementsAre("C COMMIT", "1", "2", "C INSERT 0 1", "Z I"));
}

TEST(DualWriteExtended, AnErrorInAPipelineDropsTheRestAndItsMirror) {
    Extended scene;
    scene.source.on("UPDATE item", refusal("23514"));
    EXPECT_THAT(scene.ask(run(insert, {"7"}) + run("UPDATE item SET name = 1") +
                          run(insert, {"8"}) + sync()),
                ElementsAre("1", "2", "C INSERT 0 1", "1", "2", "E 23514", "Z I"));
    EXPECT_THAT(scene.port.intents, IsEmpty());
    EXPECT_EQ(scene.target.log().back(), "Query ROLLBACK");
    EXPECT_THAT(scene.ask(run(insert, {"7"}) + sync()),
                ElementsAre("1", "2", "C INSERT 0 1", "Z I"));
    EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
}

TEST(DualWriteExtended, ARefusedParseLeavesNoStatementOfThatName) {
    Extended scene;
    scene.source.on("INSERT INTO item VALUES ($1, 'x')", refusal("42601", 9, true));
    EXPECT_THAT(scene.ask(parse("s", "INSERT INTO item VALUES ($1, 'x')") + sync()),
                ElementsAre("E 42601 at 9", "Z I"));
    EXPECT_THAT(scene.ask(bind_portal("", "s") + execute() + sync()),
                ElementsAre("E 26000", "Z I"));
    // A name in use: the statement that has it lives on.
    scene.ask(parse("t", insert) + sync());
    EXPECT_THAT(scene.ask(parse("t", "SELECT id FROM item") + sync()),
                ElementsAre("E 42P05", "Z I"));
    EXPECT_THAT(scene.ask(bind_portal("", "t", {"7"}) + execute() + sync()),
                ElementsAre("2", "C INSERT 0 1", "Z I"));
}

TEST(DualWriteExtended, RowLimitsOfACapturedStatementAreServedFromWhatWasHeld) {
    Extended scene;
    EXPECT_THAT(scene.ask(parse("s", returning) + bind_portal("p", "s", {"1"}) + execute("p", 2) +
                          flush()),
                ElementsAre("1", "2", "D 1,one", "D 2,two", "s"));
    // The statement ran to its end: all of its rows are known already.
    EXPECT_THAT(scene.source.log(), Contains("Execute p"));
    EXPECT_THAT(scene.ask(execute("p", 2) + flush()), ElementsAre("D 3,three", "C INSERT 0 1"));
    EXPECT_THAT(scene.ask(execute("p", 2) + sync()), ElementsAre("C INSERT 0 0", "Z I"));
    ASSERT_EQ(scene.port.intents.size(), 1U);
    EXPECT_EQ(scene.port.intents[0].writes.size(), 3U);
}

TEST(DualWriteExtended, RowLimitsOfReadsAreTheServers) {
    Extended scene;
    EXPECT_THAT(scene.ask(parse("", "SELECT id FROM item") + bind_portal("p", "") +
                          execute("p", 1) + execute("p") + sync()),
                ElementsAre("1", "2", "D 1", "s", "D 2", "C SELECT 2", "Z I"));
    EXPECT_THAT(scene.source.log(), Contains("Execute p/1"));
}

TEST(DualWriteExtended, AfterASimpleQueryTheUnnamedStatementIsGone) {
    Extended scene;
    scene.send(parse("", "SELECT id FROM item") + sync() + query(insert + ""s));
    scene.client();
    scene.send(query("INSERT INTO item VALUES (7)"));
    scene.client();
    EXPECT_THAT(scene.ask(bind_portal("", "") + execute() + sync()),
                ElementsAre("E 26000", "Z I"));
}

TEST(DualWriteExtended, WhatAnOpaqueStatementChangedIsMeasuredInItsTransaction) {
    Extended scene;
    scene.source.on("pg_stat_xact_user_tables",
                    Reply({"relid", "count"}, {{"clock", "1"}, {"101", "2"}}));
    scene.send(run("SELECT user_volatile()") + sync());
    // The baseline already showed two changes of that table: nothing new.
    ASSERT_EQ(scene.port.intents.size(), 1U);
    EXPECT_THAT(scene.port.intents[0].suspects, IsEmpty());
    const auto log = scene.source.log();
    EXPECT_EQ(std::count(log.begin(), log.end(), "Parse banyan_query: <changes>"), 2);
    EXPECT_EQ(std::count(log.begin(), log.end(), "Sync"), 1);
}

TEST(DualWriteExtended, RowsCapturedBeforeTheBaselineDoNotHideWhatAnOpaqueStatementChanges) {
    Extended scene;
    const auto item = std::to_string(scene.port.current->table_by_id(100)->oid);
    scene.source.on("pg_stat_xact_user_tables",
                    Reply({"relid", "count"}, {{"clock", "1"}, {item, "1"}}));
    Reply after({"relid", "count"}, {{"clock", "1"}, {item, "2"}});
    after.passes = 2;  // the baseline: Parse and Execute
    scene.source.on("pg_stat_xact_user_tables", std::move(after));
    scene.send(query("BEGIN") + query("INSERT INTO item VALUES (7)"));
    scene.send(query("SELECT user_volatile()") + query("COMMIT"));
    ASSERT_EQ(scene.port.intents.size(), 1U);
    EXPECT_EQ(scene.port.intents[0].writes.size(), 1U);
    EXPECT_THAT(scene.port.intents[0].suspects, ElementsAre(Field(&SuspectMark::table, 100U)));
}

TEST(DualWriteExtended, ClientSettingsAreReadAgainWhenTheyMayHaveChanged) {
    Extended scene;
    scene.send(query("SET search_path = public") + query("INSERT INTO item VALUES (7)"));
    EXPECT_THAT(scene.source.log(), Contains("Parse banyan_query: <settings>"));
    scene.send(query("INSERT INTO item VALUES (7)"));
    EXPECT_THAT(scene.source.log(), Not(Contains("Parse banyan_query: <settings>")));
}

TEST(DualWriteExtended, DdlRunsOnBothSidesAndTheCatalogueIsWaitedFor) {
    Extended scene;
    EXPECT_THAT(scene.ask(query("CREATE TABLE made (id int)")), ElementsAre("C CREATE", "Z I"));
    EXPECT_THAT(scene.target.log(), Contains("Query CREATE TABLE made (id int)"));
    EXPECT_EQ(scene.port.reloads, 1);
    EXPECT_THAT(scene.ask(query("SELECT id FROM item")), IsEmpty());
    scene.port.current =
        std::make_shared<const router::Catalog>(ScriptedPort::versioned(2));
    scene.give([&] { scene.machine.poll(); });
    scene.settle();
    EXPECT_EQ(scene.client().back(), "Z I");
    // A statement prepared before is rewritten anew: its columns may have changed.
    Extended other;
    other.send(parse("s", insert) + sync());
    other.port.current = std::make_shared<const router::Catalog>(ScriptedPort::versioned(2));
    other.forget();
    EXPECT_THAT(other.ask(bind_portal("", "s", {"7"}) + execute() + sync()),
                ElementsAre("2", "C INSERT 0 1", "Z I"));
    const auto log = other.source.log();
    EXPECT_EQ(log[0], "Close S s");
    EXPECT_EQ(log[1], "Parse s: INSERT INTO item VALUES ($1) ~");
}

}  // namespace
}  // namespace banyan::test
