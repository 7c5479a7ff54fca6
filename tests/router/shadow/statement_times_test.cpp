#include "router/shadow/statement_times.hpp"

#include <gtest/gtest.h>

namespace banyan::router {
namespace {

using namespace std::chrono_literals;

constexpr SlowerBounds bounds{3, 5ms};

StatementTimes::Added run(StatementTimes& times, std::size_t n, std::chrono::microseconds source,
                          std::chrono::microseconds target, const std::string& name = "a") {
    StatementTimes::Added last;
    for (std::size_t i = 0; i < n; ++i) {
        last = times.add(name, "SELECT " + name, source, target, bounds);
    }
    return last;
}

TEST(StatementTimes, FewRunsSayNothing) {
    StatementTimes times;
    auto added = run(times, StatementTimes::enough - 1, 1ms, 100ms);
    EXPECT_FALSE(added.judged);
    EXPECT_FALSE(added.now.slower);
    added = run(times, 1, 1ms, 100ms);
    EXPECT_TRUE(added.judged);
    EXPECT_TRUE(added.turned);
    EXPECT_TRUE(added.now.slower);
    EXPECT_EQ(added.now.source, 1ms);
    EXPECT_EQ(added.now.target, 100ms);
    EXPECT_FALSE(run(times, 1, 1ms, 100ms).turned);
    EXPECT_EQ(times.slower(), 1U);
}

TEST(StatementTimes, BothBoundsMustBeReached) {
    struct Case {
        std::chrono::microseconds source, target;
        bool slower;
    };
    const Case cases[] = {{1ms, 6001us, true},   // by 5 ms and 6 times
                          {100us, 5ms, false},   // 50 times, but by 4.9 ms
                          {10ms, 30ms, false},   // by 20 ms, but just 3 times
                          {10ms, 30001us, true}, //
                          {0us, 5ms, true},      // nothing at all times anything
                          {50ms, 1ms, false}};   // it is the source that is slow
    for (const auto& each : cases) {
        StatementTimes times;
        const auto added = run(times, StatementTimes::enough, each.source, each.target);
        EXPECT_EQ(added.now.slower, each.slower)
            << each.source.count() << " us, " << each.target.count() << " us";
    }
}

TEST(StatementTimes, AnOutlierIsNoMedian) {
    StatementTimes times;
    run(times, StatementTimes::enough, 1ms, 1ms);
    const auto added = run(times, 5, 1ms, 900ms);
    EXPECT_FALSE(added.now.slower);
    EXPECT_EQ(added.now.target, 1ms);
}

TEST(StatementTimes, WhatWasSlowerStaysItUntilItIsClearlyNot) {
    StatementTimes times;
    ASSERT_TRUE(run(times, StatementTimes::kept, 10ms, 40ms).now.slower);
    EXPECT_TRUE(run(times, StatementTimes::kept, 10ms, 25ms).now.slower);  // below 3, above 2.25
    StatementTimes fresh;
    EXPECT_FALSE(run(fresh, StatementTimes::kept, 10ms, 25ms).now.slower);
    // The old runs leave as new ones come; just once it is told.
    int turned = 0;
    for (std::size_t i = 0; i < StatementTimes::kept; ++i) {
        turned += run(times, 1, 10ms, 10ms).turned ? 1 : 0;
    }
    EXPECT_EQ(turned, 1);
    EXPECT_EQ(times.slower(), 0U);
}

TEST(StatementTimes, SlowerOnesComeFirstThenByRatio) {
    StatementTimes times;
    run(times, 30, 10ms, 20ms, "twice");
    run(times, 30, 10ms, 50ms, "slower");
    run(times, 3, 1ms, 9ms, "few");
    run(times, 30, 10ms, 5ms, "faster");
    std::vector<std::string> order;
    for (const auto& row : times.rows(10)) {
        order.push_back(row.fingerprint);
    }
    EXPECT_EQ(order, (std::vector<std::string>{"slower", "few", "twice", "faster"}));
    EXPECT_EQ(times.rows(2).size(), 2U);
    EXPECT_EQ(times.rows(1)[0].sql, "SELECT slower");
    EXPECT_EQ(times.rows(1)[0].runs, 30U);
}

TEST(StatementTimes, TheOneThatRanLongestAgoIsForgotten) {
    StatementTimes times(2);
    run(times, 1, 1ms, 1ms, "a");
    run(times, 1, 1ms, 1ms, "b");
    run(times, 1, 1ms, 1ms, "a");
    run(times, 1, 1ms, 1ms, "c");
    ASSERT_EQ(times.statements(), 2U);
    for (const auto& row : times.rows(10)) {
        EXPECT_NE(row.fingerprint, "b");
    }
}

}  // namespace
}  // namespace banyan::router
