#include "router/migration/watchdog.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <future>

namespace banyan::router {
namespace {

using namespace std::chrono_literals;

TEST(Watchdog, ReleasesAtTheDeadlineAndUnblocksTheSockets) {
    std::array<int, 2> pair{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair.data()), 0);
    std::atomic<bool> cancelled{false};
    std::promise<void> released;
    Watchdog watchdog(Watchdog::Clock::now() + 20ms, cancelled, {pair[0]},
                      [&] { released.set_value(); });
    char byte = 0;
    EXPECT_EQ(::recv(pair[0], &byte, 1, 0), 0);  // would block for ever
    released.get_future().get();
    EXPECT_TRUE(watchdog.expired());
    EXPECT_FALSE(watchdog.commit());
    ::close(pair[0]);
    ::close(pair[1]);
}

TEST(Watchdog, ReleasesAtOnceWhenCancelled) {
    std::atomic<bool> cancelled{true};
    std::promise<void> released;
    Watchdog watchdog(Watchdog::Clock::now() + 1h, cancelled, {}, [&] { released.set_value(); });
    released.get_future().get();
    EXPECT_FALSE(watchdog.commit());
}

TEST(Watchdog, NeverReleasesOnceCommitted) {
    std::atomic<bool> cancelled{false};
    bool released = false;
    {
        Watchdog watchdog(Watchdog::Clock::now() + 1h, cancelled, {}, [&] { released = true; });
        EXPECT_TRUE(watchdog.commit());
        cancelled = true;
    }
    EXPECT_FALSE(released);
}

}  // namespace
}  // namespace banyan::router
