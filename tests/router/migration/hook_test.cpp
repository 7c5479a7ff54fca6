#include "router/migration/hook.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <signal.h>

#include <future>
#include <thread>

namespace banyan::router {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

/// As the program does (proxy/life.hpp): what a hook does not read is a failed write.
const auto ignored = ::signal(SIGPIPE, SIG_IGN);

HookResult run(const std::string& script, const std::string& input = "",
               std::chrono::milliseconds timeout = 60s) {
    return run_hook({"/bin/sh", "-c", script}, input, {{"BANYAN_HOOK", "before"}}, timeout,
                    [] { return false; });
}

TEST(Hook, gets_its_input_and_environment_and_its_output_is_kept) {
    const auto result = run("cat; echo \" $BANYAN_HOOK\"; echo oops >&2", "{\"id\": 7}");
    EXPECT_TRUE(result.good) << result.why;
    EXPECT_EQ(result.output, "{\"id\": 7} before\noops\n");
}

TEST(Hook, that_fails_says_how) {
    const auto result = run("echo no; exit 3");
    EXPECT_FALSE(result.good);
    EXPECT_EQ(result.output, "no\n");
    EXPECT_THAT(result.why, HasSubstr("status 3"));
    EXPECT_THAT(run("kill -9 $$").why, HasSubstr("signal 9"));
}

TEST(Hook, that_is_not_there_says_so) {
    const auto result = run_hook({"/no/such/program"}, "", {}, 60s, [] { return false; });
    EXPECT_FALSE(result.good);
    EXPECT_THAT(result.why, HasSubstr("No such file"));
}

TEST(Hook, that_takes_too_long_is_killed_with_what_it_has_started) {
    const auto result = run("sleep 1000 & echo $!; wait", "", 300ms);
    EXPECT_FALSE(result.good);
    EXPECT_THAT(result.why, HasSubstr("longer than 300 ms"));
    const int child = std::stoi(result.output);
    for (int i = 0; i < 500 && ::kill(child, 0) == 0; ++i) {
        std::this_thread::sleep_for(10ms);
    }
    EXPECT_NE(::kill(child, 0), 0);
}

TEST(Hook, stops_when_the_transition_is_called_off) {
    int looks = 0;
    const auto result = run_hook({"/bin/sh", "-c", "sleep 1000"}, "", {}, 60s,
                                 [&looks] { return ++looks > 3; });
    EXPECT_FALSE(result.good);
    EXPECT_THAT(result.why, HasSubstr("called off"));
}

TEST(Hook, that_does_not_read_and_writes_without_end_is_bounded) {
    const auto result = run("exec <&-; head -c 1000000 /dev/zero | tr '\\0' x", std::string(1 << 20, 'i'));
    EXPECT_TRUE(result.good) << result.why;
    EXPECT_EQ(result.output, std::string(4096, 'x'));
}

TEST(HookRunner, runs_one_after_another_and_ends_with_what_is_running) {
    std::promise<std::string> first;
    {
        HookRunner runner;
        runner.run({{"/bin/echo", "one"}, "", {}, 60s,
                    [&first](const HookResult& it) { first.set_value(it.output); }});
        EXPECT_EQ(first.get_future().get(), "one\n");
        runner.run({{"/bin/sleep", "1000"}, "", {}, 600s, [](const HookResult&) {}});
        std::this_thread::sleep_for(50ms);
    }
}

}  // namespace
}  // namespace banyan::router
