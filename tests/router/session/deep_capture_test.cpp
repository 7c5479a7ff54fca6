#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scene.hpp"

namespace banyan::test {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::Not;

std::string number(std::uint32_t value) {
    std::string bytes;
    protocol::put_int32(bytes, value);
    return bytes;
}

/// What record_send() gives of a row of integers.
std::string record(const std::vector<std::uint32_t>& values) {
    std::string bytes = number(static_cast<std::uint32_t>(values.size()));
    for (const auto value : values) {
        bytes += number(23) + number(4) + number(value);
    }
    return bytes;
}

const std::string now(1, '\0');
const std::string before("\1", 1);

/// In DUAL_WRITE, with deep capture on table "item" (101: "pair" is without it).
class Deep : public Scene {
   public:
    explicit Deep(bool deferrable = false) : Scene(Phase::dual_write) {
        router::Catalog catalog;
        const router::Catalog sample = router::sample_catalog();
        for (const auto& each : sample.tables()) {
            auto table = std::make_shared<router::Table>(*each);
            for (auto& column : table->columns) {
                column.portable = true;
            }
            table->deep = table->name == "item";
            catalog.add_table(table);
        }
        catalog.add_volatile_function("user_volatile");
        catalog.version = 1;
        catalog.deferrable_triggers = deferrable;
        catalog.committing_procedures = true;
        port.current = std::make_shared<const router::Catalog>(std::move(catalog));
        source.on("pg_stat_xact_user_tables",
                  Reply({"relid", "count"}, {{"clock", "1"}, {"capture", port.nonce()}}));
        source.on("SELECT pg_catalog.set_config('banyan.capture'",
                  Reply({"set_config"}, {{port.nonce()}}));
        log_in();
    }

    /// The records that banyan.take_rows() gives.
    void records(std::vector<Values> rows) {
        source.on("banyan.take_rows", Reply({"relation", "ended", "old", "new"}, std::move(rows)));
    }
    const CommitIntent& intent() { return port.intents.back(); }
};

TEST(DeepCapture, RecordsBecomeRowImages) {
    Deep scene;
    scene.records({{number(100), now, std::nullopt, record({7, 8, 9})},
                   {number(100), now, record({1, 2, 3}), record({1, 2, 4})},
                   {number(100), now, record({5, 0, 0}), record({6, 0, 0})},
                   {number(100), now, record({4, 0, 0}), std::nullopt}});
    EXPECT_THAT(scene.ask(query("DO $$ $$")), Contains("Z I"));
    ASSERT_EQ(scene.intent().writes.size(), 5U);
    for (const auto& write : scene.intent().writes) {
        EXPECT_FALSE(write.dirty);
    }
    EXPECT_TRUE(scene.intent().writes[2].removes);
    EXPECT_TRUE(scene.intent().writes[4].removes);
    EXPECT_THAT(scene.intent().suspects, IsEmpty());
    const auto log = scene.target.log();
    EXPECT_EQ(std::count_if(log.begin(), log.end(),
                            [](const auto& it) { return it.starts_with("Bind :banyan_upsert"); }),
              3);
    EXPECT_EQ(std::count_if(log.begin(), log.end(),
                            [](const auto& it) { return it.starts_with("Bind :banyan_delete"); }),
              2);
}

TEST(DeepCapture, AKeyThatIsRecordedTwiceIsDirty) {
    Deep scene;
    scene.records({{number(100), now, std::nullopt, record({7, 8, 9})},
                   {number(100), now, record({7, 8, 9}), record({7, 8, 10})}});
    scene.send(query("DO $$ $$"));
    ASSERT_EQ(scene.intent().writes.size(), 2U);
    EXPECT_TRUE(scene.intent().writes[1].dirty);
}

TEST(DeepCapture, WhatWasCommittedOnTheWayIsDirtyAndNotApplied) {
    Deep scene;
    scene.records({{number(100), before, std::nullopt, record({7, 8, 9})}});
    scene.send(query("DO $$ $$"));
    ASSERT_EQ(scene.intent().writes.size(), 1U);
    EXPECT_TRUE(scene.intent().writes[0].dirty);
    EXPECT_THAT(scene.target.log(), Not(Contains(::testing::HasSubstr("banyan_upsert"))));
}

TEST(DeepCapture, RecordsThatDoNotFitMakeTheTableSuspect) {
    for (const std::string& bytes : {record({7, 8}), std::string("garbage"), record({7, 8, 9, 10})}) {
        Deep scene;
        scene.records({{number(100), now, std::nullopt, bytes}});
        scene.send(query("DO $$ $$"));
        ASSERT_EQ(scene.intent().suspects.size(), 1U);
        EXPECT_EQ(scene.intent().suspects[0].table, 100U);
        EXPECT_EQ(scene.intent().suspects[0].reason, "columns_changed");
        EXPECT_THAT(scene.intent().writes, IsEmpty());
    }
}

TEST(DeepCapture, ATruncationIsNamed) {
    Deep scene;
    scene.records({{number(100), now, std::nullopt, std::nullopt}});
    scene.send(query("DO $$ $$"));
    ASSERT_EQ(scene.intent().suspects.size(), 1U);
    EXPECT_EQ(scene.intent().suspects[0].reason, "truncated");
}

TEST(DeepCapture, ATableWithoutItIsMeasured) {
    Deep scene;
    scene.records({{number(101), now, std::nullopt, record({1, 2, 3})}});
    Reply later({"relid", "count"}, {{"clock", "1"}, {"101", "1"}});
    later.passes = 2;  // the baseline's Parse and Execute
    scene.source.on("pg_stat_xact_user_tables", std::move(later));
    scene.send(query("SELECT user_volatile()"));
    ASSERT_EQ(scene.intent().suspects.size(), 1U);
    EXPECT_EQ(scene.intent().suspects[0].table, 101U);
}

TEST(DeepCapture, AskedForBeforeTheStatementAndTakenBeforeTheCommit) {
    Deep scene;
    scene.send(query("SELECT user_volatile()"));
    const auto log = scene.source.log();
    const auto at = [&](const std::string& word) {
        return std::find_if(log.begin(), log.end(), [&](const auto& line) {
                   return line.find(word) != std::string::npos;
               }) - log.begin();
    };
    EXPECT_LT(at("<changes, and capture>"), at("user_volatile"));
    EXPECT_LT(at("user_volatile"), at("banyan.take_rows"));
    EXPECT_LT(at("banyan.take_rows"), at("Sync"));
}

TEST(DeepCapture, AStatementThatMayCommitIsInTheJournalBeforeItRuns) {
    Deep scene;
    scene.journal_answers = false;
    scene.send(query("CALL p()"));
    EXPECT_THAT(scene.source.log(), Not(Contains(::testing::HasSubstr("CALL p()"))));
    ASSERT_EQ(scene.port.intents.size(), 1U);
    scene.journal_answers = true;
    scene.answer_journal(true);
    EXPECT_THAT(scene.source.log(), Contains(::testing::HasSubstr("CALL p()")));
    EXPECT_THAT(scene.port.finished, Not(IsEmpty()));
}

TEST(DeepCapture, ADeferredErrorIsTheAnswerToCommitAndTheBlockHasEnded) {
    Deep scene(true);
    scene.source.on("SET CONSTRAINTS", refusal("23514"));
    scene.send(query("BEGIN") + query("SELECT user_volatile()"));
    scene.forget();
    EXPECT_THAT(scene.ask(query("COMMIT")), ElementsAre("E 23514", "Z I"));
    scene.send(query("BEGIN") + query("SELECT user_volatile()"));
    scene.forget();
    EXPECT_THAT(scene.ask(run("COMMIT") + sync()), IsSupersetOf({"E 23514", "Z I"}));
    EXPECT_THAT(scene.ask(query("SELECT 1")), Contains("Z I"));
}

TEST(DeepCapture, WhereTheServerSaysNoNothingIsTaken) {
    Deep scene;
    scene.source.on("pg_stat_xact_user_tables",
                    Reply({"relid", "count"}, {{"clock", "1"}, {"capture", ""}}));
    scene.send(query("SELECT user_volatile()"));
    const auto log = scene.source.log();
    EXPECT_TRUE(std::none_of(log.begin(), log.end(), [](const auto& line) {
        return line.find("take_rows") != std::string::npos;
    }));
}

/// The measurement before the end of a transaction fails, as a serialization failure makes it.
class Unmeasurable : public Deep {
   public:
    Unmeasurable() {
        Reply refused = refusal("40001");
        refused.passes = 2;  // the baseline's Parse and Execute
        source.on("pg_stat_xact_user_tables", refused);
        send(query("BEGIN") + query("SELECT user_volatile()"));
        forget();
    }
};

TEST(AnErrorBeforeTheEnd, IsTheAnswerToTheClientsCommit) {
    EXPECT_THAT(Unmeasurable().ask(query("COMMIT")), ElementsAre("E 40001", "Z I"));
    EXPECT_THAT(Unmeasurable().ask(query("PREPARE TRANSACTION 'x'")), ElementsAre("E 40001", "Z I"));
    EXPECT_THAT(Unmeasurable().ask(query("COMMIT; SELECT 1")), ElementsAre("E 40001", "Z I"));
    for (const char* sql : {"COMMIT", "PREPARE TRANSACTION 'x'"}) {
        EXPECT_THAT(Unmeasurable().ask(run(sql) + sync()), ElementsAre("1", "2", "E 40001", "Z I"));
    }
    Unmeasurable scene;
    scene.send(query("COMMIT"));
    scene.client();
    EXPECT_THAT(scene.ask(query("SELECT 1")), ElementsAre("C SELECT 1", "Z I"));
    EXPECT_THAT(scene.port.intents, IsEmpty());
}

TEST(AnErrorBeforeTheEnd, OfTheBaselineIsTheStatementsOwn) {
    Deep scene;
    scene.send(query("BEGIN"));
    scene.source.on("pg_stat_xact_user_tables", refusal("40001"));
    scene.forget();
    EXPECT_THAT(scene.ask(query("SELECT user_volatile()")), ElementsAre("E 40001", "Z E"));
    EXPECT_THAT(scene.ask(query("ROLLBACK")), ElementsAre("C ROLLBACK", "Z I"));
}

}  // namespace
}  // namespace banyan::test
