#include "router/migration/plan.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace banyan::router {
namespace {

constexpr Phase phases[] = {Phase::initial, Phase::dual_write, Phase::dual_read, Phase::switchover,
                            Phase::complete};

TEST(Plan, AllowsOneStepForwardAndOneBackwardButNeverOutOfComplete) {
    const std::vector<std::pair<Phase, Phase>> legal{
        {Phase::initial, Phase::dual_write},   {Phase::dual_write, Phase::dual_read},
        {Phase::dual_read, Phase::switchover}, {Phase::switchover, Phase::complete},
        {Phase::dual_write, Phase::initial},   {Phase::dual_read, Phase::dual_write},
        {Phase::switchover, Phase::dual_read}};
    for (const Phase from : phases) {
        for (const Phase to : phases) {
            const bool expected =
                std::find(legal.begin(), legal.end(), std::pair(from, to)) != legal.end();
            EXPECT_EQ(legal_step(from, to), expected) << to_string(from) << " -> " << to_string(to);
            EXPECT_EQ(!plan_of(from, to).empty(), expected)
                << to_string(from) << " -> " << to_string(to);
        }
    }
}

TEST(Plan, PersistsBeforeItPublishesAndAdoptsAfterwards) {
    for (const Phase from : phases) {
        for (const Phase to : phases) {
            const auto plan = plan_of(from, to);
            if (plan.empty()) {
                continue;
            }
            const auto at = [&](Step step) { return std::find(plan.begin(), plan.end(), step); };
            EXPECT_EQ(plan.front(), Step::check_gates);
            EXPECT_LT(at(Step::persist), at(Step::publish));
            EXPECT_LT(at(Step::publish), at(Step::adopt));
            EXPECT_NE(at(Step::adopt), plan.end());
        }
    }
}

TEST(Plan, FlipsOnlyBetweenDualReadAndSwitchoverAndDoesEverythingSlowBeforeTheHold) {
    for (const Phase from : phases) {
        for (const Phase to : phases) {
            const auto plan = plan_of(from, to);
            const bool holds = std::find(plan.begin(), plan.end(), Step::hold) != plan.end();
            EXPECT_EQ(holds, !plan.empty() && flips(from, to));
            if (!holds) {
                continue;
            }
            const auto at = [&](Step step) { return std::find(plan.begin(), plan.end(), step); };
            EXPECT_LT(at(Step::prepare_flip), at(Step::hold));
            EXPECT_LT(at(Step::hold), at(Step::drain));
            EXPECT_LT(at(Step::drain), at(Step::advance_sequences));
            EXPECT_LT(at(Step::prove_reverse), at(Step::persist));
            EXPECT_TRUE(forward_only_once_persisted(from, to));
        }
    }
}

TEST(Plan, TakesBackWhatLosesNothing) {
    EXPECT_FALSE(forward_only_once_persisted(Phase::initial, Phase::dual_write));
    EXPECT_FALSE(forward_only_once_persisted(Phase::dual_write, Phase::dual_read));
    EXPECT_FALSE(forward_only_once_persisted(Phase::dual_read, Phase::dual_write));
    // Some session may already have written without mirroring.
    EXPECT_TRUE(forward_only_once_persisted(Phase::dual_write, Phase::initial));
    EXPECT_TRUE(forward_only_once_persisted(Phase::switchover, Phase::complete));
}

}  // namespace
}  // namespace banyan::router
