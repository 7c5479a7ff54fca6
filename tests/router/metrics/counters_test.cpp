#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "router/metrics/counter_descriptions.hpp"

namespace banyan::router {
namespace {

bool is_label_name(std::string_view name) {
    return !name.empty() && name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == name.npos;
}

TEST(CounterDescriptions, every_counter_has_one_at_its_own_place) {
    for (std::size_t i = 0; i < counter_count; ++i) {
        const auto& description = counter_descriptions().at(i);
        EXPECT_EQ(static_cast<std::size_t>(description.counter), i) << description.name;
        EXPECT_FALSE(description.name.empty()) << i;
    }
}

// What `promtool check metrics` would complain about.
TEST(CounterDescriptions, names_and_help_follow_the_rules_of_prometheus) {
    for (const auto& description : counter_descriptions()) {
        const std::string name(description.name);
        EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_"), name.npos)
            << name;
        EXPECT_TRUE(name.ends_with("_total")) << name;
        EXPECT_FALSE(name.starts_with("banyan_")) << name << ": the prefix is added when rendering";
        for (const char* unit : {"_ms", "_milliseconds", "_kilobytes", "_minutes"}) {
            EXPECT_EQ(name.find(unit), name.npos) << name << ": base units only";
        }
        EXPECT_TRUE(description.help.ends_with(".")) << name;
        EXPECT_EQ(description.help.find('\n'), description.help.npos) << name;
        EXPECT_EQ(description.label.empty(), description.label_value.empty()) << name;
        if (!description.label.empty()) {
            EXPECT_TRUE(is_label_name(description.label)) << name;
            EXPECT_FALSE(description.label.starts_with("__")) << name;
        }
    }
}

TEST(CounterDescriptions, counters_that_share_a_name_share_help_and_label_but_no_value) {
    std::map<std::string_view, const CounterDescription*> first;
    std::set<std::pair<std::string_view, std::string_view>> series;
    for (const auto& description : counter_descriptions()) {
        const auto [it, added] = first.emplace(description.name, &description);
        if (!added) {
            EXPECT_EQ(it->second->help, description.help) << description.name;
            EXPECT_EQ(it->second->label, description.label) << description.name;
            EXPECT_FALSE(description.label.empty()) << description.name;
        }
        EXPECT_TRUE(series.emplace(description.name, description.label_value).second)
            << description.name << " " << description.label_value;
    }
}

TEST(Counters, add_up_and_keep_reasons_apart) {
    Counters counters;
    counters.add(Counter::queries);
    counters.add(Counter::queries, 2);
    counters.add_reason("shadow_skipped", "volatile_function");
    counters.add_reason("shadow_skipped", "volatile_function");
    counters.add_reason("opaque", "volatile_function");
    EXPECT_EQ(counters.get(Counter::queries), 3U);
    EXPECT_EQ(counters.get(Counter::cancels), 0U);
    const std::map<std::pair<std::string, std::string>, std::uint64_t> expected = {
        {{"shadow_skipped", "volatile_function"}, 2}, {{"opaque", "volatile_function"}, 1}};
    EXPECT_EQ(counters.reasons(), expected);
}

}  // namespace
}  // namespace banyan::router
