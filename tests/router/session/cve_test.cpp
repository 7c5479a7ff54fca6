// Published faults of PostgreSQL, its poolers and its drivers, each as a test under its number.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "protocol/login.hpp"
#include "router/catalog/catalog.hpp"
#include "scene.hpp"

namespace banyan::test {
namespace {

using namespace std::literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

protocol::Login own_login(const std::string& nonce) {
    protocol::Credentials credentials;
    credentials.user = "app";
    credentials.password.emplace("secret");
    return protocol::Login(std::move(credentials), nonce);
}

void ends_without_reaching_a_server(const std::string& bytes) {
    Scene scene(Phase::initial);
    scene.send(bytes);
    EXPECT_TRUE(scene.machine.closed());
    EXPECT_THAT(scene.source.total(), IsEmpty());
}

// PostgreSQL took what came together with an SSLRequest for part of the encrypted session.
TEST(Cve, CVE_2021_23214_BytesThatArriveWithAnEncryptionRequestEndTheConnection) {
    for (const auto code : {protocol::ssl_request_code, protocol::gssenc_request_code}) {
        ends_without_reaching_a_server(request(code) + startup());
        ends_without_reaching_a_server(request(code) + "x");
    }
}

// PgBouncer did too.
TEST(Cve, CVE_2021_3935_AQueryBehindAnSslRequestIsNotRun) {
    ends_without_reaching_a_server(request(protocol::ssl_request_code) + startup() +
                                   query("SELECT 1"));
}

// The negotiation of encryption could be repeated without end.
TEST(Cve, CVE_2026_6479_EncryptionIsNegotiatedOnceForEachKindAndNoMore) {
    const auto ssl = request(protocol::ssl_request_code);
    const auto gss = request(protocol::gssenc_request_code);
    for (const auto& third : {ssl, gss}) {
        Scene scene(Phase::initial);
        scene.send(gss);
        scene.send(ssl);
        EXPECT_EQ(scene.client_total(), "NN");
        EXPECT_FALSE(scene.machine.closed());
        scene.send(third);
        EXPECT_EQ(scene.client_total(), "NN");
        EXPECT_TRUE(scene.machine.closed());
    }
}

// Parsing of the startup parameter `options` that stood still. Here it is not parsed at all.
TEST(Cve, CVE_2026_107349_OptionsGoToTheServerUnread) {
    for (const auto& options : {"-c"s, "-c "s, "-"s, "\\"s, "-c a\\"s, "-c a=\\ b -"s, "   "s,
                                std::string(9000, '-'), std::string(9000, ' ')}) {
        const auto bytes = startup("shop", {{"options", options}});
        Scene scene(Phase::initial);
        scene.send(bytes);
        EXPECT_EQ(scene.source.total(), bytes);
        EXPECT_TRUE(scene.machine.logged_in());
    }
}

// A second startup message changed who the session was.
TEST(Cve, CVE_2026_107350_ThereIsOneStartupMessagePerConnection) {
    Scene waiting(Phase::initial);
    waiting.source.wants_password = true;
    waiting.send(startup());
    const auto sent = waiting.source.total();
    waiting.send(startup("shop", {{"role", "other"}}));
    EXPECT_EQ(waiting.source.total(), sent);
    EXPECT_EQ(waiting.machine.user(), "app");
    for (const Phase phase : {Phase::initial, Phase::dual_write}) {
        Scene later(phase);
        later.log_in();
        EXPECT_THAT(later.ask(startup()), ElementsAre("E 08P01"));
        EXPECT_TRUE(later.machine.closed());
    }
}

// Lengths that were added up, or read as signed, before they were compared.
TEST(Cve, CVE_2026_6664_and_107348_and_CVE_2024_27304_LengthsAreCheckedBeforeTheyAreUsed) {
    const std::string huge[] = {"\0\0\0\0"s,   "\0\0\0\3"s,         "\x7F\xFF\xFF\xFF"s,
                                "\x80\0\0\0"s, "\xFF\xFF\xFF\xFF"s, "\xFF\xFF\xFF\xFB"s,
                                "\x40\0\0\5"s};
    for (const auto& length : huge) {
        for (const char type : "QPBDECSHFdcfX"s) {
            Scene scene(Phase::initial);
            scene.log_in();
            EXPECT_THAT(scene.ask(std::string(1, type) + length), ElementsAre("E 08P01"));
        }
        for (const char type : "RKSZTDCEN12"s) {
            Scene scene(Phase::initial);
            scene.log_in();
            scene.server_says(Side::source, std::string(1, type) + length);
            EXPECT_THAT(scene.client(), ElementsAre("E 08P01"));
            // The mirror's bytes are no better.
            Scene mirrored(Phase::dual_write);
            mirrored.log_in();
            mirrored.server_says(Side::target, std::string(1, type) + length);
            EXPECT_FALSE(mirrored.machine.mirror_ready());
            EXPECT_THAT(mirrored.client(), IsEmpty());
        }
    }
    // Inside a message: the length of a value, against what is left of the body.
    for (const auto& length : huge) {
        if (length == "\0\0\0\0"s || length == "\xFF\xFF\xFF\xFF"s) {
            continue;  // empty, and NULL
        }
        EXPECT_FALSE(protocol::decode_bind("\0\0\0\0\0\1"s + length + "\0\0"s));
        std::vector<std::optional<std::string_view>> columns;
        EXPECT_FALSE(protocol::decode_data_row("\0\1"s + length, columns));
    }
}

// A server's error without a SQLSTATE crashed the pooler.
TEST(Cve, CVE_2026_6666_AnErrorWithoutSqlstateIsAnError) {
    for (const auto& body : {"\0"s, ""s, "Mno code\0\0"s, "C\0\0"s, "S"s}) {
        Scene scene(Phase::dual_write);
        scene.log_in();
        scene.source.hangs = true;
        scene.send(query("SELECT 1"));
        scene.server_says(Side::source, raw('E', body) + raw('Z', "I"));
        EXPECT_THAT(scene.client(), ElementsAre("E ", "Z I")) << body;
        // From the mirror, in its answer to a row and in its login.
        scene.server_says(Side::target, raw('E', body));
        EXPECT_FALSE(scene.machine.mirror_ready());
        EXPECT_THAT(scene.client(), IsEmpty());
        std::string out;
        protocol::Login login = own_login("0123456789abcdefghij");
        EXPECT_EQ(login.on_message('E', body, out), protocol::Login::State::failed);
    }
}

// SCRAM's numbers and strings were not bounded.
TEST(Cve, CVE_2026_6665_and_6669_ScramIsBounded) {
    const std::string nonce = "0123456789abcdefghij";
    for (const auto& challenge :
         {"r=" + nonce + "S,s=AAAA,i=4294967295", "r=" + nonce + "S,s=AAAA,i=1000001",
          "r=" + nonce + "S,s=AAAA,i=1", "r=" + nonce + "S,s=" + std::string(2000, 'A') + ",i=4096",
          "r=" + nonce + std::string(2000, 'S') + ",s=AAAA,i=4096", "r=,s=,i="s, ""s}) {
        protocol::Login login = own_login(nonce);
        std::string out;
        ASSERT_EQ(login.on_message('R', "\0\0\0\12SCRAM-SHA-256\0\0"s, out),
                  protocol::Login::State::working);
        out.clear();
        EXPECT_EQ(login.on_message('R', "\0\0\0\13"s + challenge, out),
                  protocol::Login::State::failed)
            << challenge.substr(0, 60);
        EXPECT_EQ(out, "");
    }
}

// Internal queries were run under the client's own search_path.
TEST(Cve, CVE_2025_12819_WhatBanyanAsksOnItsOwnIsQualified) {
    Scene scene(Phase::dual_read);
    scene.log_in();
    scene.send(query("DO $$ BEGIN END $$"));  // measured
    scene.direct(directive(1, Phase::dual_read, true));
    scene.direct(directive(2, Phase::switchover));
    ASSERT_EQ(scene.machine.primary(), Side::target);
    const std::string sent = scene.source.total();
    ASSERT_NE(sent.find("pg_stat_xact_user_tables"), std::string::npos);
    ASSERT_NE(sent.find("pg_listening_channels"), std::string::npos);
    ASSERT_NE(sent.find("pg_settings"), std::string::npos);
    // Every catalogue relation, function and type: with its schema.
    static const std::regex name(
        R"((^|[^.\w])(pg_(?!catalog\b)\w+|current_set\w*|current_schemas|unnest|string_agg|date_part|transaction_timestamp|set_config)\b)");
    std::smatch found;
    EXPECT_FALSE(std::regex_search(sent, found, name)) << found.str();
}

// Quoting that could be talked out of by invalid multibyte characters and backslashes.
TEST(Cve, CVE_2025_1094_NoTextLeavesItsQuotes) {
    const std::string texts[] = {"it's",
                                 "''",
                                 "\\'; DROP TABLE t; --",
                                 "\\",
                                 "a\\'b\\",
                                 "\xC0'; DROP TABLE t; --",
                                 "\xE5\x27",
                                 "\xFE\xFF'\\''",
                                 ""};
    for (const auto& text : texts) {
        const auto literal = router::quote_literal(text);
        // Either way of reading backslashes: the E form where there are any.
        const bool escapes = text.find('\\') != std::string::npos;
        const std::size_t start = literal.find('\'');
        ASSERT_NE(start, std::string::npos);
        EXPECT_EQ(literal.find_first_of("eE") < start, escapes) << text;
        std::string read;
        std::size_t at = start + 1;
        for (; at < literal.size(); ++at) {
            if (literal[at] == '\'' && at + 1 < literal.size() && literal[at + 1] == '\'') {
                ++at;
            } else if (literal[at] == '\'') {
                break;
            } else if (escapes && literal[at] == '\\') {
                ++at;
            }
            read.push_back(literal[at]);
        }
        EXPECT_EQ(at + 1, literal.size()) << "the literal ends before its end: " << literal;
        EXPECT_EQ(read, text);
        const auto identifier = router::quote_identifier(text);
        EXPECT_EQ(identifier.front(), '"');
        EXPECT_EQ(identifier.back(), '"');
    }
    EXPECT_EQ(router::quote_identifier("a\"; DROP"), "\"a\"\"; DROP\"");
}

}  // namespace
}  // namespace banyan::test
