#include "tests/races/race_model.hpp"

#include <gtest/gtest.h>

#include <cstdlib>

namespace banyan::races {
namespace {

std::string told(const Scenario& scenario, const Finding& finding) {
    std::string text = describe(scenario) + ": " + finding.what + "\n";
    for (const auto& step : finding.steps) {
        text += "  " + step + "\n";
    }
    return text;
}

// BANYAN_NIGHTLY: a crash in every scenario.
TEST(Races, NoInterleavingLeavesTheSidesDifferent) {
    std::size_t states = 0;
    for (const auto& scenario : scenarios(std::getenv("BANYAN_NIGHTLY") != nullptr)) {
        const auto explored = explore(scenario, Mutant::none);
        states += explored.states;
        EXPECT_EQ(explored.finding.what, "") << told(scenario, explored.finding);
    }
    RecordProperty("states", std::to_string(states));
    EXPECT_GT(states, 500'000U);  // or the model has become trivial
}

class MutantTest : public testing::TestWithParam<int> {};

TEST_P(MutantTest, IsFound) {
    for (const auto& scenario : scenarios(false)) {
        if (!explore(scenario, Mutant(GetParam())).finding.what.empty()) {
            return;
        }
    }
    FAIL() << "the model finds nothing wrong with " << name_of(Mutant(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Each, MutantTest, testing::Range(1, static_cast<int>(Mutant::count_)),
                         [](const auto& each) { return name_of(Mutant(each.param)); });

}  // namespace
}  // namespace banyan::races
