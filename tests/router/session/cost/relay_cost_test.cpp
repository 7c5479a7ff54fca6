// What a message costs on its way through a relay: no allocation, lock, clock, log line or parse. A
// program of its own: it counts what the whole process does.
#include <gtest/gtest.h>
#include <time.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <new>

#include "tests/router/session/scene.hpp"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define BANYAN_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define BANYAN_SANITIZED 1
#endif

namespace {

std::atomic<std::uint64_t> allocations{0};
std::atomic<std::uint64_t> locks{0};
std::atomic<std::uint64_t> clocks{0};

void* allocate(std::size_t size) {
    ++allocations;
    if (void* memory = std::malloc(size)) {
        return memory;
    }
    throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t size) {
    return allocate(size);
}
void* operator new[](std::size_t size) {
    return allocate(size);
}
void operator delete(void* memory) noexcept {
    std::free(memory);
}
void operator delete[](void* memory) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
    std::free(memory);
}

#ifndef BANYAN_SANITIZED
#include <dlfcn.h>
#include <pthread.h>

// The program's own come before the C library's.
extern "C" int pthread_mutex_lock(pthread_mutex_t* mutex) {
    ++locks;
    static const auto real =
        reinterpret_cast<int (*)(pthread_mutex_t*)>(::dlsym(RTLD_NEXT, "pthread_mutex_lock"));
    return real(mutex);
}
extern "C" int clock_gettime(clockid_t which, timespec* time) noexcept {
    ++clocks;
    static const auto real = reinterpret_cast<int (*)(clockid_t, timespec*)>(
        ::dlsym(RTLD_NEXT, "clock_gettime"));
    return real(which, time);
}
#endif

namespace banyan::test {
namespace {

struct Exchange {
    const char* name;
    std::string request;
};

class RelayCost : public testing::TestWithParam<Exchange> {};

const Exchange exchanges[] = {
    {"simple", query("SELECT a FROM t")},
    {"extended", run("SELECT a FROM t") + sync()},
    {"prepared", bind_portal("", "s") + execute("") + sync()},
    {"transaction", query("BEGIN")},
};

/// What the server says to that.
std::string answer_to(const std::string& request) {
    Lines events;
    FakeServer server("direct", 11, events);
    server.on("FROM t", Reply({"a"}, {{"one"}, {std::nullopt}, {"three"}}));
    server.receive(startup());
    server.take();
    server.receive(parse("s", "SELECT a FROM t") + sync());
    server.take();
    server.receive(request);
    return server.take();
}

TEST_P(RelayCost, nothing_but_the_bytes) {
    const std::string& request = GetParam().request;
    const std::string answer = answer_to(request);
    Scene scene(Phase::initial);
    scene.source.on("FROM t", Reply({"a"}, {{"one"}, {std::nullopt}, {"three"}}));
    scene.send(startup());
    scene.send(parse("s", "SELECT a FROM t") + sync());
    scene.forget();
    auto& machine = scene.machine;
    const auto exchange = [&](std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
            machine.client_bytes(request);
            ASSERT_EQ(machine.to_server(Side::source).size(), request.size());
            machine.to_server(Side::source).clear();
            machine.server_bytes(Side::source, answer);
            ASSERT_EQ(machine.to_client().size(), answer.size());
            machine.to_client().clear();
        }
    };
    exchange(100);  // buffers grow to what they need
    const auto allocated = allocations.load();
    const auto locked = locks.load();
    const auto timed = clocks.load();
    const auto& port = scene.port;
    const auto before = port.clock_reads + port.parses + port.logs;
    exchange(1000);
    EXPECT_EQ(allocations.load() - allocated, 0U) << "in 1000 messages each way";
    EXPECT_EQ(locks.load() - locked, 0U);
    EXPECT_EQ(clocks.load() - timed, 0U);
    EXPECT_EQ(port.clock_reads + port.parses + port.logs - before, 0U);
}

INSTANTIATE_TEST_SUITE_P(Relay, RelayCost, testing::ValuesIn(exchanges),
                         [](const auto& it) { return it.param.name; });

// The counters count: what follows does each of these things once.
TEST(RelayCostItself, would_notice) {
    const auto allocated = allocations.load();
    auto* one = new std::string(100, 'x');
    EXPECT_GE(allocations.load() - allocated, 2U);
    delete one;
#ifndef BANYAN_SANITIZED
    const auto locked = locks.load();
    std::mutex mutex;
    { const std::lock_guard lock(mutex); }
    EXPECT_EQ(locks.load() - locked, 1U);
    const auto timed = clocks.load();
    EXPECT_GT(std::chrono::steady_clock::now().time_since_epoch().count(), 0);
    EXPECT_EQ(clocks.load() - timed, 1U);
#endif
}

}  // namespace
}  // namespace banyan::test
