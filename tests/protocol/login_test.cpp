#include "protocol/login.hpp"

#include <gtest/gtest.h>

#include <string>

#include "scram_server.hpp"

namespace banyan::protocol {
namespace {

using namespace std::string_literals;
using State = Login::State;

constexpr const char* nonce = "0123456789abcdefghij";

std::string authentication(std::uint32_t method, std::string_view data = {}) {
    std::string body;
    put_int32(body, method);
    body.append(data);
    return body;
}
const std::string sasl_mechanisms = "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"s;

/// A login and what it has sent.
struct Client {
    explicit Client(std::string_view password = "secret") : Client(with_password(password)) {}
    explicit Client(Credentials credentials) : login(std::move(credentials), nonce) {}

    static Credentials with_password(std::string_view password) {
        Credentials credentials;
        credentials.user = "app";
        credentials.password.emplace(password);
        return credentials;
    }
    /// Derives at once what must be derived.
    State give(char type, std::string_view body) {
        sent.clear();
        const auto state = login.on_message(type, body, sent);
        if (state != State::derive) {
            return state;
        }
        EXPECT_EQ(sent, "");
        return login.derived(salt_password(login.password(), login.salt(), login.iterations()),
                             sent);
    }
    State authenticate(std::uint32_t method, std::string_view data = {}) {
        return give('R', authentication(method, data));
    }
    /// The body of the message just sent.
    std::string body() const { return sent.size() < 5 ? "" : sent.substr(5); }
    /// AuthenticationSASL; returns the client-first-message.
    std::string start_scram() {
        EXPECT_EQ(authenticate(10, sasl_mechanisms), State::working);
        const auto name = "SCRAM-SHA-256\0"s;
        EXPECT_EQ(body().substr(0, name.size()), name);
        return body().substr(name.size() + 4);
    }

    Login login;
    std::string sent;
};

TEST(Login, TrustNeedsNoAnswer) {
    Client client;
    EXPECT_EQ(client.authenticate(0), State::working);
    EXPECT_EQ(client.give('S', "server_version\00015\0"s), State::working);
    EXPECT_EQ(client.give('K', "\0\0\1\2\xFF\0\0\1"s), State::working);
    EXPECT_EQ(client.give('N', ""), State::working);
    EXPECT_EQ(client.give('Z', "I"), State::ready);
    EXPECT_EQ(client.login.process_id(), 0x102U);
    EXPECT_EQ(client.login.secret_key(), 0xFF000001U);
}

TEST(Login, PasswordsAreSentAsTheServerAsksForThem) {
    Client cleartext;
    EXPECT_EQ(cleartext.authenticate(3), State::working);
    EXPECT_EQ(cleartext.sent, "p\0\0\0\13secret\0"s);

    // "md5" + md5(md5("secretapp") in hexadecimal + the salt), computed with Python's hashlib.
    Client md5;
    EXPECT_EQ(md5.authenticate(5, "\1\2\3\4"s), State::working);
    EXPECT_EQ(md5.body(), "md5911f527656472583a006e7727877b33e\0"s);
}

TEST(Login, ScramProvesBothSides) {
    for (const char* password : {"secret", "", "p\xC3\xA4ssword with blanks"}) {
        Client client(password);
        test::ScramServer server(password, 4096);
        const auto challenge = server.first(client.start_scram());
        ASSERT_EQ(client.authenticate(11, challenge), State::working) << client.login.error();
        const auto proof = server.final_message(client.body());
        ASSERT_FALSE(proof.empty()) << "the server does not accept the proof";
        EXPECT_EQ(client.authenticate(12, proof), State::working) << client.login.error();
        EXPECT_EQ(client.authenticate(0), State::working);
        EXPECT_EQ(client.give('Z', "I"), State::ready);
    }
}

TEST(Login, ScramWithTheWrongPasswordIsRefusedByTheServer) {
    Client client("guess");
    test::ScramServer server("secret", 4096);
    ASSERT_EQ(client.authenticate(11, server.first(client.start_scram())), State::working);
    EXPECT_EQ(server.final_message(client.body()), "");
}

TEST(Login, AServerThatDoesNotKnowThePasswordIsFoundOut) {
    struct Case {
        const char* name;
        std::string (*final_message)(const std::string& right);
    };
    const Case cases[] = {
        {"another signature",
         [](const std::string& right) {
             std::string wrong = right;
             wrong[5] = wrong[5] == 'A' ? 'B' : 'A';
             return wrong;
         }},
        {"a shorter one", [](const std::string& right) { return right.substr(0, 10); }},
        {"an empty one", [](const std::string&) { return "v="s; }},
        {"none", [](const std::string&) { return ""s; }},
        {"an error", [](const std::string&) { return "e=other-error"s; }},
    };
    for (const auto& each : cases) {
        Client client;
        test::ScramServer server("secret", 4096);
        ASSERT_EQ(client.authenticate(11, server.first(client.start_scram())), State::working);
        const auto right = server.final_message(client.body());
        EXPECT_EQ(client.authenticate(12, each.final_message(right)), State::failed) << each.name;
    }
}

TEST(Login, StepsOfScramCannotBeSkipped) {
    {
        Client client;  // the challenge
        client.start_scram();
        EXPECT_EQ(client.authenticate(0), State::failed);
    }
    {
        Client client;  // SASLFinal
        test::ScramServer server("secret", 4096);
        ASSERT_EQ(client.authenticate(11, server.first(client.start_scram())), State::working);
        EXPECT_EQ(client.authenticate(0), State::failed);
    }
    {
        Client client;  // the challenge, with a guess at what stands in for the signature
        client.start_scram();
        EXPECT_EQ(client.authenticate(12, "v=pending"), State::failed);
    }
    {
        Client client;  // everything before SASLFinal
        EXPECT_EQ(client.authenticate(12, "v="), State::failed);
    }
    {
        Client client;  // AuthenticationSASL
        EXPECT_EQ(client.authenticate(11, "r=x,s=AAAA,i=4096"), State::failed);
    }
    {
        Client client;  // AuthenticationOk
        test::ScramServer server("secret", 4096);
        ASSERT_EQ(client.authenticate(11, server.first(client.start_scram())), State::working);
        ASSERT_EQ(client.authenticate(12, server.final_message(client.body())), State::working);
        EXPECT_EQ(client.give('Z', "I"), State::failed);
    }
    {
        Client client;  // a password asked for in the middle is not given away
        client.start_scram();
        EXPECT_EQ(client.authenticate(3), State::failed);
        EXPECT_EQ(client.sent, "");
    }
    {
        Client client;  // authentication as a whole
        EXPECT_EQ(client.give('Z', "I"), State::failed);
    }
}

TEST(Login, ImpossibleScramChallengesAreRefused) {
    const std::string n = nonce;
    struct Case {
        const char* name;
        std::string challenge;
    };
    const Case cases[] = {
        {"too few iterations", "r=" + n + "S,s=AAAA,i=4095"},
        {"one iteration", "r=" + n + "S,s=AAAA,i=1"},
        {"no iterations", "r=" + n + "S,s=AAAA"},
        {"iterations that cost minutes", "r=" + n + "S,s=AAAA,i=1000001"},
        {"iterations beyond 32 bits", "r=" + n + "S,s=AAAA,i=99999999999"},
        {"iterations with something behind", "r=" + n + "S,s=AAAA,i=4096x"},
        {"negative iterations", "r=" + n + "S,s=AAAA,i=-1"},
        {"only our own nonce", "r=" + n + ",s=AAAA,i=4096"},
        {"less than our own nonce", "r=" + n.substr(1) + ",s=AAAA,i=4096"},
        {"another nonce", "r=" + std::string(30, 'z') + ",s=AAAA,i=4096"},
        {"no nonce", "s=AAAA,i=4096"},
        {"no salt", "r=" + n + "S,s=,i=4096"},
        {"a salt that is no base64", "r=" + n + "S,s=A!A?,i=4096"},
        {"half a salt", "r=" + n + "S,s=AAA,i=4096"},
        {"an extension we must understand", "m=x,r=" + n + "S,s=AAAA,i=4096"},
        {"nothing", ""},
        {"commas only", ",,,,"},
        {"more than is allowed", "r=" + n + std::string(1100, 'S') + ",s=AAAA,i=4096"},
    };
    for (const auto& each : cases) {
        Client client;
        client.start_scram();
        EXPECT_EQ(client.authenticate(11, each.challenge), State::failed) << each.name;
        EXPECT_FALSE(client.login.error().empty()) << each.name;
        EXPECT_EQ(client.sent, "") << each.name;
    }
}

TEST(Login, WhatIsNotUnderstoodFails) {
    struct Case {
        const char* name;
        char type;
        std::string body;
    };
    const Case cases[] = {
        {"Kerberos", 'R', authentication(2)},
        {"GSS", 'R', authentication(7)},
        {"a method of the future", 'R', authentication(77)},
        {"an Authentication without method", 'R', "\0\0"s},
        {"MD5 without salt", 'R', authentication(5, "\1\2\3"s)},
        {"SASL without SCRAM", 'R', authentication(10, "OAUTHBEARER\0\0"s)},
        {"SASL with channel binding only", 'R', authentication(10, "SCRAM-SHA-256-PLUS\0\0"s)},
        {"SASL without its end", 'R', authentication(10, "SCRAM"s)},
        {"SASL with no list", 'R', authentication(10)},
        {"half a key", 'K', "\0\0\0\1\0\0"s},
        {"a row", 'D', "\0\0"s},
        {"an unknown message", '\x7F', ""},
    };
    for (const auto& each : cases) {
        Client client;
        EXPECT_EQ(client.give(each.type, each.body), State::failed) << each.name;
        EXPECT_FALSE(client.login.error().empty()) << each.name;
    }
}

TEST(Login, TheServersErrorIsKept) {
    Client client;
    EXPECT_EQ(client.give('E', "SFATAL\0C28P01\0Mpassword authentication failed\0\0"s),
              State::failed);
    EXPECT_EQ(client.login.sqlstate(), "28P01");
    EXPECT_EQ(client.login.error(), "password authentication failed");
    Client bare;  // pgbouncer once crashed on an error without SQLSTATE (CVE-2026-6666)
    EXPECT_EQ(bare.give('E', "\0"s), State::failed);
    EXPECT_EQ(bare.login.sqlstate(), "");
}

}  // namespace
}  // namespace banyan::protocol
