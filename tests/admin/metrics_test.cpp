#include "admin/metrics.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "tests/admin/fake_control.hpp"

namespace banyan::admin {
namespace {

using testing::HasSubstr;
using testing::Not;
using Sample = router::Control::Sample;

/// What promtool check metrics looks at, and the format itself.
void expect_well_formed(const std::string& text) {
    static const std::regex series(
        R"(^(banyan_[a-z0-9_]+)(\{[a-z_]+=".*"(,[a-z_]+=".*")*\})? \S+$)");
    std::istringstream in(text);
    std::map<std::string, std::string> types;
    std::set<std::string> helped;
    std::set<std::string> seen;
    for (std::string line; std::getline(in, line);) {
        std::istringstream words(line);
        std::string hash;
        std::string what;
        std::string name;
        if (line.starts_with("#")) {
            words >> hash >> what >> name;
            std::string rest;
            std::getline(words, rest);
            EXPECT_GT(rest.size(), 1U) << line;
            if (what == "TYPE") {
                EXPECT_TRUE(types.emplace(name, rest.substr(1)).second) << line;
            } else {
                EXPECT_TRUE(helped.insert(name).second) << line;
            }
            continue;
        }
        std::smatch match;
        ASSERT_TRUE(std::regex_match(line, match, series)) << line;
        name = match[1];
        const auto type_of = [&](const std::string& suffix) {
            return name.ends_with(suffix) ? types[name.substr(0, name.size() - suffix.size())] : "";
        };
        if (type_of("_bucket") != "histogram" && type_of("_sum") != "histogram" &&
            type_of("_count") != "histogram") {
            EXPECT_TRUE(helped.contains(name)) << line;
            EXPECT_EQ(types[name], name.ends_with("_total") ? "counter" : "gauge") << line;
        }
        EXPECT_TRUE(seen.insert(line.substr(0, line.rfind(' '))).second) << line;
    }
    EXPECT_FALSE(seen.empty());
}

TEST(Metrics, sums_the_loops_counters_and_adds_the_control_planes_samples) {
    FakeControl control;
    FakeCounters counters;
    counters.first.add(router::Counter::queries, 2);
    counters.second.add(router::Counter::queries, 3);
    counters.first.add(router::Counter::statements_read, 7);
    counters.first.add_reason("not_captured", "no_key");
    counters.second.add_reason("not_captured", "no_key");
    const std::string text = render_metrics(counters, control.samples());
    expect_well_formed(text);
    for (const char* line :
         {"\nbanyan_queries_total 5\n", "\nbanyan_statements_total{class=\"read\"} 7\n",
          "\nbanyan_events_total{event=\"not_captured\",reason=\"no_key\"} 2\n",
          "\nbanyan_phase{phase=\"INITIAL\"} 1\n", "\nbanyan_phase{phase=\"COMPLETE\"} 0\n",
          "\nbanyan_backfill_rows_total 42\n", "\n# TYPE banyan_phase gauge\n",
          "banyan_build_info{version=\"" BANYAN_VERSION "\"} 1\n"}) {
        EXPECT_THAT(text, HasSubstr(line));
    }
}

TEST(Metrics, what_is_timed_is_a_histogram_over_all_loops) {
    using namespace std::chrono_literals;
    FakeCounters counters;  // which has its timings twice
    for (const auto took : {10us, 11us, 5000us}) {
        counters.timed.add(router::Timing::source_response, took);
    }
    counters.timed.add(router::Timing::overhead, 10s);
    counters.said = {{"log_messages_total", {{"level", "warning"}}, 4, true, "Messages."}};
    const std::string text = render_metrics(counters, {});
    expect_well_formed(text);
    for (const char* line :
         {"\n# TYPE banyan_server_response_seconds histogram\n",
          "\nbanyan_server_response_seconds_count{side=\"source\"} 6\n",
          "\nbanyan_server_response_seconds_bucket{side=\"source\",le=\"1e-05\"} 2\n",
          "\nbanyan_server_response_seconds_bucket{side=\"source\",le=\"2e-05\"} 4\n",
          "\nbanyan_server_response_seconds_bucket{side=\"source\",le=\"0.002\"} 4\n",
          "\nbanyan_server_response_seconds_bucket{side=\"source\",le=\"0.005\"} 6\n",
          "\nbanyan_server_response_seconds_bucket{side=\"source\",le=\"+Inf\"} 6\n",
          "\nbanyan_server_response_seconds_count{side=\"target\"} 0\n",
          "\nbanyan_overhead_seconds_bucket{le=\"5\"} 0\n",
          "\nbanyan_overhead_seconds_bucket{le=\"+Inf\"} 2\n",
          "\nbanyan_overhead_seconds_sum 20\n",
          "\nbanyan_log_messages_total{level=\"warning\"} 4\n"}) {
        EXPECT_THAT(text, HasSubstr(line));
    }
}

TEST(Metrics, large_counts_keep_every_digit) {
    FakeCounters counters;
    counters.first.add(router::Counter::bytes_to_clients, 9007199254740991ULL);
    const std::string text = render_metrics(counters, {});
    EXPECT_THAT(text,
                testing::AnyOf(HasSubstr("9007199254740991"), HasSubstr("9.007199254740991e+15")));
}

TEST(Metrics, samples_that_break_the_rules_do_not_break_the_scrape) {
    FakeCounters counters;
    const std::vector<Sample> samples = {
        {"counted", {}, 1, true, "A counter without _total."},
        {"odd_total", {}, 2, false, "A gauge with _total."},
        {"bad-name", {}, 3, false, "A bad name."},
        {"bad_label", {{"a-b", "x"}}, 4, false, "A bad label."},
        {"twice", {{"a", "1"}}, 5, false, "Twice."},
        {"twice", {{"a", "1"}}, 6, false, "Twice."},
        {"quoted", {{"a", "say \"hi\"\n\\"}}, 7, false, "Two\nlines."},
    };
    const std::string text = render_metrics(counters, samples);
    expect_well_formed(text);
    EXPECT_THAT(text, HasSubstr("\nbanyan_counted_total 1\n"));
    EXPECT_THAT(text, HasSubstr("\nbanyan_odd 2\n"));
    EXPECT_THAT(text, HasSubstr("\nbanyan_twice{a=\"1\"} 5\n"));
    EXPECT_THAT(text, HasSubstr(R"(banyan_quoted{a="say \"hi\"\n\\"} 7)"));
    EXPECT_THAT(text, HasSubstr("\nbanyan_metrics_dropped_series 3\n"));
    EXPECT_THAT(text, Not(HasSubstr("banyan_bad")));
}

TEST(Metrics, a_family_has_a_limit) {
    FakeCounters counters;
    std::vector<Sample> samples;
    for (std::size_t i = 0; i < max_series_per_family + 5; ++i) {
        samples.push_back({"many", {{"n", std::to_string(i)}}, 1, false, "Many."});
    }
    EXPECT_THAT(render_metrics(counters, samples), HasSubstr("\nbanyan_metrics_dropped_series 5\n"));
}

}  // namespace
}  // namespace banyan::admin
