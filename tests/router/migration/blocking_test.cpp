// Who is in the way of a flip, and what becomes of them.
#include "router/migration/blocking.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace banyan::router {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

SessionInfo session(std::uint64_t id, std::vector<std::string> blocking,
                    std::vector<AdvisoryLock> locks = {}) {
    SessionInfo info;
    info.id = id;
    info.user = "app";
    info.application = "psql";
    info.client = "10.0.0.1:5000";
    info.blocking = std::move(blocking);
    info.locks = std::move(locks);
    return info;
}

TEST(Blocking, LocksConflictAsInPostgres) {
    const AdvisoryLock five{false, 5, false};
    const AdvisoryLock five_shared{false, 5, true};
    const AdvisoryLock pair{true, 5, false};  // (0, 5): another key space
    const struct {
        AdvisoryLock a;
        AdvisoryLock b;
        bool conflict;
    } cases[] = {{five, five, true},
                 {five, five_shared, true},
                 {five_shared, five, true},
                 {five_shared, five_shared, false},
                 {five, pair, false},
                 {pair, pair, true},
                 {five, {false, 6, false}, false}};
    for (const auto& each : cases) {
        EXPECT_EQ(conflict(each.a, each.b), each.conflict)
            << to_string(each.a) << " and " << to_string(each.b);
    }
}

TEST(Blocking, SessionsAreNamedWithEverythingInTheWay) {
    const AdvisoryLock five{false, 5, false};
    const AdvisoryLock fifty{false, 50, false};
    const auto blocked = blocked_sessions(
        {session(9, {}, {fifty}), session(3, {"temporary table \"x\"", "cursor WITH HOLD \"c\""}),
         session(4, {"advisory lock 5 (held by another connection to the target)"}, {five, fifty}),
         session(5, {})},
        {{five, "process 7 (root, psql)"}}, {}, Side::source);
    ASSERT_EQ(blocked.size(), 2U);
    EXPECT_EQ(blocked[0].id, 3U);
    EXPECT_THAT(blocked[0].things, ElementsAre("temporary table \"x\"", "cursor WITH HOLD \"c\""));
    EXPECT_THAT(blocked[1].things,
                ElementsAre("advisory lock 5 (held on the other side by process 7 (root, psql))"));
    EXPECT_EQ(
        describe({blocked[0]}),
        "session 3 (app, psql, 10.0.0.1:5000): temporary table \"x\", cursor WITH HOLD \"c\"");
    EXPECT_THAT(blocked_sessions({session(5, {}, {five})}, {}, {}, Side::source), IsEmpty());
}

TEST(Blocking, AStatementThatWaitsForAHeldSessionIsInTheWay) {
    auto waiting = session(3, {});
    waiting.source_process_id = 7;
    waiting.target_process_id = 8;
    const std::vector<LockWait> waits = {{8, {false, 5, false}}};
    EXPECT_THAT(blocked_sessions({waiting}, {}, waits, Side::source), IsEmpty());
    const auto blocked = blocked_sessions({waiting}, {}, waits, Side::target);
    ASSERT_EQ(blocked.size(), 1U);
    EXPECT_TRUE(blocked[0].waits);
    EXPECT_THAT(blocked[0].things, ElementsAre(HasSubstr("waits for advisory lock 5")));
}

TEST(Blocking, ALongListIsCutAndSaysSo) {
    std::vector<SessionInfo> many;
    for (std::uint64_t id = 1; id <= 8; ++id) {
        many.push_back(session(id, {"temporary table \"x\""}));
    }
    const auto text = describe(blocked_sessions(many, {}, {}, Side::source));
    EXPECT_THAT(text, HasSubstr("session 5 "));
    EXPECT_THAT(text, ::testing::Not(HasSubstr("session 6 ")));
    EXPECT_THAT(text, HasSubstr("and 3 more sessions"));
}

TEST(Blocking, SessionsAreWaitedForWhileThereIsPatience) {
    const struct {
        bool blocked, asked, patient;
        OnBlocked choice;
        BlockedVerdict verdict;
    } cases[] = {
        {false, true, true, OnBlocked::abort, BlockedVerdict::go_on},
        {false, true, false, OnBlocked::abort, BlockedVerdict::go_on},
        {false, false, true, OnBlocked::abort, BlockedVerdict::wait},
        {true, true, true, OnBlocked::abort, BlockedVerdict::wait},
        {true, true, true, OnBlocked::end, BlockedVerdict::wait},
        {true, false, true, OnBlocked::end, BlockedVerdict::wait},
        {true, true, false, OnBlocked::end, BlockedVerdict::end},
        {true, true, false, OnBlocked::abort, BlockedVerdict::abort},
    };
    for (const auto& each : cases) {
        EXPECT_EQ(judge_blocked(each.blocked, each.asked, each.patient, each.choice), each.verdict)
            << each.blocked << each.asked << each.patient << to_string(each.choice);
    }
}

TEST(Blocking, EndingThemLeavesTimeForTheFlip) {
    const std::chrono::steady_clock::time_point now{1000s};
    EXPECT_EQ(patience_end(OnBlocked::abort, now, now + 30s), now + 30s);
    EXPECT_EQ(patience_end(OnBlocked::end, now, now + 30s), now + 20s);
    EXPECT_EQ(patience_end(OnBlocked::end, now, now - 1s), now - 1s);
}

TEST(Blocking, TheChoiceIsReadAndShown) {
    EXPECT_EQ(on_blocked_from_string("end"), OnBlocked::end);
    EXPECT_EQ(on_blocked_from_string(to_string(OnBlocked::abort)), OnBlocked::abort);
    EXPECT_EQ(on_blocked_from_string("kill"), std::nullopt);
    BlockedSession it{7, "app", "psql", "c:1", {"temporary table \"x\""}, true, false};
    EXPECT_EQ(boost::json::serialize(to_json(std::vector{it})),
              R"([{"id":7,"user":"app","application":"psql","client":"c:1",)"
              R"("things":["temporary table \"x\""],"ended":true}])");
}

}  // namespace
}  // namespace banyan::router
