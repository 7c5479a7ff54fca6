#include "proxy/admission.hpp"

#include <gtest/gtest.h>

namespace banyan::proxy {
namespace {

TEST(Admission, CountsWhoIsThere) {
    router::Config::Limits limits;
    limits.max_unauthenticated = 2;
    limits.max_clients = 2;
    limits.max_clients_per_user = 1;
    Admission admission(limits);
    auto one = admission.connect();
    auto two = admission.connect();
    ASSERT_TRUE(one && two);
    EXPECT_FALSE(admission.connect());
    EXPECT_TRUE(one->admit() && one->admit());  // counted once
    EXPECT_TRUE(one->authenticated("app"));
    auto three = admission.connect();  // one is known now: there is room for a stranger
    ASSERT_TRUE(three);
    EXPECT_TRUE(two->admit());
    EXPECT_FALSE(three->admit());
    EXPECT_FALSE(two->authenticated("app"));
    EXPECT_TRUE(three->authenticated("other"));
    one.reset();
    EXPECT_TRUE(three->admit());
    auto four = admission.connect();
    ASSERT_TRUE(four);
    EXPECT_TRUE(four->authenticated("app"));
}

TEST(Admission, ALimitThatComesLaterCountsWhoIsThereAlready) {
    router::Config::Limits limits;
    Admission admission(limits);
    auto one = admission.connect();
    auto two = admission.connect();
    ASSERT_TRUE(one && two);
    EXPECT_TRUE(one->admit() && one->authenticated("app"));
    limits.max_clients = 1;
    limits.max_clients_per_user = 1;
    admission.set_limits(limits);
    EXPECT_FALSE(two->admit());
    EXPECT_FALSE(two->authenticated("app"));
    one.reset();
    EXPECT_TRUE(two->admit() && two->authenticated("app"));
}

}  // namespace
}  // namespace banyan::proxy
