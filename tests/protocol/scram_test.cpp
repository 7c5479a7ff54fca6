#include "protocol/scram.hpp"

#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <type_traits>

#include "protocol/scram_relay.hpp"
#include "protocol/wire.hpp"
#include "scram_server.hpp"

namespace banyan::protocol {
namespace {

using namespace std::string_literals;

template <class T>
concept Printable = requires(std::ostream& out, const T& value) {
    out << value;
};

TEST(Secret, CanNeitherBePrintedNorCopiedByAccident) {
    static_assert(Printable<std::string>);
    static_assert(!Printable<Secret>);
    static_assert(!std::is_copy_constructible_v<Secret> && !std::is_copy_assignable_v<Secret>);
    static_assert(!std::is_convertible_v<Secret, std::string_view>);
    static_assert(!std::is_copy_constructible_v<ScramKeys>);
    Secret first("key");
    const Secret second = first.copy();
    EXPECT_TRUE(first.same(second));
    EXPECT_FALSE(first.same(Secret("kez")));
    EXPECT_FALSE(first.same(Secret("keys")));
    const Secret third = std::move(first);
    EXPECT_EQ(third.reveal(), "key");
}

// RFC 7677, section 3.
TEST(Scram, AgreesWithTheStandardsExample) {
    const std::string first =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const std::string signed_text = "n=user,r=rOprNGfwEbeRWgbNEkqO," + first +
                                    ",c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const auto challenge = parse_scram_challenge(first);
    ASSERT_TRUE(challenge);
    EXPECT_EQ(challenge->iterations, 4096U);
    const auto keys =
        scram_keys(salt_password(Secret("pencil"), challenge->salt, challenge->iterations));
    EXPECT_EQ(scram_proof(keys.client_key, signed_text).reveal(),
              "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    EXPECT_EQ(scram_signature(keys.server_key, signed_text),
              "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

TEST(Scram, AVerifierAndAProofGiveTheClientsKey) {
    const test::ScramServer server("secret", 4096);
    const auto verifier = parse_scram_verifier(server.verifier());
    ASSERT_TRUE(verifier);
    const auto keys = scram_keys(salt_password(Secret("secret"), verifier->salt, 4096));
    EXPECT_TRUE(verifier->server_key.same(keys.server_key));
    const auto recovered =
        recover_client_key(verifier->stored_key, "signed", scram_proof(keys.client_key, "signed"));
    ASSERT_TRUE(recovered);
    EXPECT_TRUE(recovered->same(keys.client_key));
    // Of another text, with another password, or no proof at all: nothing.
    EXPECT_FALSE(recover_client_key(verifier->stored_key, "signed2",
                                    scram_proof(keys.client_key, "signed")));
    const auto other = scram_keys(salt_password(Secret("guess"), verifier->salt, 4096));
    EXPECT_FALSE(recover_client_key(verifier->stored_key, "signed",
                                    scram_proof(other.client_key, "signed")));
    for (const auto* proof : {"", "AAAA", "not base64 at all, but of the right length..", "==="}) {
        EXPECT_FALSE(recover_client_key(verifier->stored_key, "signed", Secret(proof))) << proof;
    }
}

TEST(Scram, OnlyVerifiersAreVerifiers) {
    const std::string good = test::ScramServer("secret", 4096).verifier();
    ASSERT_TRUE(parse_scram_verifier(good));
    const auto changed = [&](const std::string& from, const std::string& to) {
        std::string text = good;
        return text.replace(text.find(from), from.size(), to);
    };
    for (const auto& text :
         {""s, "md5911f527656472583a006e7727877b33e"s, "secret"s, changed("256$", "512$"),
          changed(":", "$"), changed("4096", "0"), changed("4096", "x"), changed("4096", "-1"),
          good.substr(0, good.size() - 4), good.substr(0, good.rfind(':')), good + "AAAA",
          "SCRAM-SHA-256$4096:$:"s, "SCRAM-SHA-256$"s}) {
        EXPECT_FALSE(parse_scram_verifier(text)) << text;
    }
}

/// A client on TLS, a relay, and a server on TLS that is asked through it.
struct Exchange {
    explicit Exchange(char gs2, std::string_view password = "secret", bool plus = true)
        : flag(gs2), server("secret", 4096) {
        const auto list = plus ? "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"s : "SCRAM-SHA-256\0\0"s;
        EXPECT_EQ(relay.mechanisms(list), "SCRAM-SHA-256\0\0"s);
        const std::string said = std::string(1, gs2) + ",," + bare;
        std::string body = "SCRAM-SHA-256\0"s;
        put_int32(body, static_cast<std::uint32_t>(said.size()));
        for_server = relay.from_client(body + said).value_or("?");
        first = server.first(for_server.substr(for_server.size() - said.size()));
        relay.challenge(first);
        const auto challenge = parse_scram_challenge(first);
        keys = scram_keys(salt_password(Secret(password), challenge->salt, 4096));
        without_proof = (gs2 == 'y' ? "c=eSws,r=" : "c=biws,r=") + challenge->nonce;
        signed_text = bare + "," + first + "," + without_proof;
        last =
            without_proof + ",p=" + std::string(scram_proof(keys.client_key, signed_text).reveal());
    }

    const char flag;
    const std::string bare = "n=,r=clientnonceclientnonce";
    ScramRelay relay;
    test::ScramServer server;
    std::string for_server;
    std::string first;
    ScramKeys keys;
    std::string without_proof;
    std::string signed_text;
    std::string last;
};

TEST(ScramRelay, PassesAnExchangeOnAsItIsAndKeepsWhatGivesTheKey) {
    for (const bool plus : {false, true}) {
        for (const char flag : {'n', 'y'}) {
            if (plus && flag == 'y') {
                continue;
            }
            Exchange it(flag, "secret", plus);
            EXPECT_EQ(it.for_server.substr(it.for_server.find(flag)), flag + ",,"s + it.bare);
            EXPECT_EQ(it.relay.from_client(it.last), it.last);
            const auto answer = it.server.final_message(it.last);
            ASSERT_FALSE(answer.empty());
            EXPECT_EQ(it.relay.signature(answer), answer);
            const auto evidence = it.relay.take_evidence();
            ASSERT_TRUE(evidence);
            const auto verifier = parse_scram_verifier(it.server.verifier());
            const auto key =
                recover_client_key(verifier->stored_key, evidence->auth_message, evidence->proof);
            ASSERT_TRUE(key);
            EXPECT_TRUE(key->same(it.keys.client_key));
            EXPECT_FALSE(it.relay.take_evidence());
        }
    }
}

TEST(ScramRelay, AClientThatCouldBindIsTranslated) {
    Exchange it('y');
    EXPECT_EQ(it.for_server.substr(it.for_server.size() - it.bare.size() - 3), "n,," + it.bare);
    ASSERT_FALSE(it.relay.from_client(it.last));
    const auto verifier = parse_scram_verifier(it.server.verifier());
    const auto proof = it.relay.with_verifier(&*verifier);
    EXPECT_TRUE(proof.starts_with("c=biws,r=")) << proof;
    const auto answer = it.server.final_message(proof);
    ASSERT_FALSE(answer.empty()) << "the server does not accept the proof";
    // The client's own sum, over what the client has seen.
    EXPECT_EQ(it.relay.signature(answer),
              "v=" + scram_signature(it.keys.server_key, it.signed_text));
    const auto evidence = it.relay.take_evidence();
    ASSERT_TRUE(evidence);
    EXPECT_TRUE(recover_client_key(verifier->stored_key, evidence->auth_message, evidence->proof));
}

TEST(ScramRelay, AWrongProofStaysWrong) {
    for (const char flag : {'n', 'y'}) {
        Exchange it(flag, "guess");
        auto proof = it.relay.from_client(it.last);
        if (!proof) {
            const auto verifier = parse_scram_verifier(it.server.verifier());
            proof = it.relay.with_verifier(&*verifier);
        }
        EXPECT_EQ(it.server.final_message(*proof), "");
        EXPECT_FALSE(it.relay.take_evidence());
    }
    Exchange unknown('y');  // no verifier: the right proof, but of another text
    EXPECT_FALSE(unknown.relay.from_client(unknown.last));
    EXPECT_EQ(unknown.server.final_message(unknown.relay.with_verifier(nullptr)), "");
}

TEST(ScramRelay, AServerWithoutTheKeyIsNotVouchedFor) {
    for (const auto* lie : {"", "v=", "v=AAAA", "e=other-error"}) {
        Exchange it('y');
        EXPECT_FALSE(it.relay.from_client(it.last));
        const auto verifier = parse_scram_verifier(it.server.verifier());
        it.relay.with_verifier(&*verifier);
        EXPECT_FALSE(it.relay.signature(lie)) << lie;
    }
    Exchange unknown('y');  // it takes a proof that cannot be right
    EXPECT_FALSE(unknown.relay.from_client(unknown.last));
    unknown.relay.with_verifier(nullptr);
    EXPECT_FALSE(unknown.relay.signature("v=AAAA"));
    Exchange early('y');  // before any proof
    EXPECT_FALSE(early.relay.signature("v=AAAA"));
}

TEST(ScramRelay, OnlyMechanismsWithoutChannelBindingAreShown) {
    struct Case {
        std::string list;
        std::optional<std::string> shown;
    };
    const Case cases[] = {
        {"SCRAM-SHA-256\0\0"s, "SCRAM-SHA-256\0\0"s},
        {"SCRAM-SHA-256-PLUS\0OAUTHBEARER\0SCRAM-SHA-256\0\0"s, "OAUTHBEARER\0SCRAM-SHA-256\0\0"s},
        {"SCRAM-SHA-256-PLUS\0\0"s, std::nullopt},
        {"\0"s, std::nullopt},
        {"", std::nullopt},
        {"SCRAM-SHA-256\0"s, std::nullopt},
        {"SCRAM-SHA-256", std::nullopt},
        {"SCRAM-SHA-256\0\0x"s, std::nullopt},
    };
    for (const auto& each : cases) {
        EXPECT_EQ(ScramRelay().mechanisms(each.list), each.shown) << each.list;
    }
}

TEST(ScramRelay, WhatItDoesNotUnderstandGoesToTheServer) {
    const auto offered = "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"s;
    for (const auto& body :
         {""s, "SCRAM-SHA-256"s, "SCRAM-SHA-256\0"s, "SCRAM-SHA-256\0\0\0\0\1y,,n=,r=x"s,
          "SCRAM-SHA-256\0\xFF\xFF\xFF\xFF"s, "OAUTHBEARER\0\0\0\0\10y,,n=,r="s,
          "SCRAM-SHA-256-PLUS\0\0\0\0\7p=tls-u"s, "SCRAM-SHA-256\0\0\0\0\7y,a=x,n"s}) {
        ScramRelay relay;
        relay.mechanisms(offered);
        EXPECT_EQ(relay.from_client(body), body);
        relay.challenge("r=xSERVER,s=AAAA,i=4096");
        EXPECT_EQ(relay.from_client("c=eSws,r=x,p=AAAA"), "c=eSws,r=x,p=AAAA");
        EXPECT_FALSE(relay.take_evidence());
    }
    Exchange it('y');  // a last message without a proof
    EXPECT_EQ(it.relay.from_client("c=eSws"), "c=eSws");
    EXPECT_EQ(it.relay.from_client("more"), "more");
}

}  // namespace
}  // namespace banyan::protocol
