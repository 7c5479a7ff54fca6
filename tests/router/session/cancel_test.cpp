// Cancelling: the running request and no other, on whatever is primary, and on the mirror when
// nobody waits for it any more.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scene.hpp"

namespace banyan::test {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

TEST(Cancel, GoesOutOnlyWhileSomethingRuns) {
    Scene scene(Phase::initial);
    scene.log_in();
    scene.give([&] { scene.machine.cancel(); });
    EXPECT_THAT(scene.events, IsEmpty());
    scene.source.hangs = true;
    scene.send(query("SELECT 1"));
    scene.give([&] { scene.machine.cancel(); });
    EXPECT_THAT(scene.events, Contains("cancel source 11"));
}

TEST(Cancel, NothingIsStartedWhileOneIsUnderWayThatCameTooLate) {
    Scene scene(Phase::initial);
    scene.log_in();
    scene.cancels_answer = false;
    scene.source.hangs = true;
    scene.send(query("SELECT 1"));
    scene.give([&] { scene.machine.cancel(); });
    scene.resume(Side::source);
    EXPECT_THAT(scene.client(), ElementsAre("C SELECT 1", "Z I"));
    scene.source.log();
    scene.send(query("SELECT 2"));
    EXPECT_THAT(scene.source.log(), IsEmpty());
    scene.give([&] { scene.machine.cancel_done(Side::source); });
    scene.settle();
    EXPECT_THAT(scene.source.log(), ElementsAre("Query SELECT 2"));
}

TEST(Cancel, FollowsThePrimaryUnderTheOldKey) {
    Scene scene(Phase::dual_read);
    scene.log_in();
    scene.direct(directive(1, Phase::dual_read, true));
    scene.direct(directive(2, Phase::switchover));
    ASSERT_EQ(scene.machine.primary(), Side::target);
    scene.forget();
    scene.target.hangs = true;
    scene.send(query("SELECT 1"));
    scene.give([&] { scene.machine.cancel(); });
    EXPECT_THAT(scene.events, Contains("cancel target 22"));
}

TEST(Cancel, AClientThatVanishesEndsItsWorkOnTheMirrorToo) {
    Scene scene(Phase::dual_write);
    scene.log_in();
    scene.send(query("BEGIN"));
    scene.target.hangs = true;
    scene.send(query("CREATE TABLE made (id int)"));
    scene.forget();
    scene.close_client();
    EXPECT_THAT(scene.events, Contains("cancel target 22"));
    EXPECT_FALSE(scene.port.over);  // the rollback is still to be answered
    scene.deadline(Deadline::mirror);
    EXPECT_TRUE(scene.port.over);
}

TEST(Cancel, ACommitTheMirrorWasToldIsLeftAlone) {
    Scene scene(Phase::dual_write);
    scene.source.on("INSERT INTO item", Reply({"id", "name", "odd"}, {{"7", "a", "b"}}));
    scene.log_in();
    scene.journal_answers = false;
    scene.send(query("BEGIN") + query("INSERT INTO item VALUES (7)") + query("COMMIT"));
    scene.target.hangs = true;
    scene.answer_journal(true);
    // The mirror's answers to the row were in before: only its COMMIT is owed.
    scene.close_client();
    EXPECT_THAT(scene.events, Not(Contains("cancel target 22")));
    scene.resume(Side::target);
    EXPECT_THAT(scene.events, Contains("finish 1 mirrored"));
    EXPECT_TRUE(scene.port.over);
}

TEST(Cancel, AMirrorThatHangsIsCancelledWhenItIsGivenUp) {
    Scene scene(Phase::dual_write);
    scene.source.on("INSERT INTO item", Reply({"id", "name", "odd"}, {{"7", "a", "b"}}));
    scene.log_in();
    scene.target.hangs = true;
    scene.send(query("INSERT INTO item VALUES (7)"));
    scene.deadline(Deadline::mirror);
    EXPECT_THAT(scene.events, Contains("cancel target 22"));
    EXPECT_THAT(scene.client(), ElementsAre("C INSERT 0 1", "Z I"));
}

}  // namespace
}  // namespace banyan::test
