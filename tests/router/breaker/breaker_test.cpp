// The breaker's states, its waits, and what counts as a failure of the mirror.
#include "router/breaker/breaker.hpp"

#include <gtest/gtest.h>

#include <string>

namespace banyan::test {
namespace {

using namespace std::literals;
using router::Breaker;
using router::fault_of;
using router::MirrorDoing;
using router::MirrorFault;
using State = Breaker::State;

constexpr auto start = Breaker::Clock::time_point(1h);

Breaker::Pace pace() { return {3, 100ms, 1000ms}; }

struct Opened : Breaker {
    Opened() : Breaker(pace()) { open(MirrorFault::timed_out, "no answer", start); }
};

TEST(Breaker, OpensAfterFailuresInARowOnly) {
    Breaker breaker(pace());
    EXPECT_FALSE(breaker.failed(MirrorFault::disk_full, "1", start));
    EXPECT_FALSE(breaker.failed(MirrorFault::disk_full, "2", start));
    breaker.succeeded();
    EXPECT_FALSE(breaker.failed(MirrorFault::disk_full, "3", start));
    EXPECT_FALSE(breaker.failed(MirrorFault::disk_full, "4", start));
    EXPECT_TRUE(breaker.allows());
    EXPECT_EQ(breaker.report(start).failures, 2U);
    EXPECT_TRUE(breaker.failed(MirrorFault::read_only, "5", start));
    EXPECT_FALSE(breaker.allows());
    const auto report = breaker.report(start + 30ms);
    EXPECT_EQ(report.state, State::open);
    EXPECT_EQ(report.fault, MirrorFault::read_only);
    EXPECT_EQ(report.detail, "5");
    EXPECT_EQ(report.open_for, 30ms);
    EXPECT_EQ(report.until_probe, 70ms);
    EXPECT_EQ(report.opened_total, 1U);
    EXPECT_EQ(report.opened_by.at(static_cast<std::size_t>(MirrorFault::read_only)), 1U);
    EXPECT_FALSE(breaker.failed(MirrorFault::read_only, "late", start));
    EXPECT_EQ(breaker.opened_total(), 1U);
}

TEST(Breaker, ALoginSaysNothingAboutWrites) {
    Breaker breaker(pace());
    for (int i = 0; i < 2; ++i) {
        breaker.failed(MirrorFault::disk_full, "", start);
    }
    breaker.logged_in();
    EXPECT_TRUE(breaker.failed(MirrorFault::disk_full, "", start));
    Breaker unreachable(pace());
    for (int i = 0; i < 2; ++i) {
        unreachable.failed(MirrorFault::unreachable, "", start);
    }
    unreachable.logged_in();
    EXPECT_FALSE(unreachable.failed(MirrorFault::unreachable, "", start));
}

TEST(Breaker, ItsProbeAloneTriesTheMirrorAndOnlyWhenTheWaitIsOver) {
    Opened breaker;
    EXPECT_FALSE(breaker.begin_probe(start + 99ms));
    EXPECT_TRUE(breaker.begin_probe(start + 100ms));
    EXPECT_EQ(breaker.state(), State::half_open);
    EXPECT_FALSE(breaker.allows());
    EXPECT_FALSE(breaker.begin_probe(start + 200ms)) << "one probe at a time";
    breaker.probe_succeeded(start + 110ms);
    EXPECT_TRUE(breaker.allows());
    EXPECT_FALSE(breaker.report(start + 1h).open_for.has_value());
    EXPECT_EQ(breaker.report(start + 1h).open_total, 110ms);
}

TEST(Breaker, WaitsTwiceAsLongAfterEachBadProbeUpToALimit) {
    Opened breaker;
    auto now = start;
    for (const auto wait : {100ms, 200ms, 400ms, 800ms, 1000ms, 1000ms}) {
        EXPECT_EQ(breaker.until_probe(now), wait);
        now += wait;
        ASSERT_TRUE(breaker.begin_probe(now));
        breaker.probe_failed(MirrorFault::read_only, "25006", now);
        EXPECT_EQ(breaker.state(), State::open);
    }
    EXPECT_EQ(breaker.report(now).probes_failed, 6U);
    EXPECT_EQ(breaker.report(now).fault, MirrorFault::read_only);
    EXPECT_EQ(breaker.opened_total(), 1U);
}

// A probe that proves too little would have every session pay again and again.
TEST(Breaker, AMirrorThatFailsAgainSoonIsLeftAloneForLonger) {
    Opened breaker;
    auto now = start;
    for (const auto wait : {100ms, 200ms, 400ms, 800ms, 1000ms}) {
        EXPECT_EQ(breaker.until_probe(now), wait);
        now += wait;
        ASSERT_TRUE(breaker.begin_probe(now));
        breaker.probe_succeeded(now);
        EXPECT_FALSE(breaker.until_probe(now).has_value());
        now += 10ms;
        EXPECT_TRUE(breaker.open(MirrorFault::timed_out, "", now));
    }
    // Well for as long as the longest wait: the next one is another incident.
    now += 1000ms;
    ASSERT_TRUE(breaker.begin_probe(now));
    breaker.probe_succeeded(now);
    now += 1000ms;
    EXPECT_TRUE(breaker.open(MirrorFault::timed_out, "", now));
    EXPECT_EQ(breaker.until_probe(now), 100ms);
}

TEST(Breaker, AProbeThatHadNoMirrorToTryIsNoBadProbe) {
    Opened breaker;
    ASSERT_TRUE(breaker.begin_probe(start + 100ms));
    breaker.probe_given_up(start + 100ms);
    EXPECT_EQ(breaker.until_probe(start + 100ms), 100ms);
    EXPECT_EQ(breaker.report(start).probes_failed, 0U);
}

TEST(Breaker, AMirrorWithoutRoomKeepsThoseItHasAndPutsOffTheOthers) {
    Breaker breaker(pace());
    EXPECT_TRUE(breaker.allows_login(start));
    breaker.no_room("53300", start);
    breaker.no_room("53300", start);  // two that tried at once
    EXPECT_TRUE(breaker.allows());
    EXPECT_FALSE(breaker.allows_login(start + 99ms));
    EXPECT_TRUE(breaker.allows_login(start + 100ms));
    EXPECT_EQ(breaker.report(start).no_logins_for, 100ms);
    breaker.no_room("53300", start + 100ms);
    EXPECT_FALSE(breaker.allows_login(start + 299ms));
    EXPECT_TRUE(breaker.allows_login(start + 300ms));
    breaker.logged_in();
    EXPECT_TRUE(breaker.allows_login(start + 100ms));
    EXPECT_FALSE(breaker.report(start).no_logins_for.has_value());
}

TEST(Breaker, WhatCountsAsAFailureOfTheMirror) {
    using enum MirrorDoing;
    struct Case {
        MirrorDoing doing;
        const char* sqlstate;
        std::optional<MirrorFault> fault;
    };
    const Case cases[] = {
        {connection, "", MirrorFault::unreachable},
        {connection, "08006", MirrorFault::unreachable},
        {statement, "08003", MirrorFault::unreachable},
        {connection, "57P01", MirrorFault::unavailable},
        {connection, "57P02", MirrorFault::unavailable},
        {connection, "57P03", MirrorFault::unavailable},
        {connection, "57P04", MirrorFault::unavailable},
        {connection, "53300", MirrorFault::connections},
        {statement, "25006", MirrorFault::read_only},
        {commit, "25006", MirrorFault::read_only},
        {begin, "25006", MirrorFault::read_only},
        {begin, "0A000", MirrorFault::read_only},  // a hot standby, asked for READ WRITE
        {begin, "XX000", MirrorFault::broken},
        {begin, "42601", MirrorFault::broken},
        {statement, "53100", MirrorFault::disk_full},
        {commit, "53100", MirrorFault::disk_full},
        {statement, "53200", MirrorFault::resources},
        {statement, "53300", MirrorFault::resources},  // of a link in the mirror's own code
        {commit, "53400", MirrorFault::resources},
        {statement, "58030", MirrorFault::broken},
        {commit, "58000", MirrorFault::broken},
        {statement, "XX001", MirrorFault::broken},
        // The transaction's, the table's, the role's or the session's own.
        {connection, "57P05", std::nullopt},  // idle_session_timeout
        {connection, "25P03", std::nullopt},
        {connection, "28P01", std::nullopt},
        {statement, "0A000", std::nullopt},
        {statement, "22001", std::nullopt},
        {statement, "23505", std::nullopt},
        {commit, "23503", std::nullopt},
        {statement, "25P02", std::nullopt},
        {commit, "40001", std::nullopt},
        {statement, "40P01", std::nullopt},
        {statement, "42501", std::nullopt},
        {statement, "42P01", std::nullopt},
        {statement, "54000", std::nullopt},
        {statement, "55P03", std::nullopt},
        {statement, "57014", std::nullopt},
        {statement, "P0001", std::nullopt},
    };
    for (const auto& each : cases) {
        EXPECT_EQ(fault_of(each.doing, each.sqlstate), each.fault)
            << static_cast<int>(each.doing) << " " << each.sqlstate;
    }
}

}  // namespace
}  // namespace banyan::test
