#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scene.hpp"

namespace banyan::test {
namespace {

using namespace std::literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(SessionLogin, IsRelayedAndTheKeyIsBanyansOwn) {
    Scene scene(Phase::initial);
    scene.source.wants_password = true;
    scene.send(startup());
    EXPECT_THAT(scene.client(), ElementsAre("R 3"));
    EXPECT_THAT(scene.ask(raw('p', "secret\0"s)),
                ElementsAre("R 0", "S server_version=15.0", "K 11 1011", "Z I"));
    EXPECT_THAT(scene.source.log(), ElementsAre("startup app@shop", "Password secret"));
    EXPECT_TRUE(scene.machine.logged_in());
    EXPECT_EQ(scene.machine.backend(Side::source), std::make_pair(11U, 77U));
    EXPECT_THAT(scene.target.log(), IsEmpty());
    EXPECT_EQ(scene.port.deadlines.count(Deadline::login), 0U);
}

TEST(SessionLogin, TheStartupMessageGoesToTheServerToTheByte) {
    const std::string bytes = startup("shop", {{"options", "-c geqo=off"}, {"_pq_.future", "1"}});
    Scene scene(Phase::initial);
    scene.send(bytes);
    EXPECT_EQ(scene.source.total(), bytes);
    // Only the database's name is another where the primary calls it so.
    Scene complete(Phase::complete);
    complete.send(bytes);
    EXPECT_THAT(complete.target.log(), ElementsAre("startup app@shop_new"));
    EXPECT_NE(complete.target.total().find("geqo=off"), std::string::npos);
}

TEST(SessionLogin, TlsBeginsAfterTheAnswerAndOnce) {
    Scene scene(Phase::initial);
    scene.port.tls = true;
    scene.send(request(protocol::ssl_request_code));
    EXPECT_EQ(scene.client_total(), "S");
    EXPECT_THAT(scene.events, ElementsAre("start tls"));
    scene.machine.client_encrypted(std::nullopt);
    scene.send(request(protocol::gssenc_request_code));
    EXPECT_EQ(scene.client_total(), "SN");
    scene.send(request(protocol::ssl_request_code));
    EXPECT_TRUE(scene.machine.closed());
}

TEST(SessionLogin, BytesBehindARequestForTlsEndTheConnection) {  // CVE-2021-23214
    Scene scene(Phase::initial);
    scene.port.tls = true;
    scene.send(request(protocol::ssl_request_code) + startup());
    EXPECT_EQ(scene.client_total(), "");
    EXPECT_TRUE(scene.machine.closed());
}

struct Transport {
    const char* sslmode;
    bool local;
    bool encrypted;
    std::optional<std::string> common_name;
    const char* refusal;  ///< a part of the message; empty: let in
};

TEST(SessionLogin, TheTransportMustSufficeForTheConfiguration) {
    const Transport cases[] = {
        {"disable", false, false, {}, ""},
        {"allow", false, false, {}, ""},
        {"allow", false, true, {}, ""},
        {"require", false, false, {}, "requires TLS"},
        {"require", true, false, {}, ""},
        {"require", false, true, {}, ""},
        {"verify-ca", false, false, "app", "requires TLS"},
        {"verify-ca", false, true, {}, "requires a valid client certificate"},
        {"verify-ca", false, true, "other", ""},
        {"verify-full", false, true, {}, "requires a valid client certificate"},
        {"verify-full", false, true, "other", "certificate authentication failed for user \"app\""},
        {"verify-full", false, true, "app", ""},
        {"verify-full", false, true, "", "certificate authentication failed"},
        {"verify-full", true, false, {}, ""},
    };
    for (const auto& [sslmode, local, encrypted, common_name, refusal] : cases) {
        SCOPED_TRACE(std::string(sslmode) + (local ? " local" : "") + (encrypted ? " tls " : " ") +
                     common_name.value_or("-"));
        Scene scene(Phase::initial);
        scene.config.listen.sslmode = sslmode;
        scene.machine.client_connected(local);
        if (encrypted) {
            scene.machine.client_encrypted(common_name);
        }
        scene.send(startup());
        EXPECT_EQ(scene.machine.logged_in(), *refusal == '\0');
        if (*refusal != '\0') {
            EXPECT_NE(scene.client_total().find("28000"), std::string::npos);
            EXPECT_NE(scene.client_total().find(refusal), std::string::npos)
                << scene.client_total();
        }
    }
}

TEST(SessionLogin, EncryptionIsDeclinedOnceEach) {
    Scene scene(Phase::initial);
    scene.send(request(protocol::gssenc_request_code));
    EXPECT_EQ(scene.client_total(), "N");
    scene.send(request(protocol::ssl_request_code));
    EXPECT_EQ(scene.client_total(), "NN");
    scene.send(startup());
    EXPECT_TRUE(scene.machine.logged_in());
    for (const auto code : {protocol::ssl_request_code, protocol::gssenc_request_code}) {
        Scene again(Phase::initial);
        again.send(request(code));
        again.send(request(code));
        EXPECT_EQ(again.client_total(), "N");
        EXPECT_TRUE(again.machine.closed());
        EXPECT_EQ(again.count(Counter::protocol_violations), 1U);
    }
}

TEST(SessionLogin, BytesBehindAnEncryptionRequestEndTheSession) {
    for (const auto code : {protocol::ssl_request_code, protocol::gssenc_request_code}) {
        Scene scene(Phase::initial);
        scene.send(request(code) + startup());
        EXPECT_EQ(scene.client_total(), "");
        EXPECT_TRUE(scene.machine.closed());
        EXPECT_TRUE(scene.port.client_closed);
        EXPECT_THAT(scene.source.total(), IsEmpty());
    }
}

TEST(SessionLogin, WhatBanyanDoesNotServeIsRefusedByName) {
    std::string unterminated = startup();
    unterminated.back() = 'x';
    std::string version2 = startup();
    version2[5] = '\2';
    std::string nobody;
    protocol::encode_startup(nobody, {});
    struct Case {
        const char* name;
        std::string bytes;
        Lines answer;
    };
    const Case cases[] = {
        {"another database", startup("other"), {"E 3D000"}},
        {"protocol 2", version2, {"E 0A000"}},
        {"no terminator", unterminated, {"E 08P01"}},
        {"no user", nobody, {"E 28000"}},
        {"a length below the header", "\0\0\0\7xxxx"s, {}},
        {"a length beyond what is allowed", "\0\0\x27\x11xxxx"s, {}},
        {"a negative length", "\xFF\xFF\xFF\xFFxxxx"s, {}},
        {"HTTP", "GET / HTTP/1.1\r\n\r\n", {}},
        {"TLS without asking", "\x16\3\1\2\0\1\0\1"s, {}},
    };
    for (const auto& each : cases) {
        Scene scene(Phase::initial);
        EXPECT_EQ(scene.ask(each.bytes), each.answer) << each.name;
        EXPECT_TRUE(scene.machine.closed()) << each.name;
        EXPECT_TRUE(scene.port.over) << each.name;
        EXPECT_EQ(scene.source.total(), "") << each.name;
    }
}

TEST(SessionLogin, NothingButPasswordsGoesToTheServerBeforeItIsDone) {
    Scene scene(Phase::initial);
    scene.source.wants_password = true;
    scene.send(startup());
    scene.source.log();
    scene.send(query("SELECT 1"));
    EXPECT_THAT(scene.source.log(), IsEmpty());
    EXPECT_FALSE(scene.machine.logged_in());
    // One startup message per connection, ever (CVE-2026-107350).
    scene.send(startup());
    EXPECT_THAT(scene.source.log(), IsEmpty());
}

TEST(SessionLogin, ARefusalByTheServerReachesTheClient) {
    Scene scene(Phase::initial);
    scene.source.wants_password = true;
    scene.send(startup());
    scene.client();
    scene.server_says(Side::source, raw('E', "SFATAL\0C28P01\0Mno\0\0"s));
    EXPECT_THAT(scene.client(), ElementsAre("E 28P01"));
    EXPECT_TRUE(scene.machine.closed());
    EXPECT_EQ(scene.count(Counter::logins_failed), 1U);
}

TEST(SessionLogin, AnUnreachablePrimaryIs08001AndALostOne57P01) {
    Scene scene(Phase::initial);
    scene.connects_answer = false;
    scene.send(startup());
    scene.lose_server(Side::source);
    EXPECT_THAT(scene.client(), ElementsAre("E 08001"));
    Scene later(Phase::initial);
    later.log_in();
    later.lose_server(Side::source);
    EXPECT_THAT(later.client(), ElementsAre("E 57P01"));
    EXPECT_TRUE(later.port.over);
}

TEST(SessionLogin, HasADeadlineOverAll) {
    Scene scene(Phase::initial);
    EXPECT_EQ(scene.port.deadlines.count(Deadline::login), 1U);
    scene.deadline(Deadline::login);
    EXPECT_THAT(scene.client(), ElementsAre("E 08006"));
    EXPECT_TRUE(scene.machine.closed());
}

TEST(SessionLogin, ACancelRequestIsHandedOutAndNothingElse) {
    std::string bytes;
    protocol::encode_cancel_request(bytes, 11, 1011);
    Scene scene(Phase::initial);
    scene.send(bytes);
    ASSERT_TRUE(scene.machine.cancel_request());
    EXPECT_EQ(*scene.machine.cancel_request(), std::make_pair(11U, 1011U));
    EXPECT_TRUE(scene.machine.closed());
    EXPECT_EQ(scene.client_total(), "");
}

TEST(SessionLogin, WaitsForAHoldAndTakesTheNewPhaseWithIt) {
    Scene scene(directive(1, Phase::dual_read, true));
    scene.send(startup());
    EXPECT_EQ(scene.source.total() + scene.target.total(), "");
    scene.direct(directive(2, Phase::switchover));
    EXPECT_TRUE(scene.machine.logged_in());
    EXPECT_THAT(scene.target.log(), ElementsAre("startup app@shop_new"));
}

TEST(SessionLogin, InAMirroringPhaseTheMirrorIsLoggedInWithOurCredentials) {
    Scene scene(Phase::dual_write);
    scene.config.users.push_back({"app", "for the source", "for the target"});
    scene.config.mirror.allow_cleartext = "always";
    scene.target.wants_password = true;
    scene.send(startup("shop", {{"_pq_.future", "1"}}));
    EXPECT_THAT(scene.target.log(),
                ElementsAre("startup app@shop_new", "Password for the target", "Query <setup>"));
    EXPECT_EQ(scene.target.total().find("_pq_"), std::string::npos);
    EXPECT_TRUE(scene.machine.mirror_ready());
    EXPECT_EQ(scene.port.deadlines.count(Deadline::mirror_login), 0U);
}

TEST(SessionLogin, AMirrorThatCannotBeReachedCostsNothing) {
    Scene scene(Phase::dual_write);
    scene.target.hangs = true;
    scene.send(startup());
    EXPECT_TRUE(scene.machine.logged_in());
    EXPECT_EQ(scene.port.deadlines.count(Deadline::mirror_login), 1U);
    scene.deadline(Deadline::mirror_login);
    EXPECT_FALSE(scene.port.the_breaker.allows());
    EXPECT_THAT(scene.ask(query("SELECT 1")), ElementsAre("R 0", "S server_version=15.0",
                                                          "K 11 1011", "Z I", "C SELECT 1", "Z I"));
}

}  // namespace
}  // namespace banyan::test
