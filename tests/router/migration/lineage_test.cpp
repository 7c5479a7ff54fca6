#include "router/migration/lineage.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <vector>

namespace banyan::router {
namespace {

ServerIdentity server() {
    return {"7001", "00000001", 1000, "2024-05-01 10:00:00.123456+00", false, false};
}

TEST(Lineage, WhatBecameOfAServer) {
    struct Case {
        const char* name;
        std::function<void(ServerIdentity&)> now;
        ServerChange change;
    };
    const std::vector<Case> cases{
        {"the same", [](ServerIdentity&) {}, ServerChange::none},
        {"it has written", [](ServerIdentity& it) { it.flushed = 2000; }, ServerChange::none},
        {"restarted", [](ServerIdentity& it) { it.incarnation = "later"; },
         ServerChange::restarted},
        {"promoted where it stood", [](ServerIdentity& it) { it.timeline = "00000002"; },
         ServerChange::failed_over},
        {"another one, promoted",
         [](ServerIdentity& it) {
             it.timeline = "00000002";
             it.incarnation = "earlier";
             it.flushed = 900;
         },
         ServerChange::failed_over},
        {"an older timeline", [](ServerIdentity& it) { it.timeline = "00000000"; },
         ServerChange::failed_over},
        {"an older copy of the disk",
         [](ServerIdentity& it) {
             it.incarnation = "later";
             it.flushed = 999;
         },
         ServerChange::went_back},
        {"another cluster",
         [](ServerIdentity& it) {
             it.system = "7002";
             it.flushed = 5000;
         },
         ServerChange::other_cluster},
        {"a standby, not promoted",
         [](ServerIdentity& it) {
             it.in_recovery = true;
             it.timeline.clear();
             it.flushed = 0;
             it.incarnation = "another";
         },
         ServerChange::none},
    };
    for (const Case& it : cases) {
        ServerIdentity now = server();
        it.now(now);
        EXPECT_EQ(change(server(), now), it.change) << it.name;
    }
    EXPECT_EQ(change(ServerIdentity(), server()), ServerChange::none) << "nothing was known";
}

TEST(Lineage, IsKeptAsText) {
    const auto kept = decode_identity(encode(server()));
    ASSERT_TRUE(kept);
    EXPECT_EQ(*kept, server());
    for (const char* text : {"", "{}", "[]", "null", R"({"system": 1})",
                             R"({"system":"1","timeline":"1","incarnation":"1","flushed":"x"})"}) {
        EXPECT_FALSE(decode_identity(text)) << text;
    }
}

}  // namespace
}  // namespace banyan::router
