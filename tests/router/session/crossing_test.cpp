// What a session owns when primary and mirror trade places: asked, brought along, or in the way.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scene.hpp"

namespace banyan::test {
namespace {

using namespace std::literals;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

struct Session : Scene {
    explicit Session(Phase phase = Phase::dual_read) : Scene(phase) {
        for (const Side side : {Side::source, Side::target}) {
            server(side).on("INSERT INTO item", Reply({"id", "name", "odd"}, {{"7", "a", "b"}}));
            server(side).on("SELECT id FROM item", Reply({"id"}, {{"1"}}));
        }
        log_in();
    }
    void ask_what_it_owns() {
        auto wanted = directive(++epoch, machine.phase());
        wanted.ask = true;
        direct(wanted);
    }
    void hold(bool end_blocked = false) {
        auto wanted = directive(++epoch, machine.phase(), true);
        wanted.end_blocked = end_blocked;
        direct(wanted);
    }
    void let_go() { direct(directive(++epoch, machine.phase())); }
    void flip() {
        direct(directive(
            ++epoch, machine.phase() == Phase::dual_read ? Phase::switchover : Phase::dual_read));
    }
    /// The query with which the new primary became one.
    std::string moved(Side side) {
        for (const auto& line : server(side).log()) {
            if (line.starts_with("Query DEALLOCATE ALL; DISCARD TEMP")) {
                return line;
            }
        }
        return {};
    }
    std::uint64_t epoch = 0;
};

bool asks(const std::string& line) {
    return line.starts_with("Parse banyan_query: <belongings");
}

std::size_t questions(const Lines& lines) {
    return static_cast<std::size_t>(std::count_if(lines.begin(), lines.end(), asks));
}

// --- asking ---

TEST(Crossing, ASessionIsAskedAgainOnlyIfSomethingRan) {
    Session scene;
    scene.ask_what_it_owns();
    EXPECT_EQ(questions(scene.source.log()), 1U);
    scene.ask_what_it_owns();
    scene.hold();
    scene.flip();
    EXPECT_EQ(questions(scene.source.log()), 0U);
    EXPECT_EQ(scene.machine.phase(), Phase::switchover);
}

TEST(Crossing, LocksAreAskedForOnlyIfAStatementMayHaveTakenOne) {
    const struct {
        const char* sql;
        bool locks;
    } cases[] = {
        {"SELECT id FROM item", false},
        {"INSERT INTO item VALUES (7)", false},
        {"BEGIN", false},
        {"SELECT pg_advisory_lock(1)", true},
        {"SELECT user_volatile()", true},
        {"INSERT INTO item SELECT user_volatile()", true},
        {"SELECT * FROM item_view", true},
        {"LISTEN news", true},
        {"SELECT 1; SELECT 2", true},
        {"DO 'BEGIN END'", true},
        {"UPDATE pair SET v = pg_advisory_unlock(1)", true},
    };
    for (const auto& each : cases) {
        Session scene;
        scene.ask_what_it_owns();
        scene.send(query(each.sql));
        scene.send(query("ROLLBACK"));
        scene.source.log();
        scene.hold();
        const auto source = scene.source.log();
        EXPECT_EQ(questions(source), 1U) << each.sql;
        EXPECT_EQ(
            std::count(source.begin(), source.end(), "Parse banyan_query: <belongings and locks>"),
            each.locks ? 1 : 0)
            << each.sql;
    }
}

TEST(Crossing, ASessionInATransactionIsAskedAtItsEnd) {
    Session scene;
    scene.send(query("BEGIN"));
    scene.ask_what_it_owns();
    EXPECT_EQ(scene.machine.adopted_epoch(), 0U);
    scene.source.owns({{"relation", "scratch", "r"}});
    scene.send(query("COMMIT"));
    EXPECT_EQ(scene.machine.adopted_epoch(), 1U);
    EXPECT_TRUE(scene.machine.blocked());
}

TEST(Crossing, WhatCouldNotBeReadIsInTheWay) {
    Session scene;
    scene.source.on("pg_listening_channels", refusal("57014"));
    scene.ask_what_it_owns();
    EXPECT_THAT(scene.machine.blocking(), ElementsAre(HasSubstr("could not be read")));
    scene.source.owns({});
    scene.ask_what_it_owns();
    EXPECT_THAT(scene.machine.blocking(), IsEmpty());
    EXPECT_THAT(scene.client(), IsEmpty());
}

// --- what is in the way ---

TEST(Crossing, WhatCannotBeBroughtAlongIsNamedAndHurtsNobody) {
    Session scene;
    scene.source.owns({{"relation", "scratch", "r"}, {"cursor", "c", ""}});
    scene.ask_what_it_owns();
    EXPECT_THAT(scene.machine.blocking(),
                ElementsAre("temporary table \"scratch\"", "cursor WITH HOLD \"c\""));
    EXPECT_EQ(scene.ask(query("SELECT id FROM item")).back(), "Z I");
    scene.source.owns({});
    scene.send(query("CLOSE c"));
    scene.ask_what_it_owns();
    EXPECT_THAT(scene.machine.blocking(), IsEmpty());
}

TEST(Crossing, AHoldThatEndsWhatBlocksEndsItWith57P01) {
    Session scene;
    scene.source.owns({{"relation", "scratch", "r"}});
    scene.hold();
    EXPECT_TRUE(scene.machine.blocked());
    EXPECT_FALSE(scene.port.over);
    scene.hold(true);
    EXPECT_THAT(scene.client(), ElementsAre("E 57P01"));
    EXPECT_THAT(scene.client_total(), HasSubstr("temporary table \"scratch\""));
    EXPECT_TRUE(scene.port.over);

    Session other;
    other.hold(true);
    EXPECT_FALSE(other.port.over);
    EXPECT_THAT(other.client(), IsEmpty());
}

TEST(Crossing, WithoutBeingAskedToEndNobodyIsFlippedAwayFromWhatItOwns) {
    Session scene;
    scene.source.owns({{"relation", "scratch", "r"}});
    scene.flip();
    EXPECT_THAT(scene.client(), ElementsAre("E 57P01"));
    EXPECT_EQ(scene.moved(Side::target), "");
}

TEST(Crossing, ASettingThatTheMirrorRefusesIsInTheWay) {
    Session scene;
    scene.source.settings({{"setting", "work_mem", "64MB"}, {"role", "limited", "limited"}});
    scene.target.on("set_config('role'", refusal("22023"));
    scene.send(query("SET ROLE limited"));
    scene.hold();
    EXPECT_THAT(scene.machine.blocking(),
                ElementsAre(AllOf(StartsWith("setting \"role\""), HasSubstr("target says"))));
    scene.let_go();
    scene.source.settings({{"setting", "work_mem", "64MB"}});
    scene.send(query("RESET ROLE"));
    scene.hold();
    EXPECT_FALSE(scene.machine.blocked());
}

TEST(Crossing, ACustomSettingIsAskedForByName) {
    Session scene;
    scene.send(query("SET app.tenant = 7") + parse("", "SELECT set_config($1, $2, false)") +
               bind_portal("", "", {"app.user", "me"}) + execute() + sync());
    scene.hold();
    EXPECT_THAT(scene.source.total(), HasSubstr("(VALUES ('app.tenant'), ('app.user'))"));
}

TEST(Crossing, WhatSetLocalSetIsReadAgainBehindItsTransaction) {
    Session scene;
    scene.send(query("BEGIN"));
    scene.source.settings({{"setting", "work_mem", "64MB"}});
    scene.send(query("SET LOCAL work_mem = '64MB'") + query("SELECT id FROM item"));
    scene.source.settings({});
    scene.send(query("COMMIT"));
    scene.forget();
    scene.hold();
    EXPECT_THAT(scene.target.log(), Not(Contains(HasSubstr("set_config('work_mem'"))));
}

// --- advisory locks ---

TEST(Crossing, LocksAreTakenOnTheMirrorUnderTheHoldAndLeftOnTheFormerPrimary) {
    Session scene;
    scene.source.owns({{"lock", "ExclusiveLock", "0 5 1"}});
    scene.target.on("pg_try_advisory_lock", Reply({"d", "taken"}, {{"advisory lock 5", "t"}}));
    scene.ask_what_it_owns();
    EXPECT_THAT(scene.target.log(), IsEmpty());  // not before: its holder may still change
    EXPECT_EQ(scene.machine.locks().size(), 1U);
    scene.hold();
    EXPECT_THAT(scene.target.log(), Contains(HasSubstr("pg_try_advisory_lock")));
    scene.hold();  // told again: taken once all the same
    EXPECT_THAT(scene.target.log(), IsEmpty());
    EXPECT_FALSE(scene.machine.blocked());
    scene.forget();
    scene.flip();
    EXPECT_THAT(scene.target.log(), Not(Contains(HasSubstr("advisory"))));
    EXPECT_THAT(scene.source.log(), Contains(HasSubstr("pg_advisory_unlock_all")));
}

TEST(Crossing, LocksTakenForAFlipThatDoesNotComeAreReleased) {
    Session scene;
    scene.source.owns({{"lock", "ExclusiveLock", "0 5 1"}});
    scene.target.on("pg_try_advisory_lock", Reply({"d", "taken"}, {{"advisory lock 5", "t"}}));
    scene.hold();
    scene.forget();
    scene.let_go();
    EXPECT_THAT(scene.target.log(),
                ElementsAre("Query SELECT pg_catalog.pg_advisory_unlock_all()"));
    scene.hold();
    EXPECT_THAT(scene.target.log(), Contains(HasSubstr("pg_try_advisory_lock")));
}

TEST(Crossing, ALockThatSomebodyElseHasOnTheMirrorIsInTheWay) {
    Session scene;
    scene.source.owns({{"lock", "ExclusiveLock", "0 5 1"}, {"lock", "ExclusiveLock", "0 6 1"}});
    scene.target.on("pg_try_advisory_lock",
                    Reply({"d", "taken"}, {{"advisory lock 5", "f"}, {"advisory lock 6", "t"}}));
    scene.hold();
    EXPECT_THAT(scene.machine.blocking(), ElementsAre(StartsWith("advisory lock 5 (held")));
    scene.let_go();
    EXPECT_FALSE(scene.machine.blocked());  // until it is tried again
}

TEST(Crossing, LocksAreTakenAgainOnANewConnectionToTheMirror) {
    Session scene;
    scene.source.owns({{"lock", "ExclusiveLock", "0 5 1"}});
    scene.target.on("pg_try_advisory_lock", Reply({"d", "taken"}, {{"advisory lock 5", "t"}}));
    scene.hold();
    scene.lose_server(Side::target);
    scene.forget();
    scene.flip();
    EXPECT_EQ(scene.machine.primary(), Side::target);
    EXPECT_THAT(scene.target.log(), Contains(HasSubstr("pg_try_advisory_lock")));
}

// --- LISTEN ---

std::string notification(const std::string& channel) {
    std::string message;
    protocol::Message(message, 'A').int32(99).string(channel).string("hello");
    return message;
}

TEST(Crossing, AListenerHearsBothSidesWhileItMoves) {
    Session scene;
    scene.source.owns({{"listen", "news", ""}});
    scene.server_says(Side::target, notification("news"));
    EXPECT_THAT(scene.client(), IsEmpty());
    scene.hold();
    EXPECT_THAT(scene.target.log(), Contains("Query LISTEN \"news\""));
    scene.server_says(Side::target, notification("news"));  // from a session that moved earlier
    EXPECT_EQ(scene.client().size(), 1U);
    scene.source.hangs = true;
    scene.flip();
    scene.server_says(Side::source, notification("news"));  // from before, still on its way
    EXPECT_EQ(scene.client().size(), 1U);
    scene.resume(Side::source);
    EXPECT_THAT(scene.source.log(), Contains(HasSubstr("UNLISTEN *")));
    scene.server_says(Side::source, notification("news"));
    EXPECT_THAT(scene.client(), IsEmpty());
}

TEST(Crossing, AListenerThatStaysIsDeafOnTheMirrorAgain) {
    Session scene;
    scene.source.owns({{"listen", "news", ""}});
    scene.hold();
    scene.forget();
    scene.let_go();
    EXPECT_THAT(scene.target.log(), ElementsAre("Query UNLISTEN *"));
    scene.server_says(Side::target, notification("news"));
    EXPECT_THAT(scene.client(), IsEmpty());
}

// --- prepared statements ---

TEST(Crossing, APrepareIsTriedBeforeAnythingIsDecided) {
    Session scene;
    scene.source.owns({{"prepare", "q", "PREPARE q AS SELECT 1; DELETE FROM item"}});
    scene.hold();
    const auto target = scene.target.log();
    EXPECT_THAT(target, Contains("Query PREPARE q AS SELECT 1"));
    EXPECT_THAT(target, Contains("Query DEALLOCATE \"q\""));
    scene.flip();
    const auto moved = scene.target.log();
    EXPECT_EQ(moved.back(), "Query PREPARE q AS SELECT 1");
    EXPECT_THAT(moved, Not(Contains(HasSubstr("DELETE"))));
}

TEST(Crossing, APrepareThatTheMirrorRefusesIsInTheWay) {
    Session scene;
    scene.source.owns({{"prepare", "q", "PREPARE q AS SELECT gone"}});
    scene.target.on("SELECT gone", refusal("42P01"));
    scene.hold();
    scene.let_go();
    EXPECT_THAT(scene.machine.blocking(), ElementsAre(StartsWith("prepared statement \"q\" (")));
}

TEST(Crossing, WireLevelStatementsCanBeNamedInSqlBehindAFlip) {
    for (const bool simple : {true, false}) {
        Session scene;
        scene.send(parse("s", "INSERT INTO item VALUES ($1)") + sync());
        scene.hold();
        scene.flip();
        scene.forget();
        scene.send(simple ? query("DEALLOCATE s")
                          : parse("", "DEALLOCATE s") + bind_portal("", "") + execute() + sync());
        const auto target = scene.target.log();
        const auto stands =
            std::find(target.begin(), target.end(), "Parse s: INSERT INTO item VALUES ($1)");
        const auto named = std::find_if(target.begin(), target.end(), [](const auto& line) {
            return line.ends_with("DEALLOCATE s");
        });
        EXPECT_LT(stands, named) << simple;
        EXPECT_NE(named, target.end()) << simple;
        EXPECT_EQ(scene.client().back(), "Z I");
    }
}

TEST(Crossing, ExecuteInSqlMeansWhatTheClientSentNotWhatIsCaptured) {
    Session scene;
    scene.send(parse("s", "INSERT INTO item VALUES (7)") + sync());
    EXPECT_THAT(scene.source.log(), Contains("Parse s: INSERT INTO item VALUES (7) ~"));
    scene.send(query("EXECUTE s"));
    EXPECT_THAT(scene.source.log(), Contains("Parse s: INSERT INTO item VALUES (7)"));
}

// --- the move itself ---

TEST(Crossing, ASessionThatCannotBeMovedIsEndedNotLeftHalfMoved) {
    Session scene;
    scene.hold();
    scene.target.on("RESET session_replication_role", refusal("42501"));
    scene.flip();
    EXPECT_THAT(scene.client(), ElementsAre("E 57P01"));
    EXPECT_TRUE(scene.port.over);
}

// Whoever has set a role may lack the privilege to leave the mirror's settings.
TEST(Crossing, TheMirrorsSettingsAreLeftAsTheLoginRole) {
    Session scene;
    scene.source.settings({{"role", "limited", "limited"}, {"session_user", "other", ""}});
    scene.send(query("SET ROLE limited"));
    scene.hold();
    const auto pushed = scene.target.log();
    ASSERT_EQ(pushed.size(), 2U);
    EXPECT_EQ(pushed[0], "Query SET SESSION AUTHORIZATION \"other\"");
    EXPECT_THAT(pushed[1], HasSubstr("set_config('role', 'limited'"));
    scene.flip();
    const auto moved = scene.moved(Side::target);
    const auto left = moved.find("RESET SESSION AUTHORIZATION; SET ROLE NONE; ");
    const auto reset = moved.find("RESET session_replication_role");
    const auto session = moved.find("SET SESSION AUTHORIZATION \"other\"");
    const auto role = moved.find("set_config('role', 'limited'");
    EXPECT_LT(left, reset);
    EXPECT_LT(reset, session);
    EXPECT_LT(session, role);
    EXPECT_NE(role, std::string::npos);
    const auto source = scene.source.log();
    const auto left_there = std::find(source.begin(), source.end(), "Query SET ROLE NONE");
    EXPECT_LT(left_there, std::find(source.begin(), source.end(), "Query <setup>"));
    EXPECT_NE(left_there, source.end());
}

TEST(Crossing, NothingOfTodayIsLeftOnTheFormerPrimary) {
    Session scene;
    scene.hold();
    scene.flip();
    EXPECT_THAT(scene.source.log(),
                Contains(StartsWith("Query DISCARD SEQUENCES; DEALLOCATE ALL")));
}

// --- temporary tables that hide others ---

TEST(Crossing, AHiddenTableIsNotWrittenOnTheMirror) {
    Session scene;
    scene.source.settings({{"hides", "item", ""}});
    scene.send(query("SELECT user_volatile()"));  // it may have made the table
    scene.forget();
    scene.port.intents.clear();
    for (int twice = 0; twice < 2; ++twice) {
        scene.send(query("INSERT INTO item VALUES (7)"));
        EXPECT_THAT(scene.source.log(), Contains("Query INSERT INTO item VALUES (7)"));
        EXPECT_THAT(scene.port.intents, IsEmpty());
        EXPECT_THAT(scene.target.log(), IsEmpty());
    }

    scene.source.settings({});
    scene.send(query("DROP TABLE item CASCADE"));  // the temporary one: not run on the mirror
    EXPECT_THAT(scene.target.log(), IsEmpty());
    scene.send(query("INSERT INTO item VALUES (7)"));
    EXPECT_THAT(scene.events, Contains(HasSubstr("mirrored")));
}

TEST(Crossing, ATemporaryTableDroppedByItsCommitHidesNothingBehindIt) {
    Session scene;
    scene.send(query("BEGIN"));
    scene.source.settings({{"hides", "item", ""}});
    scene.send(query("CREATE TEMP TABLE item (id int) ON COMMIT DROP"));
    scene.send(query("INSERT INTO item VALUES (7)"));
    EXPECT_THAT(scene.target.log(), IsEmpty());
    scene.source.settings({});
    scene.send(query("COMMIT"));
    scene.forget();
    scene.send(query("INSERT INTO item VALUES (7)"));
    EXPECT_THAT(scene.events, Contains(HasSubstr("mirrored")));
}

}  // namespace
}  // namespace banyan::test
