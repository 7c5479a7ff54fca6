// Replication connections: relayed to the byte where nothing is mirrored, refused by name
// elsewhere.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scene.hpp"

namespace banyan::test {
namespace {

using namespace std::literals;
using router::Replication;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string physical() {
    return startup("replication", {{"replication", "true"}});
}
std::string logical() {
    return startup("shop", {{"replication", "database"}});
}

/// A replication session that is logged in, with a server that says only what the test says.
struct Stream : Scene {
    explicit Stream(Phase phase = Phase::initial, const std::string& first = logical())
        : Scene(phase) {
        send(first);
        source.hangs = target.hangs = true;
        forget();
    }
};

TEST(Replication, TheParameterIsReadAsPostgreSqlReadsIt) {
    struct Case {
        const char* value;
        Replication kind;
    };
    const Case cases[] = {
        {"", Replication::none},
        {"false", Replication::none},
        {"f", Replication::none},
        {"OFF", Replication::none},
        {"of", Replication::none},
        {"no", Replication::none},
        {"0", Replication::none},
        {"true", Replication::physical},
        {"on", Replication::physical},
        {"1", Replication::physical},
        {"Yes", Replication::physical},
        {"database", Replication::logical},
        {"DataBase", Replication::physical},
        {"o", Replication::physical},
        {"falsehood", Replication::physical},
    };
    for (const auto& each : cases) {
        EXPECT_EQ(router::replication_of(each.value), each.kind) << each.value;
    }
}

TEST(Replication, IsRelayedWhereNothingIsMirrored) {
    for (const Phase phase : {Phase::initial, Phase::complete}) {
        for (const auto& first : {physical(), logical()}) {
            Scene scene(phase);
            scene.send(first);
            EXPECT_TRUE(scene.machine.logged_in());
            const auto& server = phase == Phase::initial ? scene.source : scene.target;
            EXPECT_FALSE(server.total().empty());
        }
    }
    // One that streams a whole cluster belongs to no database: its startup message stays as it is.
    Scene complete(Phase::complete);
    complete.send(physical());
    EXPECT_EQ(complete.target.total(), physical());
    Scene other(Phase::initial);
    EXPECT_THAT(other.ask(startup("other", {{"replication", "database"}})), ElementsAre("E 3D000"));
    Scene off(Phase::dual_write);
    off.send(startup("shop", {{"replication", "off"}}));
    EXPECT_TRUE(off.machine.logged_in());
}

TEST(Replication, BothDirectionsAtOnceAreNotMisread) {
    Stream stream;
    const auto sent = stream.source.total().size();
    stream.send(query("START_REPLICATION SLOT s LOGICAL 0/0"));
    stream.server_says(Side::source, raw('W', "\0\0\0"s) + raw('d', "w some WAL"));
    // A keepalive cut in the middle, an answer, and the rest.
    const std::string keepalive = raw('d', "k" + std::string(17, 'x'));
    stream.server_says(Side::source, keepalive.substr(0, 9));
    const std::string status = raw('d', "r" + std::string(33, 'y'));
    stream.send(status);
    stream.server_says(Side::source, keepalive.substr(9));
    stream.send(raw('c'));
    stream.server_says(Side::source, raw('c') + raw('C', "COPY 0\0"s) + raw('Z', "I"));
    EXPECT_EQ(stream.source.total().substr(sent),
              query("START_REPLICATION SLOT s LOGICAL 0/0") + status + raw('c'));
    EXPECT_TRUE(stream.client_total().ends_with(raw('W', "\0\0\0"s) + raw('d', "w some WAL") +
                                                keepalive + raw('c') + raw('C', "COPY 0\0"s) +
                                                raw('Z', "I")));
    EXPECT_TRUE(stream.machine.busy());  // a CancelRequest is always handed on
}

TEST(Replication, IsRefusedByNameWhereWritesAreMirrored) {
    for (const Phase phase : {Phase::dual_write, Phase::dual_read, Phase::switchover}) {
        for (const auto& first : {physical(), logical()}) {
            Scene scene(phase);
            EXPECT_THAT(scene.ask(first), ElementsAre("E 0A000"));
            EXPECT_NE(
                scene.client_total().find("not served in phase " + std::string(to_string(phase))),
                std::string::npos);
            EXPECT_TRUE(scene.machine.closed());
            EXPECT_EQ(scene.source.total() + scene.target.total(), "");
        }
    }
    Scene held(directive(1, Phase::initial, true));
    EXPECT_THAT(held.ask(logical()), ElementsAre("E 0A000"));
}

TEST(Replication, EndsWhenTheMigrationLeavesInitial) {
    for (const auto& next : {directive(1, Phase::dual_write), directive(1, Phase::initial, true)}) {
        Stream stream;
        stream.direct(next);
        EXPECT_THAT(stream.client(), ElementsAre("E 57P01"));
        EXPECT_TRUE(stream.port.over);
        EXPECT_EQ(stream.machine.adopted_epoch(), 1U);
    }
    Stream stays(Phase::complete);
    stays.direct(directive(1, Phase::complete));
    EXPECT_FALSE(stays.machine.closed());
    EXPECT_EQ(stays.machine.adopted_epoch(), 1U);
}

TEST(Replication, NoErrorOfOursIsPutInsideAMessageOfTheServers) {
    Stream stream;
    const auto before = stream.client_total().size();
    const std::string wal = raw('d', "w" + std::string(5000, 'x'));
    stream.server_says(Side::source, wal.substr(0, 3000));
    EXPECT_EQ(stream.client_total().size() - before, 3000U);
    stream.direct(directive(1, Phase::dual_write));
    EXPECT_EQ(stream.client_total().size() - before, 3000U);
    EXPECT_TRUE(stream.machine.closed());
}

TEST(Replication, TheServersLastWordIsTheOnlyOne) {
    Stream stream;
    stream.server_says(Side::source, raw('E', "VFATAL\0C57P01\0\0"s));
    stream.lose_server(Side::source);
    EXPECT_THAT(stream.client(), ElementsAre("E 57P01"));
}

}  // namespace
}  // namespace banyan::test
