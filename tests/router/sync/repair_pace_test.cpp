// How fast repair goes: pure, with a clock of the test's own.
#include "router/sync/repair_pace.hpp"

#include <gtest/gtest.h>

namespace banyan::test {
namespace {

using namespace std::literals;
using router::ApplicationWaits;
using router::RepairPace;

/// Batches of 10 ms; between them the application's clients wait `quiet` microseconds each, within
/// them `loud`.
struct Paced {
    explicit Paced(RepairPace made) : pace(made) {}
    RepairPace::Clock::duration batch(std::uint64_t busy, std::uint64_t quiet, std::uint64_t loud) {
        waits.count += 10;
        waits.microseconds += 10 * quiet;
        pace.begin(now, waits);
        const auto keys = pace.batch();
        now += 10ms;
        waits.count += 10;
        waits.microseconds += 10 * loud;
        const auto rest = pace.end(now, waits, keys, busy * keys / 100, keys - busy * keys / 100);
        now += rest;
        return rest;
    }
    RepairPace pace;
    RepairPace::Clock::time_point now{1h};
    ApplicationWaits waits;
};

TEST(RepairPace, HurtingNobodyItRestsOnlyNowAndThen) {
    Paced it{RepairPace(0, true)};
    int rests = 0;
    for (int i = 0; i < 64; ++i) {
        rests += it.batch(0, 500, 700) > 0ms ? 1 : 0;
    }
    EXPECT_EQ(rests, 4) << "what clients wait without repair must be known, too";
    EXPECT_EQ(it.pace.reason(), "");
    EXPECT_EQ(it.pace.share(), 1.0);
    EXPECT_EQ(it.pace.batch(), 64U);
    EXPECT_GT(it.pace.keys_per_second(it.now), 1000);
}

TEST(RepairPace, ClientsThatWaitLongerWhileItWorksHalveItsShareUntilTheyDoNot) {
    Paced it{RepairPace(0, true)};
    EXPECT_GE(it.batch(0, 500, 9000), 10ms);
    EXPECT_EQ(it.pace.reason(), "application_waits");
    EXPECT_EQ(it.pace.share(), 0.5);
    EXPECT_LT(it.pace.batch(), 64U);
    for (int i = 0; i < 20; ++i) {
        it.batch(0, 500, 9000);
    }
    EXPECT_EQ(it.pace.share(), 0.5);
    for (int i = 0; i < 6; ++i) {
        it.batch(0, 500, 600);
    }
    EXPECT_EQ(it.pace.share(), 1.0);
    EXPECT_EQ(it.pace.reason(), "");
}

TEST(RepairPace, AMirrorThatIsSlowByItselfIsNotItsDoing) {
    Paced it{RepairPace(0, true)};
    for (int i = 0; i < 10; ++i) {
        it.batch(0, 9000, 9500);
    }
    EXPECT_EQ(it.pace.share(), 1.0);
}

TEST(RepairPace, RowsThatOthersHaveLockedSlowItDownButDoNotStopIt) {
    Paced it{RepairPace(0, true)};
    for (int i = 0; i < 20; ++i) {
        it.batch(50, 500, 500);
    }
    EXPECT_EQ(it.pace.share(), 0.5);
    EXPECT_EQ(it.pace.reason(), "rows_busy");
    it.batch(5, 500, 500);
    EXPECT_EQ(it.pace.share(), 1.0);
}

TEST(RepairPace, ALimitHoldsWhateverElseIsSo) {
    Paced it{RepairPace(100, false)};
    std::uint64_t keys = 0;
    const auto began = it.now;
    while (it.now - began < 10s) {
        keys += it.pace.batch();
        it.batch(50, 500, 90000);
        EXPECT_EQ(it.pace.reason(), "max_keys_per_second");
    }
    EXPECT_LE(keys, 1030U);
    EXPECT_GE(keys, 900U);
    EXPECT_EQ(it.pace.share(), 1.0) << "not adaptive";
}

}  // namespace
}  // namespace banyan::test
