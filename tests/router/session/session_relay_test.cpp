// INITIAL and COMPLETE: a plain relay, byte for byte, however the bytes are cut.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scene.hpp"

namespace banyan::test {
namespace {

using namespace std::literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

struct Conversation {
    const char* name;
    std::string client;  ///< behind the login
};

const std::vector<Conversation>& conversations() {
    static const std::vector<Conversation> all = {
        {"simple queries", query("SELECT a FROM t") + query("BEGIN") + query("COMMIT")},
        {"a pipeline", parse("s", "SELECT a FROM t") + describe('S', "s") + bind_portal("p", "s") +
                           describe('P', "p") + execute("p", 1) + execute("p") + close('P', "p") +
                           sync() + run("SELECT a FROM t") + flush() + sync()},
        {"an error in a pipeline", run("SELECT bad") + run("SELECT a FROM t") + sync() +
                                       run("SELECT a FROM t") + sync() + query("SELECT bad")},
        {"copy in, simple", query("COPY t FROM STDIN") + raw('d', "1\n") + raw('d', "2\n") +
                                raw('c') + query("SELECT a FROM t")},
        {"copy in, extended, early Sync", run("COPY t FROM STDIN") + sync() + raw('d', "1\n") +
                                              raw('c') + sync() + query("SELECT a FROM t")},
        {"copy in that fails early", run("COPY bad FROM STDIN") + sync() + raw('d', "1\n") +
                                         raw('c') + sync() + query("SELECT a FROM t")},
        {"a writing statement stays as it is", query("INSERT INTO item VALUES (1)") +
                                                   run("INSERT INTO item VALUES (1)") + sync()},
    };
    return all;
}

/// A session in INITIAL whose server knows what the conversations ask.
struct Relay : Scene {
    Relay() : Scene(Phase::initial) {
        source.on("FROM t", Reply({"a"}, {{"one"}, {std::nullopt}, {"three"}}));
        source.on("bad", refusal("42601", 8));
        source.on("COPY t", copy_in());
        send(startup());
    }
};

/// What a client without Banyan would get: the login's bytes aside, the server's own.
std::string direct(const std::string& bytes) {
    Lines events;
    FakeServer server("direct", 11, events);
    server.on("FROM t", Reply({"a"}, {{"one"}, {std::nullopt}, {"three"}}));
    server.on("bad", refusal("42601", 8));
    server.on("COPY t", copy_in());
    server.receive(startup());
    server.take();
    server.receive(bytes);
    return server.take();
}

TEST(SessionRelay, IsByteExactAndSplitAnywhere) {
    for (const auto& each : conversations()) {
        SCOPED_TRACE(each.name);
        const std::string expected = direct(each.client);
        for (std::size_t split = 0; split < each.client.size(); ++split) {
            Relay relay;
            const auto before = relay.client_total().size();
            const auto sent = relay.source.total().size();
            relay.send(std::string_view(each.client).substr(0, split));
            relay.send(std::string_view(each.client).substr(split));
            ASSERT_EQ(relay.source.total().substr(sent), each.client) << "client split at " << split;
            ASSERT_EQ(relay.client_total().substr(before), expected) << "client split at " << split;
            ASSERT_TRUE(relay.machine.logged_in()) << "client split at " << split;
        }
    }
}

TEST(SessionRelay, TheServersBytesMayBeSplitAnywhere) {
    for (const auto& each : conversations()) {
        SCOPED_TRACE(each.name);
        const std::string expected = direct(each.client);
        for (std::size_t split = 0; split <= expected.size(); ++split) {
            // All replies at once, cut in two: the client's bytes have gone before.
            Relay relay;
            relay.source.hangs = true;
            const auto before = relay.client_total().size();
            relay.send(each.client);
            relay.server_says(Side::source, std::string_view(expected).substr(0, split));
            relay.server_says(Side::source, std::string_view(expected).substr(split));
            ASSERT_EQ(relay.client_total().substr(before), expected) << "server split at " << split;
            ASSERT_FALSE(relay.machine.in_transaction()) << "server split at " << split;
        }
    }
}

TEST(SessionRelay, ByteByByteInBothDirections) {
    for (const auto& each : conversations()) {
        Scene scene(Phase::initial);
        scene.client_chunk = scene.server_chunk = 1;
        scene.source.on("FROM t", Reply({"a"}, {{"one"}, {std::nullopt}, {"three"}}));
        scene.source.on("bad", refusal("42601", 8));
        scene.source.on("COPY t", copy_in());
        scene.send(startup());
        const auto before = scene.client_total().size();
        scene.send(each.client);
        EXPECT_EQ(scene.client_total().substr(before), direct(each.client)) << each.name;
    }
}

TEST(SessionRelay, WhatTheServerSaysOnItsOwnGoesOn) {
    Relay relay;
    relay.client();
    relay.server_says(Side::source, raw('N', "C01000\0\0"s) + raw('S', "a\0b\0"s) + raw('A'));
    EXPECT_THAT(relay.client(), ElementsAre("N 01000", "S a=b", "A"));
    relay.server_says(Side::source, raw('E', "VFATAL\0C57P01\0\0"s));
    relay.lose_server(Side::source);
    EXPECT_THAT(relay.client(), ElementsAre("E 57P01"));  // the server's own, and no second
    EXPECT_TRUE(relay.machine.closed());
}

TEST(SessionRelay, AReplyThatNothingExplainsEndsTheSession) {
    struct Case {
        const char* name;
        std::string bytes;
    };
    const Case cases[] = {
        {"ReadyForQuery out of nowhere", raw('Z', "I")},
        {"a row out of nowhere", raw('D', "\0\0"s)},
        {"a message nobody knows", raw('?', "xyz")},
        {"garbage", "\xFF\xFF\xFF\xFF\xFF\xFF"},
        {"a length below the header", "C\0\0\0\3"s},
        {"a length beyond what is possible", "D\x7F\xFF\xFF\xFF"s},
    };
    for (const auto& each : cases) {
        Relay relay;
        relay.client();
        relay.server_says(Side::source, each.bytes);
        EXPECT_THAT(relay.client(), ElementsAre("E 08P01")) << each.name;
        EXPECT_TRUE(relay.machine.closed()) << each.name;
        EXPECT_TRUE(relay.port.closed.contains(Side::source)) << each.name;
        EXPECT_EQ(relay.count(Counter::protocol_violations), 1U) << each.name;
        relay.server_says(Side::source, raw('Z', "I"));
        EXPECT_THAT(relay.client(), IsEmpty()) << each.name;
    }
}

TEST(SessionRelay, ClientsAreHeldToTheProtocolToo) {
    for (const auto& bytes : {raw('?', ""), "Q\0\0\0\3"s, "P\xFF\xFF\xFF\xFF"s}) {
        Relay relay;
        relay.client();
        relay.send(bytes);
        EXPECT_THAT(relay.client(), ElementsAre("E 08P01"));
        EXPECT_TRUE(relay.machine.closed());
    }
}

TEST(SessionRelay, LongRowsAreStreamedWithoutBeingCollected) {
    Relay relay;
    relay.source.hangs = true;
    relay.send(query("SELECT a FROM t"));
    const auto before = relay.client_total().size();
    std::string row;
    protocol::Message(row, 'D').int16(1).int32(100000).bytes(std::string(100000, 'x'));
    relay.server_says(Side::source, row.substr(0, 50000));
    EXPECT_EQ(relay.client_total().size() - before, 50000U);
    relay.server_says(Side::source, row.substr(50000) + raw('C', "SELECT 1\0"s) + raw('Z', "I"));
    EXPECT_EQ(relay.client_total().substr(before, row.size()), row);
}

TEST(SessionRelay, CopyDataOfAClientIsStreamedToo) {
    Relay relay;
    relay.send(query("COPY t FROM STDIN"));
    const auto before = relay.source.total().size();
    const std::string data = raw('d', std::string(100000, 'x'));
    relay.send(data.substr(0, 5));
    relay.send(data.substr(5, 60000));
    EXPECT_EQ(relay.source.total().size() - before, 60005U);
    relay.send(data.substr(60005) + raw('c'));
    EXPECT_EQ(relay.source.total().substr(before), data + raw('c'));
}

TEST(SessionRelay, AClientThatVanishesEndsItsRunningQuery) {
    Relay relay;
    relay.source.hangs = true;
    relay.send(query("SELECT a FROM t"));
    relay.events.clear();
    relay.close_client();
    EXPECT_EQ(relay.events.front(), "cancel source 11");
    EXPECT_TRUE(relay.port.over);
    Relay idle;
    idle.events.clear();
    idle.close_client();
    EXPECT_THAT(idle.events, ElementsAre("source< Terminate"));
}

TEST(SessionRelay, AHoldWaitsForTheBoundaryAndTheClientWaitsWithIt) {
    Relay relay;
    relay.send(query("BEGIN"));
    relay.direct(directive(1, Phase::initial, true));
    EXPECT_EQ(relay.machine.adopted_epoch(), 0U);
    relay.forget();
    // What is pipelined behind the boundary waits too, or a busy client would never be held.
    relay.send(query("COMMIT") + query("SELECT a FROM t"));
    EXPECT_EQ(relay.machine.adopted_epoch(), 1U);
    EXPECT_STREQ(relay.machine.state_name(), "held");
    EXPECT_THAT(relay.source.log(), ElementsAre("Query COMMIT"));
    EXPECT_THAT(relay.ask(query("SELECT a FROM t")), ElementsAre("C COMMIT", "Z I"));
    relay.direct(directive(2, Phase::initial));
    EXPECT_THAT(relay.source.log(), ElementsAre("Query SELECT a FROM t", "Query SELECT a FROM t"));
}

TEST(SessionRelay, ADirectiveDoesNotStopASyncInsideACopy) {
    Relay relay;
    relay.send(query("COPY t FROM STDIN"));
    relay.direct(directive(1, Phase::initial, true));
    relay.client();
    EXPECT_THAT(relay.ask(sync() + raw('d', "1\n") + raw('c')), ElementsAre("C COPY 1", "Z I"));
    EXPECT_TRUE(relay.machine.held());
}

TEST(SessionRelay, TerminateAndTheOperator) {
    Relay relay;
    relay.send(raw('X'));
    EXPECT_TRUE(relay.machine.closed());
    Relay other;
    other.client();
    other.give([&] { other.machine.terminate(); });
    EXPECT_THAT(other.client(), ElementsAre("E 57P01"));
}

}  // namespace
}  // namespace banyan::test
