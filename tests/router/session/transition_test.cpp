// Directives: holds, phase changes and the flip, taken up at transaction boundaries.
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

struct Session : Scene {
    explicit Session(Phase phase) : Scene(phase) {
        for (const Side side : {Side::source, Side::target}) {
            server(side).on("INSERT INTO item", Reply({"id", "name", "odd"}, {{"7", "a", "b"}}));
            server(side).on("SELECT id FROM item", Reply({"id"}, {{"1"}}));
        }
        log_in();
    }
};

TEST(Transition, EachStepIsTakenUpAtTheNextBoundary) {
    Session scene(Phase::initial);
    scene.send(query("BEGIN"));
    scene.direct(directive(1, Phase::dual_write));
    EXPECT_EQ(scene.machine.phase(), Phase::initial);
    scene.send(query("INSERT INTO item VALUES (7)"));  // still under the former phase
    EXPECT_THAT(scene.port.intents, IsEmpty());
    scene.send(query("COMMIT"));
    EXPECT_EQ(scene.machine.phase(), Phase::dual_write);
    EXPECT_EQ(scene.machine.adopted_epoch(), 1U);
    EXPECT_TRUE(scene.machine.mirror_ready());
    scene.send(query("INSERT INTO item VALUES (7)"));
    EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
}

TEST(Transition, StatementsPreparedWhileRelayingAreImported) {
    Session scene(Phase::initial);
    scene.send(parse("s", "INSERT INTO item VALUES ($1)") + sync());
    scene.source.on("pg_prepared_statements WHERE name",
                    Reply({"name", "statement", "sql", "types"},
                          {{"s", "INSERT INTO item VALUES ($1)", "false", "23 25"},
                           {"t", "PREPARE t AS SELECT 1", "true", std::nullopt}}));
    scene.direct(directive(1, Phase::dual_write));
    scene.forget();
    EXPECT_THAT(scene.ask(bind_portal("", "s", {"7"}) + execute() + sync()),
                ElementsAre("2", "C INSERT 0 1", "Z I"));
    EXPECT_THAT(scene.source.log(), Contains("Parse s: INSERT INTO item VALUES ($1) ~"));
    EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
}

TEST(Transition, BackToARelayNothingCapturedIsLeft) {
    Session scene(Phase::dual_write);
    scene.send(parse("s", "INSERT INTO item VALUES ($1)") + sync());
    scene.forget();
    scene.direct(directive(1, Phase::initial));
    EXPECT_THAT(scene.source.log(), ElementsAre("Close S s",
                                                "Parse s: INSERT INTO item VALUES ($1)", "Sync"));
    EXPECT_TRUE(scene.port.closed.contains(Side::target));
    EXPECT_THAT(scene.client(), IsEmpty());
    scene.send(query("INSERT INTO item VALUES (7)"));
    EXPECT_THAT(scene.port.intents, IsEmpty());
}

TEST(Transition, AHoldRefusesNothingAndLetsTransactionsEnd) {
    Session scene(Phase::dual_read);
    scene.send(query("BEGIN"));
    scene.direct(directive(1, Phase::dual_read, true));
    scene.client();
    EXPECT_THAT(scene.ask(query("INSERT INTO item VALUES (7)")),
                ElementsAre("C INSERT 0 1", "Z T"));
    EXPECT_THAT(scene.ask(query("COMMIT")), ElementsAre("C COMMIT", "Z I"));
    EXPECT_TRUE(scene.machine.held());
    EXPECT_THAT(scene.ask(query("SELECT id FROM item")), IsEmpty());
    scene.direct(directive(2, Phase::dual_read));
    EXPECT_EQ(scene.client().back(), "Z I");
}

TEST(Transition, ASessionOfPipelinesIsHeldAtABoundaryToo) {
    Session scene(Phase::dual_write);
    scene.source.hangs = true;
    scene.send(parse("", "SELECT id FROM item") + bind_portal("", "") + execute() + sync() +
               parse("", "SELECT id FROM item") + bind_portal("", ""));
    scene.direct(directive(1, Phase::dual_write, true));
    scene.send(execute() + sync());
    scene.resume(Side::source);
    scene.send(parse("", "SELECT id FROM item") + bind_portal("", "") + execute() + sync());
    EXPECT_TRUE(scene.machine.held());
}

TEST(Transition, TheFlipTradesPlacesAndCarriesTheSessionOver) {
    Session scene(Phase::dual_read);
    scene.source.settings({{"setting", "work_mem", "64MB"}, {"setting", "lock_timeout", "5s"}});
    scene.send(query("SET work_mem = '64MB'") + query("SET lock_timeout = '5s'"));
    scene.send(parse("s", "INSERT INTO item VALUES ($1)") + sync());
    scene.source.owns({{"prepare", "q", "PREPARE q AS SELECT 1"}});
    scene.direct(directive(1, Phase::dual_read, true));
    scene.forget();
    scene.direct(directive(2, Phase::switchover));
    EXPECT_EQ(scene.machine.primary(), Side::target);
    EXPECT_EQ(scene.machine.phase(), Phase::switchover);
    EXPECT_EQ(scene.machine.backend(Side::target), std::make_pair(22U, 77U));
    EXPECT_EQ(scene.machine.backend(Side::source), std::make_pair(11U, 77U));
    EXPECT_THAT(scene.client(), IsEmpty());
    const auto target = scene.target.log();
    ASSERT_FALSE(target.empty());
    EXPECT_EQ(target.back(), "Query PREPARE q AS SELECT 1");
    const auto& moved = target.at(target.size() - 2);
    EXPECT_TRUE(moved.starts_with("Query DEALLOCATE ALL; ")) << moved;
    EXPECT_NE(moved.find("RESET session_replication_role"), std::string::npos) << moved;
    EXPECT_NE(moved.find("set_config('lock_timeout', '5s', false)"), std::string::npos) << moved;
    EXPECT_EQ(scene.source.log().back(), "Query <setup>");

    // The statement prepared before stands again when it is used, on the new primary.
    EXPECT_THAT(scene.ask(bind_portal("", "s", {"7"}) + execute() + sync()),
                ElementsAre("2", "C INSERT 0 1", "Z I"));
    EXPECT_THAT(scene.target.log(), Contains("Parse s: INSERT INTO item VALUES ($1) ~"));
    const auto source = scene.source.log();
    EXPECT_THAT(source, Contains("Parse banyan_upsert_100_1: <upsert item>"));
    EXPECT_EQ(source.back(), "Query COMMIT");
    EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
}

TEST(Transition, SettingsArePushedToTheMirrorAheadOfTheFlip) {
    Session scene(Phase::dual_read);
    scene.source.settings({{"setting", "work_mem", "64MB"}});
    scene.send(query("SET work_mem = '64MB'"));
    scene.forget();
    scene.direct(directive(1, Phase::dual_read, true));
    EXPECT_THAT(scene.target.log(),
                Contains("Query SELECT pg_catalog.set_config('work_mem', '64MB', false)"));
    EXPECT_TRUE(scene.machine.held());
}

TEST(Transition, TheFlipBackIsTheSameWalk) {
    Session scene(Phase::switchover);
    scene.send(query("INSERT INTO item VALUES (7)"));
    EXPECT_THAT(scene.source.log(), Contains("Query COMMIT"));
    scene.direct(directive(1, Phase::switchover, true));
    scene.direct(directive(2, Phase::dual_read));
    EXPECT_EQ(scene.machine.primary(), Side::source);
    scene.forget();
    scene.send(query("INSERT INTO item VALUES (7)"));
    EXPECT_THAT(scene.target.log(), Contains("Query COMMIT"));
    EXPECT_THAT(scene.client(), ElementsAre("C INSERT 0 1", "Z I"));
}

TEST(Transition, ASessionWithoutTheNewPrimaryEndsWith57P01) {
    Session scene(Phase::dual_read);
    scene.lose_server(Side::target);
    scene.port.the_breaker.open();
    scene.direct(directive(1, Phase::dual_read, true));
    scene.direct(directive(2, Phase::switchover));
    EXPECT_THAT(scene.client(), ElementsAre("E 57P01"));
    EXPECT_TRUE(scene.port.over);
}

TEST(Transition, ANewPrimaryLostInTheMiddleOfTheFlipIs57P01) {
    Scene scene(Phase::dual_read);
    scene.log_in();
    scene.source.hangs = true;  // it is still asked for what belongs to the session
    scene.direct(directive(2, Phase::switchover));
    scene.lose_server(Side::target);
    EXPECT_THAT(scene.client(), IsEmpty());
    scene.resume(Side::source);
    EXPECT_THAT(scene.client(), ElementsAre("E 57P01"));
    EXPECT_TRUE(scene.port.over);
}

TEST(Transition, ALoginThatMeetsTheFlipMovesOver) {
    Scene scene(directive(0, Phase::dual_read));
    scene.source.wants_password = true;
    scene.send(startup());
    scene.direct(directive(1, Phase::switchover));
    scene.send(raw('p', "secret\0"s));
    EXPECT_TRUE(scene.machine.logged_in());
    EXPECT_EQ(scene.machine.primary(), Side::target);
    scene.client();
    scene.target.on("SELECT id FROM item", Reply({"id"}, {{"1"}}));
    EXPECT_THAT(scene.ask(query("SELECT id FROM item")),
                ElementsAre("T id", "D 1", "C SELECT 1", "Z I"));
}

TEST(Transition, CommitsUnderWayOnTheMirrorAreWaitedForBeforeAHoldIsTaken) {
    Session scene(Phase::dual_write);
    scene.journal_answers = false;
    scene.send(query("INSERT INTO item VALUES (7)"));
    scene.target.hangs = true;
    scene.answer_journal(true);
    scene.direct(directive(1, Phase::dual_write, true));
    EXPECT_EQ(scene.machine.adopted_epoch(), 0U);
    scene.resume(Side::target);
    EXPECT_EQ(scene.machine.adopted_epoch(), 1U);
    EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
}

}  // namespace
}  // namespace banyan::test
