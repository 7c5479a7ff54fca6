#include "proxy/log.hpp"

#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <boost/json.hpp>
#include <algorithm>
#include <memory>
#include <sstream>

namespace banyan::proxy {
namespace {

TEST(Log, json_lines_are_json_whatever_is_in_a_message) {
    std::ostringstream out;
    const auto before = spdlog::default_logger();
    spdlog::set_default_logger(std::make_shared<spdlog::logger>(
        "test", std::make_shared<spdlog::sinks::ostream_sink_st>(out)));
    router::Config::Log settings;
    settings.format = "json";
    set_up_log(settings);
    const std::string nasty = "a \"quoted\" \\ name\nwith a line break\tand \x01";
    spdlog::warn("role {} is {}%", nasty, 5);
    spdlog::default_logger()->flush();
    set_up_log({});
    spdlog::set_default_logger(before);

    const std::string text = out.str();
    ASSERT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
    const auto line = boost::json::parse(text);
    EXPECT_EQ(line.at("message").as_string(), "role " + nasty + " is 5%");
    EXPECT_EQ(line.at("level").as_string(), "warning");
}

}  // namespace
}  // namespace banyan::proxy
