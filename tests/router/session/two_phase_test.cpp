// What commits outside of the usual order: two-phase commit and the fast-path function call.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

auto mark(std::uint32_t table) {
    return Field(&SuspectMark::table, table);
}
std::string call() {
    return raw('F', "\0\0\0\1"s);
}

/// A session in DUAL_WRITE. Item 7 can be written; a procedure changes table 101 ("pair").
struct TwoPhase : Scene {
    TwoPhase() : Scene(Phase::dual_write) {
        source.on("INSERT INTO item", Reply({"id", "name", "odd"}, {{"7", "a", std::nullopt}}));
        log_in();
    }
    const std::vector<SuspectMark>& marks(std::size_t intent) const {
        return port.intents.at(intent).suspects;
    }
    /// From the `nth` measurement on, that many rows of the relation have changed.
    void changes(const std::string& relation, int nth) {
        Reply reply({"relid", "count"}, {{"clock", "1"}, {relation, "3"}});
        reply.passes = 2 * (nth - 1);
        source.on("pg_stat_xact_user_tables", std::move(reply));
    }
};

TEST(TwoPhase, OnlyTheTablesOfThePreparedTransactionBecomeSuspectWithItsCommit) {
    for (const bool extended : {false, true}) {
        TwoPhase scene;
        const auto say = [&](const std::string& sql) {
            return scene.ask(extended ? run(sql) + sync() : query(sql));
        };
        say("BEGIN");
        say("INSERT INTO item VALUES (7)");
        scene.forget();
        EXPECT_THAT(say("PREPARE TRANSACTION 'one'"), Contains("C PREPARE TRANSACTION"));
        // The mirror must not keep its half open until somebody makes up his mind.
        EXPECT_THAT(scene.target.log(), Contains("Query ROLLBACK"));
        EXPECT_THAT(scene.port.intents, IsEmpty());
        scene.forget();
        scene.journal_answers = false;
        EXPECT_THAT(say("COMMIT PREPARED 'one'"), Not(Contains("C COMMIT PREPARED")));
        ASSERT_EQ(scene.port.intents.size(), 1U);
        EXPECT_THAT(scene.marks(0), ElementsAre(mark(100)));
        scene.answer_journal(true);
        EXPECT_THAT(scene.client(), AllOf(Contains("C COMMIT PREPARED"), Contains("Z I")));
        EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
        EXPECT_FALSE(scene.port.prepared.find("one"));
        EXPECT_FALSE(scene.machine.in_transaction());
    }
}

TEST(TwoPhase, WhatWasMeasuredBelongsToIt) {
    TwoPhase scene;
    const auto oid = std::to_string(scene.port.current->table_by_id(101)->oid);
    scene.changes(oid, 2);
    scene.send(query("BEGIN") + query("SELECT user_volatile()"));
    scene.send(query("PREPARE TRANSACTION 'two'"));
    scene.send(query("COMMIT PREPARED 'two'"));
    ASSERT_EQ(scene.port.intents.size(), 1U);
    EXPECT_THAT(scene.marks(0), ElementsAre(mark(101)));
}

TEST(TwoPhase, InAQueryWithOthersToo) {
    TwoPhase scene;
    EXPECT_THAT(scene.ask(query("BEGIN; INSERT INTO item VALUES (7); PREPARE TRANSACTION 'm'")),
                ElementsAre("C BEGIN", "C INSERT 0 1", "C PREPARE TRANSACTION", "Z I"));
    ASSERT_TRUE(scene.port.prepared.find("m"));
    EXPECT_THAT(scene.port.prepared.find("m")->marks, ElementsAre(mark(100)));
    EXPECT_FALSE(scene.machine.in_transaction());
}

TEST(TwoPhase, OneThatNothingIsKnownOfMakesEverythingSuspect) {
    TwoPhase scene;
    scene.send(query("COMMIT PREPARED 'elsewhere'"));
    ASSERT_EQ(scene.port.intents.size(), 1U);
    EXPECT_THAT(scene.marks(0), ElementsAre(mark(0)));
    // So does one that changed tables themselves: the mirror has no part in it.
    scene.send(query("BEGIN") + query("CREATE TABLE made (id int)") +
               query("PREPARE TRANSACTION 'ddl'"));
    ASSERT_TRUE(scene.port.prepared.find("ddl"));
    EXPECT_TRUE(scene.port.prepared.find("ddl")->catalog);
    scene.send(query("COMMIT PREPARED 'ddl'"));
    EXPECT_THAT(scene.port.intents.back().suspects, Contains(mark(0)));
    EXPECT_EQ(scene.port.reloads, 1);
}

TEST(TwoPhase, OneThatWasRolledBackLeavesNothing) {
    TwoPhase scene;
    scene.send(query("BEGIN") + query("INSERT INTO item VALUES (7)") +
               query("PREPARE TRANSACTION 'three'"));
    ASSERT_TRUE(scene.port.prepared.find("three"));
    scene.send(query("ROLLBACK PREPARED 'three'"));
    EXPECT_FALSE(scene.port.prepared.find("three"));
    EXPECT_THAT(scene.port.intents, IsEmpty());
    // A failed transaction is not prepared but rolled back, and the server says so.
    scene.source.on("bad", refusal("42601"));
    scene.send(query("BEGIN") + query("INSERT INTO item VALUES (7)") + query("SELECT bad"));
    scene.forget();
    EXPECT_THAT(scene.ask(query("PREPARE TRANSACTION 'four'")),
                AllOf(Contains("Z I"), Not(Contains("C PREPARE TRANSACTION"))));
    EXPECT_FALSE(scene.port.prepared.find("four"));
    EXPECT_THAT(scene.port.intents, IsEmpty());
}

TEST(TwoPhase, ACommitPreparedThatIsRefusedLeavesTheNameKnown) {
    TwoPhase scene;
    scene.port.prepared.remember("five", {{{100, "prepared_transaction"}}, false});
    scene.source.on("COMMIT PREPARED 'five'", refusal("42501"));
    EXPECT_THAT(scene.ask(query("COMMIT PREPARED 'five'")), ElementsAre("E 42501", "Z I"));
    EXPECT_TRUE(scene.port.prepared.find("five"));
    EXPECT_THAT(scene.events, Contains("finish 1 rolled_back"));
}

TEST(TwoPhase, TheOldestNamesAreForgottenFirst) {
    router::PreparedTransactions prepared;
    const auto name = [](std::size_t i) { return "t" + std::to_string(i); };
    for (std::size_t i = 0; i <= router::PreparedTransactions::max_names; ++i) {
        prepared.remember(name(i), {});
    }
    EXPECT_FALSE(prepared.find(name(0)));
    EXPECT_TRUE(prepared.find(name(1)));
    EXPECT_TRUE(prepared.find(name(router::PreparedTransactions::max_names)));
    prepared.clear();
    EXPECT_FALSE(prepared.find(name(1)));
}

TEST(FunctionCall, IsMeasuredInABlockOfItsOwnThatTheClientDoesNotSee) {
    TwoPhase scene;
    EXPECT_THAT(scene.ask(call()), ElementsAre("V", "Z I"));
    EXPECT_THAT(scene.port.intents, ElementsAre(Field(&CommitIntent::suspects, IsEmpty())));
    EXPECT_EQ(scene.source.status(), 'I');
    EXPECT_EQ(scene.source.log().front(), "Query BEGIN");
    EXPECT_FALSE(scene.machine.in_transaction());
}

TEST(FunctionCall, WhatItChangedIsSuspect) {
    TwoPhase scene;
    const auto oid = std::to_string(scene.port.current->table_by_id(101)->oid);
    scene.changes(oid, 2);
    EXPECT_THAT(scene.ask(call()), ElementsAre("V", "Z I"));
    ASSERT_EQ(scene.port.intents.size(), 1U);
    EXPECT_THAT(scene.marks(0), ElementsAre(mark(101)));
    EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
}

TEST(FunctionCall, InsideABlockCommitsNothing) {
    TwoPhase scene;
    scene.send(query("BEGIN"));
    scene.client();
    EXPECT_THAT(scene.ask(call()), ElementsAre("V", "Z T"));
    EXPECT_THAT(scene.port.intents, IsEmpty());
    EXPECT_THAT(scene.ask(query("COMMIT")), ElementsAre("C COMMIT", "Z I"));
    EXPECT_THAT(scene.port.intents, ElementsAre(Field(&CommitIntent::suspects, IsEmpty())));
}

TEST(FunctionCall, ThatFailsIsRolledBackAndTheErrorIsTheServersOwn) {
    TwoPhase scene;
    EXPECT_THAT(scene.ask(raw('F')), ElementsAre("E 42883", "Z I"));
    EXPECT_EQ(scene.source.status(), 'I');
    EXPECT_THAT(scene.port.intents, IsEmpty());
    scene.source.commit_error = "23503";
    EXPECT_THAT(scene.ask(call()), ElementsAre("V", "E 23503", "Z I"));
    EXPECT_THAT(scene.events, Contains("finish 1 rolled_back"));
    EXPECT_THAT(scene.ask(query("SELECT 1")), ElementsAre("C SELECT 1", "Z I"));
}

TEST(FunctionCall, ThatCannotBeMeasuredIsRolledBackWithTheServersError) {
    TwoPhase scene;
    Reply refused = refusal("57014");
    refused.passes = 2;
    scene.source.on("pg_stat_xact_user_tables", refused);
    EXPECT_THAT(scene.ask(call()), ElementsAre("V", "E 57014", "Z I"));
    EXPECT_THAT(scene.port.intents, IsEmpty());
    EXPECT_EQ(scene.source.status(), 'I');
}

}  // namespace
}  // namespace banyan::test
