// Shadow reads: run on the mirror behind this session's own writes, compared, never in the way.
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

struct Shadow : Scene {
    Shadow() : Scene(Phase::dual_read, true) {
        source.on("FROM item", Reply({"id"}, {{"1"}, {"2"}}));
        source.on("INSERT INTO item", Reply({"id", "name", "odd"}, {{"7", "a", "b"}}));
        target.on("FROM item", Reply({"id"}, {{"1"}, {"2"}}));
        log_in();
    }
};

const Lines answer = {"T id", "D 1", "D 2", "C SELECT 2", "Z I"};

TEST(Shadow, AReadRunsOnBothSidesAndTheClientSeesThePrimarys) {
    Shadow scene;
    EXPECT_EQ(scene.ask(query("SELECT id FROM item")), answer);
    EXPECT_THAT(scene.target.log(), ElementsAre("Query SELECT id FROM item"));
    EXPECT_EQ(scene.count(Counter::shadow_sent), 1U);
    EXPECT_EQ(scene.count(Counter::shadow_matched), 1U);
    EXPECT_THAT(scene.port.discrepancies, IsEmpty());
}

TEST(Shadow, AShareOfTheEqualOnesIsOfferedToBeRunAgain) {
    for (const bool wanted : {true, false}) {
        Shadow scene;
        scene.config.shadow.rerun_share = wanted ? 0.6 : 0.4;  // the port's random number is 0.5
        scene.ask(query("SELECT id FROM item"));
        scene.target.on("FROM item", Reply({"id"}, {{"1"}}));
        scene.ask(query("SELECT id FROM item ORDER BY id"));  // it differs
        EXPECT_EQ(scene.port.discrepancies.size(), 1U);
        EXPECT_EQ(scene.port.reruns, wanted ? std::vector{"SELECT id FROM item"s}
                                            : std::vector<std::string>());
    }
}

TEST(Shadow, MismatchesAreReportedWithTheirKind) {
    struct Case {
        const char* kind;
        const char* sql;
        Reply mirror;
    };
    const Case cases[] = {
        {"rows", "SELECT id FROM item", Reply({"id"}, {{"1"}, {"3"}})},
        {"row_count", "SELECT id FROM item", Reply({"id"}, {{"1"}})},
        {"order", "SELECT id FROM item ORDER BY id", Reply({"id"}, {{"2"}, {"1"}})},
        {"error", "SELECT id FROM item", refusal("42P01")},
    };
    for (const auto& each : cases) {
        Shadow scene;
        scene.target.on("FROM item", each.mirror);
        EXPECT_EQ(scene.ask(query(each.sql)), answer) << each.kind;
        ASSERT_EQ(scene.port.discrepancies.size(), 1U) << each.kind;
        const auto& found = scene.port.discrepancies[0];
        EXPECT_EQ(found.kind, each.kind);
        EXPECT_EQ(found.sql, each.sql);
        EXPECT_EQ(found.user, "app");
        EXPECT_EQ(found.primary_rows, 2U);
        EXPECT_THAT(found.tables, ElementsAre("item"));
    }
    Shadow unordered;
    unordered.target.on("FROM item", Reply({"id"}, {{"2"}, {"1"}}));
    unordered.send(query("SELECT id FROM item"));
    EXPECT_THAT(unordered.port.discrepancies, IsEmpty());
}

TEST(Shadow, ParametersTravelWithAnExtendedRead) {
    Shadow scene;
    scene.target.on("FROM item", Reply({"id"}, {{"9"}}));
    scene.send(parse("s", "SELECT id FROM item WHERE id < $1") + bind_portal("", "s", {"3"}) +
               execute() + sync());
    EXPECT_THAT(scene.client(), ElementsAre("1", "2", "D 1", "D 2", "C SELECT 2", "Z I"));
    EXPECT_THAT(scene.target.log(),
                ElementsAre("Parse banyan_read_1: SELECT id FROM item WHERE id < $1",
                            "Bind :banyan_read_1(3)", "Execute ", "Sync"));
    ASSERT_EQ(scene.port.discrepancies.size(), 1U);
    ASSERT_EQ(scene.port.discrepancies[0].parameters.size(), 1U);
    EXPECT_EQ(scene.port.discrepancies[0].parameters[0].value, "3");
    scene.send(bind_portal("", "s", {"4"}) + execute() + sync());
    EXPECT_THAT(scene.target.log(), ElementsAre("Bind :banyan_read_1(4)", "Execute ", "Sync"));
}

TEST(Shadow, AMirrorThatHangsDelaysNoAnswerAndDropsWhatPilesUp) {
    Shadow scene;
    scene.target.hangs = true;
    for (int i = 0; i < 20; ++i) {
        EXPECT_EQ(scene.ask(query("SELECT id FROM item")), answer);
    }
    EXPECT_EQ(scene.count(Counter::shadow_sent), 8U);
    EXPECT_EQ(scene.count(Counter::shadow_skipped), 12U);
    scene.resume(Side::target);
    EXPECT_EQ(scene.count(Counter::shadow_matched), 8U);
}

TEST(Shadow, TheMirrorCanWaitOnlyWhileNothingButReadsIsOnItsWay) {
    Shadow scene;
    EXPECT_FALSE(scene.machine.mirror_can_wait());
    scene.target.hangs = true;
    scene.ask(query("SELECT id FROM item"));
    EXPECT_TRUE(scene.machine.mirror_can_wait());
    scene.resume(Side::target);
    EXPECT_FALSE(scene.machine.mirror_can_wait());
    scene.send(query("BEGIN") + query("INSERT INTO item VALUES (7)"));
    EXPECT_FALSE(scene.machine.mirror_can_wait());
    scene.target.hangs = true;
    scene.send(query("COMMIT") + query("SELECT id FROM item"));
    EXPECT_FALSE(scene.machine.mirror_can_wait());  // the mirror's COMMIT is not answered
}

TEST(Shadow, AReadInTheWayOfAWriteIsCancelled) {
    Shadow scene;
    scene.target.hangs = true;
    scene.send(query("SELECT id FROM item") + query("INSERT INTO item VALUES (7)"));
    ASSERT_EQ(scene.port.deadlines.count(Deadline::shadow_yield), 1U);
    scene.deadline(Deadline::shadow_yield);
    EXPECT_THAT(scene.events, Contains("cancel target 22"));
    scene.target.on("FROM item", refusal("57014"));
    scene.resume(Side::target);
    EXPECT_THAT(scene.port.discrepancies, IsEmpty());
    EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
}

TEST(Shadow, ReadsInAWriteTransactionAreNotShadowed) {
    Shadow scene;
    scene.send(query("BEGIN") + query("INSERT INTO item VALUES (7)"));
    scene.forget();
    scene.send(query("SELECT id FROM item"));
    EXPECT_THAT(scene.target.log(), IsEmpty());
    scene.send(query("COMMIT") + query("SELECT id FROM item"));
    // Behind the write's own commit, on the same connection.
    EXPECT_THAT(scene.target.log(), ElementsAre("Sync", "Query COMMIT", "Query SELECT id FROM item"));
}

TEST(Shadow, WhatTheTwoSidesMayAnswerDifferentlyIsSkipped) {
    for (const auto* sql : {"SELECT now()", "SELECT id FROM item LIMIT 1",
                            "SELECT id FROM item FOR UPDATE", "SELECT * FROM item_view"}) {
        Shadow scene;
        scene.send(query(sql));
        EXPECT_THAT(scene.target.log(), IsEmpty()) << sql;
    }
}

TEST(Shadow, AMirrorLostInTheMiddleIsNoMismatch) {
    Shadow scene;
    scene.target.hangs = true;
    scene.send(query("SELECT id FROM item"));
    scene.lose_server(Side::target);
    EXPECT_THAT(scene.port.discrepancies, IsEmpty());
    EXPECT_EQ(scene.client(), answer);
    EXPECT_EQ(scene.count(Counter::shadow_skipped), 1U);
}

TEST(Shadow, AnErrorOnThePrimaryIsNoMismatch) {
    Shadow scene;
    scene.source.on("FROM item", refusal("57014"));
    EXPECT_THAT(scene.ask(query("SELECT id FROM item")), ElementsAre("E 57014", "Z I"));
    EXPECT_THAT(scene.port.discrepancies, IsEmpty());
}

TEST(Shadow, OnlyTheShareAskedForIsRun) {
    Shadow scene;  // random() says 0.5
    Directive half = directive(1, Phase::dual_read);
    half.shadow_share = 0.5;
    scene.direct(half);
    scene.forget();
    scene.send(query("SELECT id FROM item"));
    EXPECT_THAT(scene.target.log(), IsEmpty());
    half.epoch = 2;
    half.shadow_share = 0.51;
    scene.direct(half);
    scene.send(query("SELECT id FROM item"));
    EXPECT_THAT(scene.target.log(), Contains("Query SELECT id FROM item"));
}

TEST(Shadow, AClientThatLeavesAfterItsAnswerLeavesTheComparisonToItsEnd) {
    Shadow scene;
    scene.target.hangs = true;
    scene.send(query("SELECT id FROM item"));
    scene.events.clear();
    scene.send(raw('X'));
    scene.close_client();
    EXPECT_THAT(scene.events, Not(Contains(::testing::StartsWith("cancel target"))));
    EXPECT_FALSE(scene.port.over);
    scene.resume(Side::target);
    EXPECT_EQ(scene.count(Counter::shadow_matched), 1U);
    EXPECT_TRUE(scene.port.over);
}

}  // namespace
}  // namespace banyan::test
