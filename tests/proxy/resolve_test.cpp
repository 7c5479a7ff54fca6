#include "proxy/resolve.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <future>

namespace banyan::proxy {
namespace {

using namespace std::chrono_literals;
using Addresses = std::vector<Resolver::Address>;

Resolver::Address address(const char* text, std::uint16_t port) {
    return boost::asio::ip::tcp::endpoint(boost::asio::ip::make_address(text), port);
}

/// A name server that says what it is told to say.
struct NameServer {
    std::mutex mutex;
    Addresses answer;
    std::atomic<int> asked{0};
    std::shared_future<void> hangs;

    Resolver::Lookup lookup() {
        return [this](const std::string&, std::uint16_t) {
            if (asked++ > 0 && hangs.valid()) {
                hangs.wait();
            }
            const std::lock_guard lock(mutex);
            return answer;
        };
    }
    void say(Addresses addresses) {
        const std::lock_guard lock(mutex);
        answer = std::move(addresses);
    }
};

template <class Condition>
bool eventually(Condition condition) {
    const auto end = std::chrono::steady_clock::now() + 20s;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > end) {
            return false;
        }
        std::this_thread::sleep_for(2ms);
    }
    return true;
}

TEST(Resolver, FollowsANameThatMoves) {
    NameServer names;
    names.say({address("10.0.0.2", 5432)});
    Resolver resolver(names.lookup(), 10ms);
    resolver.watch("db.example", 5432);
    EXPECT_EQ(resolver.addresses("db.example", 5432), Addresses{address("10.0.0.2", 5432)});
    names.say({address("10.0.0.3", 5432)});
    EXPECT_TRUE(eventually([&] {
        return resolver.addresses("db.example", 5432) == Addresses{address("10.0.0.3", 5432)};
    }));
}

TEST(Resolver, LooksAtOnceWhenItsAddressesAreOfNoUse) {
    NameServer names;
    names.say({address("10.0.0.2", 5432)});
    Resolver resolver(names.lookup(), 1h);
    resolver.watch("db.example", 5432);
    names.say({address("10.0.0.3", 5432)});
    resolver.doubt();
    EXPECT_TRUE(eventually([&] {
        return resolver.addresses("db.example", 5432) == Addresses{address("10.0.0.3", 5432)};
    }));
}

TEST(Resolver, ANameServerThatIsAwayTakesNoAddressAway) {
    NameServer names;
    names.say({address("10.0.0.2", 5432)});
    Resolver resolver(names.lookup(), 1h);
    resolver.watch("db.example", 5432);
    names.say({});
    resolver.refresh();
    EXPECT_EQ(names.asked, 2);
    EXPECT_EQ(resolver.addresses("db.example", 5432), Addresses{address("10.0.0.2", 5432)});
}

TEST(Resolver, ANameServerThatHangsHoldsUpNobody) {
    NameServer names;
    names.say({address("10.0.0.2", 5432)});
    std::promise<void> answers;
    names.hangs = answers.get_future().share();
    {
        Resolver resolver(names.lookup(), 1ms);
        resolver.watch("db.example", 5432);
        ASSERT_TRUE(eventually([&] { return names.asked == 2; }));
        EXPECT_EQ(resolver.addresses("db.example", 5432), Addresses{address("10.0.0.2", 5432)});
        answers.set_value();
    }
}

TEST(Resolver, ANameThatIsUnknownAtFirstIsFoundLater) {
    NameServer names;
    Resolver resolver(names.lookup(), 1h);
    resolver.watch("db.example", 5432);
    EXPECT_TRUE(resolver.addresses("db.example", 5432).empty());
    names.say({address("10.0.0.2", 5432), address("10.0.0.3", 5432)});
    resolver.doubt();
    EXPECT_TRUE(eventually([&] { return resolver.addresses("db.example", 5432).size() == 2; }));
}

TEST(Resolver, AddressesAndDirectoriesAreLookedUpOnce) {
    NameServer names;
    names.say({address("10.0.0.2", 5432)});
    Resolver resolver(names.lookup(), 1ms);
    resolver.watch("10.0.0.2", 5432);
    resolver.watch("::1", 5432);
    resolver.watch("/run/postgresql", 5432);
    resolver.refresh();
    EXPECT_EQ(names.asked, 3);
    const auto there = Resolver::look_up("/run/postgresql", 5432);
    EXPECT_EQ(
        there,
        Addresses{boost::asio::local::stream_protocol::endpoint("/run/postgresql/.s.PGSQL.5432")});
}

}  // namespace
}  // namespace banyan::proxy
