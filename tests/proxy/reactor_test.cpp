#include "proxy/reactor.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <stdexcept>
#include <string>
#include <thread>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define BANYAN_SANITIZED 1
#endif
#endif

#ifndef BANYAN_SANITIZED
namespace {

std::atomic<int> controls{0};
std::atomic<int> waits{0};

}  // namespace

// The program's own are found before the C library's: so each of the reactor's calls is counted.
extern "C" int epoll_ctl(int epoll, int change, int handle, epoll_event* event) {
    ++controls;
    return static_cast<int>(::syscall(SYS_epoll_ctl, epoll, change, handle, event));
}
extern "C" int epoll_wait(int epoll, epoll_event* events, int room, int timeout) {
    ++waits;
    return static_cast<int>(
        ::syscall(SYS_epoll_pwait, epoll, events, room, timeout, nullptr, std::size_t{8}));
}
#endif

namespace banyan::proxy {
namespace {

using namespace std::chrono_literals;

struct Ends {
    Descriptor ours;
    Descriptor theirs;
};

Ends socket_pair() {
    int handles[2] = {-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, handles), 0);
    return {Descriptor(handles[0]), Descriptor(handles[1])};
}

void send(int handle, std::string_view bytes) {
    ASSERT_EQ(::send(handle, bytes.data(), bytes.size(), MSG_NOSIGNAL), std::ssize(bytes));
}

std::string receive(int handle) {
    char bytes[64];
    const auto got = ::recv(handle, bytes, sizeof bytes, 0);
    return {bytes, static_cast<std::size_t>(std::max<ssize_t>(got, 0))};
}

class ReactorTest : public testing::Test {
   protected:
    /// A socket that is watched, and the other end of it.
    int watch(Watch& watched) {
        auto ends = socket_pair();
        watched.open(std::move(ends.ours));
        others_.push_back(std::move(ends.theirs));
        return others_.back().get();
    }
    void run_for(std::chrono::milliseconds time) {
        Timer end(reactor);
        end.after(time, [this] { reactor.stop(); });
        reactor.run();
    }

    Reactor reactor;

   private:
    std::vector<Descriptor> others_;
};

TEST_F(ReactorTest, AWaiterIsCalledOncePerWait) {
    Watch watched(reactor);
    const int other = watch(watched);
    int calls = 0;
    watched.to_read(Readiness::readable, [&] { ++calls; });
    send(other, "x");
    send(other, "y");
    Timer later(reactor);
    std::string got;
    later.after(20ms, [&] {
        EXPECT_EQ(calls, 1);
        // What was left unread is told of again when somebody waits again.
        watched.to_read(Readiness::readable, [&] {
            got = receive(watched.handle());
            reactor.stop();
        });
    });
    reactor.run();
    EXPECT_EQ(got, "xy");
}

#ifndef BANYAN_SANITIZED
TEST_F(ReactorTest, ReadingOnAndOnTakesNoSystemCallButTheWaits) {
    Watch watched(reactor);
    const int other = watch(watched);
    int messages = 0;
    std::function<void()> next = [&] {
        EXPECT_EQ(receive(watched.handle()), "m");
        if (++messages == 1) {
            controls = 0;
            waits = 0;
        } else if (messages == 101) {
            EXPECT_EQ(controls, 0);
            EXPECT_LE(waits, 101);
            reactor.stop();
            return;
        }
        watched.to_read(Readiness::readable, [&next] { next(); });
        send(other, "m");
    };
    watched.to_read(Readiness::readable, [&next] { next(); });
    send(other, "m");
    reactor.run();
    EXPECT_EQ(messages, 101);
}

TEST_F(ReactorTest, WhatNobodyWaitsForDoesNotKeepTheLoopBusy) {
    Watch unread(reactor);
    Watch hung_up(reactor);
    Watch written(reactor);
    const int sender = watch(unread);
    const int vanishing = watch(hung_up);
    watch(written);
    unread.to_read(Readiness::readable, [] {});
    hung_up.to_read(Readiness::readable, [] {});
    written.to_write(Readiness::writable, [] {});
    send(sender, "x");
    ::shutdown(vanishing, SHUT_RDWR);
    waits = 0;
    run_for(30ms);
    EXPECT_LE(waits, 10);
}
#endif

TEST_F(ReactorTest, AHangUpIsReadinessOfBothKinds) {
    Watch watched(reactor);
    const int other = watch(watched);
    std::string called;
    watched.to_read(Readiness::readable, [&] { called += "r"; });
    watched.to_write(Readiness::readable, [&] { called += "w"; });  // as TLS may want
    ::shutdown(other, SHUT_RDWR);
    run_for(10ms);
    EXPECT_EQ(called, "rw");
}

TEST_F(ReactorTest, ReadingAndWritingWaitIndependently) {
    Watch watched(reactor);
    const int other = watch(watched);
    while (::send(watched.handle(), "0123456789", 10, MSG_NOSIGNAL) > 0) {
    }
    std::string called;
    watched.to_write(Readiness::writable, [&] {
        called += "w";
        reactor.stop();
    });
    watched.to_read(Readiness::readable, [&] {
        called += "r";
        char drained[4096];
        while (::recv(other, drained, sizeof drained, 0) > 0) {
        }
    });
    send(other, "x");
    reactor.run();
    EXPECT_EQ(called, "rw");
}

// Both are ready in one look; whoever comes first closes the other, and opens a new one, which may
// get the same descriptor and the same slot.
TEST_F(ReactorTest, AClosedDescriptorIsNotToldOfAnyMore) {
    for (int round = 0; round < 2; ++round) {
        Reactor fresh;
        Watch first(fresh);
        Watch second(fresh);
        Watch third(fresh);
        auto a = socket_pair();
        auto b = socket_pair();
        auto c = socket_pair();
        first.open(std::move(a.ours));
        second.open(std::move(b.ours));
        int calls = 0;
        int calls_of_third = 0;
        const auto closes = [&](Watch& other) {
            return [&] {
                ++calls;
                other.close();
                third.open(std::move(c.ours));
                third.to_read(Readiness::readable, [&calls_of_third] { ++calls_of_third; });
            };
        };
        first.to_read(Readiness::readable, closes(second));
        second.to_read(Readiness::readable, closes(first));
        send(a.theirs.get(), "x");
        send(b.theirs.get(), "x");
        Timer end(fresh);
        end.after(10ms, [&] { fresh.stop(); });
        fresh.run();
        EXPECT_EQ(calls, 1);
        EXPECT_EQ(calls_of_third, 0);
    }
}

TEST_F(ReactorTest, AWatchCanCloseAndReplaceItselfFromItsWaiter) {
    Watch watched(reactor);
    const int other = watch(watched);
    auto kept = std::make_shared<std::string>("kept");
    watched.to_read(Readiness::readable, [&, kept] {
        auto replacement = socket_pair();
        Watch newcomer(reactor);
        newcomer.open(std::move(replacement.ours));
        send(replacement.theirs.get(), "new");
        watched = std::move(newcomer);
        EXPECT_EQ(*kept, "kept");
        watched.to_read(Readiness::readable, [&] {
            EXPECT_EQ(receive(watched.handle()), "new");
            reactor.stop();
        });
        static_cast<void>(replacement.theirs.release());  // left open for the rest of the test
    });
    send(other, "x");
    reactor.run();
    EXPECT_EQ(kept.use_count(), 1);
}

TEST_F(ReactorTest, ForgottenWaitersAreNotCalledAndTheSocketLivesOn) {
    Watch watched(reactor);
    const int other = watch(watched);
    watched.to_read(Readiness::readable, [] { ADD_FAILURE(); });
    watched.forget();
    send(other, "x");
    run_for(10ms);
    EXPECT_EQ(receive(watched.handle()), "x");
}

TEST_F(ReactorTest, TimersComeInTheirOrderAndNotBeforeTheirTime) {
    Timer late(reactor);
    Timer early(reactor);
    Timer moved(reactor);
    Timer cancelled(reactor);
    std::string called;
    const auto begin = Reactor::Clock::now();
    late.after(20ms, [&] {
        called += "l";
        EXPECT_GE(Reactor::Clock::now() - begin, 20ms);
        reactor.stop();
    });
    moved.after(1ms, [&] { called += "x"; });
    moved.after(10ms, [&] { called += "m"; });
    cancelled.after(15ms, [&] { called += "c"; });
    early.after(5ms, [&] {
        called += "e";
        EXPECT_GE(Reactor::Clock::now() - begin, 5ms);
        cancelled.cancel();
    });
    reactor.run();
    EXPECT_EQ(called, "eml");
}

TEST_F(ReactorTest, ATimerMayEndOrSetItselfFromItsOwnCall) {
    auto once = std::make_unique<Timer>(reactor);
    Timer again(reactor);
    int calls = 0;
    once->after(1ms, [&] { once.reset(); });
    std::function<void()> repeat = [&] {
        if (++calls < 3) {
            again.after(0ms, [&] { repeat(); });
        } else {
            reactor.stop();
        }
    };
    again.after(2ms, [&] { repeat(); });
    reactor.run();
    EXPECT_EQ(calls, 3);
    EXPECT_EQ(once, nullptr);
}

TEST_F(ReactorTest, TasksFromEveryThreadRunInTheOrderOfTheirPosting) {
    constexpr int threads = 4;
    constexpr int tasks = 2000;
    std::array<int, threads> seen{};
    int total = 0;
    std::thread loop([this] { reactor.run(); });
    std::vector<std::thread> posters;
    for (std::size_t t = 0; t < threads; ++t) {
        posters.emplace_back([&, t] {
            for (int i = 0; i < tasks; ++i) {
                reactor.post([&, t, i] {
                    EXPECT_EQ(seen[t], i);
                    seen[t] = i + 1;
                    if (++total == threads * tasks) {
                        reactor.stop();
                    }
                });
                if (i % 100 == 0) {
                    std::this_thread::sleep_for(100us);  // so that it falls asleep now and then
                }
            }
        });
    }
    for (auto& poster : posters) {
        poster.join();
    }
    loop.join();
    EXPECT_EQ(total, threads * tasks);
}

TEST_F(ReactorTest, ATaskThatPostsLetsDescriptorsAndTimersComeInBetween) {
    Watch watched(reactor);
    const int other = watch(watched);
    bool enough = false;
    std::function<void()> again = [&] {
        if (!enough) {
            reactor.post([&] { again(); });
        }
    };
    reactor.post([&] { again(); });
    Timer timer(reactor);
    timer.after(1ms, [&] { send(other, "x"); });
    watched.to_read(Readiness::readable, [&] {
        enough = true;
        reactor.stop();
    });
    reactor.run();
    EXPECT_TRUE(enough);
}

TEST_F(ReactorTest, WhatACalleeThrowsComesOutAndTheRestWaitsForTheNextRun) {
    Watch throwing(reactor);
    Watch other_watch(reactor);
    const int a = watch(throwing);
    const int b = watch(other_watch);
    int calls = 0;
    throwing.to_read(Readiness::readable, [] { throw std::runtime_error("socket"); });
    other_watch.to_read(Readiness::readable, [&] { ++calls; });
    send(a, "x");
    send(b, "x");
    reactor.post([] { throw std::runtime_error("task"); });
    reactor.post([&] { ++calls; });
    EXPECT_THROW(reactor.run(), std::runtime_error);
    EXPECT_THROW(reactor.run(), std::runtime_error);
    run_for(10ms);
    EXPECT_EQ(calls, 2);
}

TEST_F(ReactorTest, ForgettingEverythingDropsWhatWasCaptured) {
    auto held = std::make_shared<int>(0);
    Watch watched(reactor);
    watch(watched);
    Timer timer(reactor);
    watched.to_read(Readiness::readable, [held] { ADD_FAILURE(); });
    watched.to_write(Readiness::writable, [held] { ADD_FAILURE(); });
    timer.after(0ms, [held] { ADD_FAILURE(); });
    reactor.post([held] { ADD_FAILURE(); });
    // One that owns another of the things that wait, as a connection does.
    auto owner = std::make_shared<Timer>(reactor);
    owner->after(1ms, [owner, held] { ADD_FAILURE(); });
    owner.reset();
    EXPECT_EQ(held.use_count(), 6);
    reactor.forget_everything();
    EXPECT_EQ(held.use_count(), 1);
    run_for(5ms);
}

TEST_F(ReactorTest, StopBeforeRunIsNotLost) {
    reactor.stop();
    reactor.run();
}

}  // namespace
}  // namespace banyan::proxy
