#include "router/lease/policy.hpp"

#include <gtest/gtest.h>

#include <functional>

namespace banyan::router {
namespace {

using namespace std::chrono_literals;
using Action = LeaseDecision::Action;

LeaseOwner owner() {
    LeaseOwner own;
    own.migration = "m";
    own.holder = "me";
    own.lock = "boot:1:2";
    own.epoch = 3;
    own.phase = Phase::dual_read;
    own.phase_epoch = 7;
    return own;
}

LeaseOwner fresh() {
    LeaseOwner own;
    own.holder = "new";
    own.lock = "boot:1:3";
    return own;
}

LeaseRow row(Side side, Phase phase = Phase::dual_read, std::int64_t phase_epoch = 7) {
    LeaseRow row;
    row.migration = "m";
    row.side = side;
    row.holder = "me";
    row.host = "a-host";
    row.lock = "boot:1:2";
    row.process_id = 42;
    row.epoch = 3;
    row.phase = phase;
    row.phase_epoch = phase_epoch;
    row.renewed_at = "then";
    row.age_ms = 60'000;
    row.ttl_ms = 15'000;
    return row;
}

LeaseRow with(LeaseRow row, const std::function<void(LeaseRow&)>& change) {
    change(row);
    return row;
}

LeaseView seen(std::optional<LeaseRow> row) {
    return {true, "", std::move(row)};
}
LeaseView away() {
    return {false, "refused", std::nullopt};
}

void live(LeaseRow& row) {
    row.age_ms = 10;
}
void others(LeaseRow& row) {
    row.holder = "other";
}
void others_live(LeaseRow& row) {
    others(row);
    live(row);
}

TEST(LeaseStart, IsDecidedFromBothRows) {
    const LeaseRow source = row(Side::source);
    const LeaseRow target = row(Side::target);
    struct Case {
        const char* name;
        LeaseOwner own;
        LeaseViews views;
        Action action;
        const char* says;  ///< a part of `why`
    };
    const Case cases[] = {
        {"no migration anywhere", fresh(), {seen({}), seen({})}, Action::go, ""},
        {"INITIAL with a target that is down", fresh(), {seen({}), away()}, Action::go, ""},
        {"both down", owner(), {away(), away()}, Action::go, ""},
        {"a restart", owner(), {seen(source), seen(target)}, Action::go, ""},
        {"a restart at once, the lease still live", owner(),
         {seen(with(source, live)), seen(with(target, live))}, Action::go, ""},
        {"a restart with the mirror down", owner(), {seen(source), away()}, Action::go, ""},
        {"after a reboot the lease is live yet", owner(),
         {seen(with(source, [](LeaseRow& it) { live(it); it.lock = "other boot:1:2"; })), away()},
         Action::wait, "copy of this state directory"},
        {"after a reboot it has expired", owner(),
         {seen(with(source, [](LeaseRow& it) { it.lock = "other boot:1:2"; })), away()}, Action::go,
         ""},
        {"killed between persisting a flip and recording it",
         [] { auto own = owner(); own.phase = Phase::switchover; own.phase_epoch = 8; return own; }(),
         {seen(source), seen(target)}, Action::go, ""},
        {"an old copy of the directory: the phase went on", owner(),
         {seen(row(Side::source, Phase::switchover, 8)), seen(row(Side::target, Phase::switchover, 8))},
         Action::refuse, "old copy"},
        {"an old copy of the directory: it was started since", owner(),
         {seen(with(source, [](LeaseRow& it) { it.epoch = 4; })), seen(target)}, Action::refuse,
         "old copy"},
        {"a fresh directory beside a live Banyan", fresh(),
         {seen(with(source, others_live)), seen(with(target, others_live))}, Action::refuse,
         "another Banyan is in charge"},
        {"a fresh directory after the other died", fresh(), {seen(source), seen(target)},
         Action::refuse, "--seize-lease"},
        {"a fresh directory, the other ended in order", fresh(),
         {seen(with(source, [](LeaseRow& it) { live(it); it.released = true; })), seen({})},
         Action::refuse, "--seize-lease"},
        {"a fresh directory and only the target remembers", fresh(), {seen({}), seen(target)},
         Action::refuse, "knows nothing of"},
        {"somebody died while leaving INITIAL", fresh(),
         {seen(row(Side::source, Phase::initial, 0)), seen(row(Side::target, Phase::initial, 0))},
         Action::go, ""},
        {"somebody is leaving INITIAL", fresh(),
         {seen(with(row(Side::source, Phase::initial, 0), live)), seen({})}, Action::refuse,
         "another Banyan is in charge"},
        {"its migration was taken over", owner(), {seen(with(source, others)), seen(target)},
         Action::refuse, "knows nothing of"},
        {"taken over while the mirror was down", owner(),
         {seen(source), seen(with(target, others_live))}, Action::refuse,
         "another Banyan is in charge"},
        {"a completed migration", fresh(),
         {seen(row(Side::source, Phase::complete, 9)), seen(row(Side::target, Phase::complete, 9))},
         Action::refuse, "DROP TABLE banyan.lease"},
        {"source and target swapped", fresh(), {seen(target), seen(source)}, Action::refuse,
         "swapped"},
        {"gone back to INITIAL with the target down",
         [] { auto own = owner(); own.phase = Phase::initial; own.phase_epoch = 9; return own; }(),
         {seen({}), seen(target)}, Action::go, ""},
    };
    for (const auto& it : cases) {
        SCOPED_TRACE(it.name);
        const auto decision = decide_start(it.own, it.views);
        EXPECT_EQ(decision.action, it.action) << decision.why;
        EXPECT_NE(decision.why.find(it.says), std::string::npos) << decision.why;
        EXPECT_EQ(decision.why.empty(), it.action == Action::go);
    }
}

TEST(LeaseStart, ARefusalNamesTheHolderWhereItRunsAndSinceWhen) {
    const auto why = decide_start(fresh(), {seen(with(row(Side::source), live)), seen({})}).why;
    for (const auto* part : {"holder me", "process 42", "host a-host", "at then", "DUAL_READ"}) {
        EXPECT_NE(why.find(part), std::string::npos) << why;
    }
}

TEST(LeaseSeize, TakesWhatTheDatabasesRecordOnceItHasExpired) {
    const LeaseRow source = row(Side::source);
    const LeaseRow target = row(Side::target);
    const auto flipped = [](Side side) { return row(side, Phase::switchover, 8); };
    struct Case {
        const char* name;
        LeaseViews views;
        const char* even_from;
        Action action;
        Phase phase;
        const char* says;
    };
    const Case cases[] = {
        {"nothing there", {seen({}), seen({})}, "", Action::refuse, {}, "no lease to seize"},
        {"perhaps nothing there", {seen({}), away()}, "", Action::refuse, {}, "not known"},
        {"expired", {seen(source), seen(target)}, "", Action::go, Phase::dual_read, ""},
        {"live", {seen(with(source, live)), seen(target)}, "", Action::wait, {}, "--seize-lease=me"},
        {"live, its holder typed out", {seen(with(source, live)), seen(target)}, "me", Action::go,
         Phase::dual_read, ""},
        {"live, another holder typed out", {seen(with(source, live)), seen(target)}, "you",
         Action::refuse, {}, "the holder is not you"},
        {"switched over", {seen(flipped(Side::source)), seen(flipped(Side::target))}, "", Action::go,
         Phase::switchover, ""},
        {"died in the flip, the source gave way", {seen(flipped(Side::source)), seen(target)}, "",
         Action::go, Phase::switchover, ""},
        {"the mirror is down, the primary says it is", {seen(source), away()}, "", Action::go,
         Phase::dual_read, ""},
        {"the primary is down, the mirror knows it is none", {away(), seen(target)}, "",
         Action::refuse, {}, "does not answer"},
        {"the new primary is down, the old one gave way", {seen(flipped(Side::source)), away()}, "",
         Action::refuse, {}, "does not answer"},
        {"two migrations",
         {seen(source), seen(with(target, [](LeaseRow& it) { it.migration = "n"; }))}, "",
         Action::refuse, {}, "different migrations"},
        {"swapped", {seen(target), seen(source)}, "", Action::refuse, {}, "swapped"},
        {"INITIAL", {seen(row(Side::source, Phase::initial, 0)), seen({})}, "", Action::refuse, {},
         "nothing to take over"},
    };
    for (const auto& it : cases) {
        SCOPED_TRACE(it.name);
        const auto decision = decide_seize(fresh(), it.views, it.even_from);
        EXPECT_EQ(decision.action, it.action) << decision.why;
        EXPECT_NE(decision.why.find(it.says), std::string::npos) << decision.why;
        if (it.action == Action::go) {
            EXPECT_EQ(decision.phase, it.phase);
            EXPECT_EQ(decision.migration, "m");
            EXPECT_EQ(decision.epoch, 4);
            EXPECT_GT(decision.phase_epoch, it.phase == Phase::switchover ? 8 : 7);
        }
    }
}

TEST(LeaseSeize, ARenewalBetweenTwoLooksShowsThatTheHolderLives) {
    const LeaseViews before{seen(row(Side::source)), away()};
    LeaseViews now = before;
    now[0].row->age_ms += 500;
    EXPECT_FALSE(renewed_between(before, now));
    now[0].row->renewed_at = "later";
    EXPECT_TRUE(renewed_between(before, now));
}

TEST(LeaseValidity, ARenewalOnThePrimaryVouchesForLessThanTheTtl) {
    LeaseValidity validity(10s);
    validity.phase(Phase::dual_write, 1, true);
    EXPECT_EQ(validity.valid_until_ns(), 0);
    validity.confirmed(Side::target, 1, 1'000);
    EXPECT_EQ(validity.valid_until_ns(), 0) << "the mirror's says nothing";
    validity.confirmed(Side::source, 1, 1'000);
    EXPECT_EQ(validity.valid_until_ns(), 1'000 + 9'000'000'000);
    validity.confirmed(Side::source, 1, 500);
    EXPECT_EQ(validity.valid_until_ns(), 1'000 + 9'000'000'000) << "an answer overtaken";
}

TEST(LeaseValidity, AfterAFlipTheNewPrimaryMustHaveRecordedIt) {
    LeaseValidity validity(10s);
    validity.phase(Phase::dual_read, 1, true);
    validity.confirmed(Side::source, 1, 1'000);
    validity.confirmed(Side::target, 1, 1'000);
    validity.phase(Phase::switchover, 2, true);
    EXPECT_EQ(validity.valid_until_ns(), 0);
    validity.confirmed(Side::source, 2, 2'000);
    EXPECT_EQ(validity.valid_until_ns(), 0);
    validity.confirmed(Side::target, 2, 3'000);
    EXPECT_GT(validity.valid_until_ns(), 0);
    validity.phase(Phase::dual_read, 3, true);  // and one that is taken back, too
    EXPECT_EQ(validity.valid_until_ns(), 0);
}

TEST(LeaseValidity, APhaseWithTheSamePrimaryNeedsNoRecordFirst) {
    LeaseValidity validity(10s);
    validity.phase(Phase::dual_write, 1, true);
    validity.confirmed(Side::source, 1, 1'000);
    validity.phase(Phase::dual_read, 2, false);
    EXPECT_GT(validity.valid_until_ns(), 0);
}

}  // namespace
}  // namespace banyan::router
