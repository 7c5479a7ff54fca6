#include "router/session/mirror_link.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "message_text.hpp"
#include "tests/router/sql/sample_catalog.hpp"

namespace banyan::test {
namespace {

using namespace std::literals;
using router::MirrorLink;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

protocol::Credentials credentials(std::string user, std::string_view password) {
    protocol::Credentials made;
    made.user = std::move(user);
    made.password.emplace(password);
    return made;
}

/// A link and what it told.
struct Link {
    Link() {
        link.set_setup("SET session_replication_role = replica");
        link.connecting();
        protocol::Startup packet;
        link.connected(packet, credentials("app", "secret"), "0123456789abcdefghij", out);
        out.clear();
    }
    void log_in() {
        say(raw('R', "\0\0\0\0"s) + raw('K', "\0\0\0\7\0\0\0\11"s) + ready());
        say(complete("SET") + ready());
        told.clear();
        sent();
    }
    /// Feeds whole messages; the error that ends the connection, if any.
    std::optional<std::string> say(std::string_view bytes) {
        while (!bytes.empty()) {
            const std::size_t size = 1 + protocol::get_int32(bytes.data() + 1);
            if (const auto error = link.on_message(bytes[0], bytes.substr(5, size - 5), out)) {
                return error;
            }
            bytes.remove_prefix(size);
        }
        return std::nullopt;
    }
    Lines sent() { return take_messages(out, frontend_text); }

    using string = std::string;
    static string ready() { return raw('Z', "I"); }
    static string complete(const string& tag) { return raw('C', tag + '\0'); }
    static string refusal() { return raw('E', "C23503\0Mno parent\0\0"s); }

    Lines told;
    std::string out;
    MirrorLink link{MirrorLink::Events{
        [this] { told.push_back("ready"); },
        [this](std::size_t write) { told.push_back("zero rows " + std::to_string(write)); },
        [this](std::uint64_t txn, bool committed) {
            told.push_back((committed ? "committed " : "not committed ") + std::to_string(txn));
        },
        [this](const std::string& why) { told.push_back("failed " + why); },
        [this] { told.push_back("derive"); }}};
};

std::string done(const std::string& tag) { return raw('2') + raw('C', tag + '\0'); }

const router::Table& item() {
    static const router::Table table = router::table(100, "item", {"id", "name"});
    return table;
}

std::string key(std::string_view value) {
    std::string bytes;
    router::append_key_column(bytes, value);
    return bytes;
}

TEST(MirrorLink, IsReadyWhenItsSettingsAre) {
    Link it;
    EXPECT_EQ(it.say(raw('R', "\0\0\0\0"s) + raw('K', "\0\0\0\7\0\0\0\11"s) + Link::ready()),
              std::nullopt);
    EXPECT_THAT(it.sent(), ElementsAre("Query <setup>"));
    EXPECT_THAT(it.told, IsEmpty());
    EXPECT_EQ(it.link.process_id(), 7U);
    EXPECT_EQ(it.link.secret_key(), 9U);
    it.say(Link::complete("SET") + Link::ready());
    EXPECT_THAT(it.told, ElementsAre("ready"));
}

TEST(MirrorLink, IsGivenUpWhenLoginOrSettingsAreRefused) {
    Link refused;
    EXPECT_TRUE(refused.say(raw('E', "C28P01\0Mno\0\0"s)));
    Link unset;
    unset.say(raw('R', "\0\0\0\0"s) + Link::ready());
    EXPECT_TRUE(unset.say(Link::refusal() + Link::ready()));
    EXPECT_THAT(unset.told, IsEmpty());
}

TEST(MirrorLink, CarriesATransactionAsPipelinedGroups) {
    Link it;
    it.log_in();
    it.link.begin({"a", "b\"c"}, it.out);
    it.link.upsert(item(), 1, {"7"sv, std::nullopt}, it.out);
    it.link.erase(item(), 1, key("8"), 3, it.out);
    it.link.end_group(it.out);
    it.link.commit(42, it.out);
    EXPECT_THAT(it.sent(),
                ElementsAre("Query BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SAVEPOINT "
                            "\"a\"; SAVEPOINT \"b\"\"c\"",
                            "Parse banyan_upsert_100_1: <upsert item>",
                            "Bind :banyan_upsert_100_1(7,-)", "Execute ",
                            "Parse banyan_delete_100_1: <delete item>",
                            "Bind :banyan_delete_100_1(8)", "Execute ", "Sync", "Query COMMIT"));
    EXPECT_EQ(it.link.outstanding(), 3U);
    EXPECT_FALSE(it.link.in_transaction());
    it.say(Link::complete("BEGIN") + Link::complete("SAVEPOINT") + Link::ready());
    it.say(raw('1') + done("INSERT 0 1") + raw('1') + done("DELETE 1") + Link::ready());
    EXPECT_THAT(it.told, IsEmpty());
    it.say(Link::complete("COMMIT") + Link::ready());
    EXPECT_THAT(it.told, ElementsAre("committed 42"));
    EXPECT_TRUE(it.link.drained());
}

TEST(MirrorLink, PreparesAStatementOncePerTableAndCatalogueVersion) {
    Link it;
    it.log_in();
    it.link.begin({}, it.out);
    it.link.upsert(item(), 1, {"7"sv, "x"sv}, it.out);
    it.link.upsert(item(), 1, {"8"sv, "x"sv}, it.out);
    it.link.upsert(item(), 2, {"9"sv, "x"sv}, it.out);
    it.link.end_group(it.out);
    const auto sent = it.sent();
    EXPECT_EQ(std::count_if(sent.begin(), sent.end(),
                            [](const auto& line) { return line.starts_with("Parse banyan_upsert"); }),
              2);
}

TEST(MirrorLink, PreparesAgainWhatAnErrorPrevented) {
    Link it;
    it.log_in();
    it.link.begin({}, it.out);
    it.link.upsert(item(), 1, {"7"sv, "x"sv}, it.out);
    it.link.erase(item(), 1, key("8"), 0, it.out);
    it.link.end_group(it.out);
    it.sent();
    // The upsert's Parse has been answered and stands; the delete's was never reached.
    it.say(raw('1') + done("BEGIN") + raw('1') + Link::refusal() + Link::ready());
    it.link.rollback(it.out);
    it.link.begin({}, it.out);
    it.link.upsert(item(), 1, {"7"sv, "x"sv}, it.out);
    it.link.erase(item(), 1, key("8"), 0, it.out);
    EXPECT_THAT(it.sent(),
                ElementsAre("Query ROLLBACK", "Bind :banyan_begin()", "Execute ",
                            "Bind :banyan_upsert_100_1(7,x)", "Execute ",
                            "Parse banyan_delete_100_1: <delete item>",
                            "Bind :banyan_delete_100_1(8)", "Execute "));
}

// A group may take more when its first part has failed: the server skips that.
TEST(MirrorLink, PreparesAgainWhatWasSentBehindAnError) {
    Link it;
    it.log_in();
    it.link.begin({}, it.out);
    it.link.upsert(item(), 1, {"7"sv, "x"sv}, it.out);
    it.sent();
    it.say(raw('1') + done("BEGIN") + raw('1') + Link::refusal());
    it.link.erase(item(), 1, key("8"), 0, it.out);
    it.link.end_group(it.out);
    it.say(Link::ready());
    it.link.rollback(it.out);
    it.sent();
    it.link.begin({}, it.out);
    it.link.erase(item(), 1, key("8"), 0, it.out);
    EXPECT_THAT(it.sent(), Contains("Parse banyan_delete_100_1: <delete item>"));
}

TEST(MirrorLink, ADeleteOfNoRowIsAnEventAndAnUpsertOfNoneIsNot) {
    Link it;
    it.log_in();
    it.link.begin({}, it.out);
    it.link.erase(item(), 1, key("1"), 5, it.out);
    it.link.upsert(item(), 1, {"7"sv, "x"sv}, it.out);
    it.link.erase(item(), 1, key("2"), 6, it.out);
    it.link.erase(item(), 1, key("3"), 7, it.out);
    it.link.end_group(it.out);
    it.say(raw('1') + done("BEGIN"));
    it.say(raw('1') + done("DELETE 0") + raw('1') + done("INSERT 0 0") + done("DELETE 1") +
           done("DELETE 0") + Link::ready());
    EXPECT_THAT(it.told, ElementsAre("zero rows 5", "zero rows 7"));
}

TEST(MirrorLink, AFailedGroupFailsItsTransactionOnce) {
    Link it;
    it.log_in();
    it.link.begin({}, it.out);
    it.link.upsert(item(), 1, {"7"sv, "x"sv}, it.out);
    it.link.end_group(it.out);
    it.link.statement("SAVEPOINT a", it.out);
    it.say(raw('1') + done("BEGIN") + raw('1') + Link::refusal() + Link::ready() +
           Link::refusal() + Link::ready());
    EXPECT_THAT(it.told, ElementsAre("failed 23503: no parent"));
    EXPECT_TRUE(it.link.failed());
    it.link.rollback(it.out);
    EXPECT_FALSE(it.link.in_transaction());
}

TEST(MirrorLink, RowsBehindARefusedBeginAreWrittenOnlyIfASyncCameBetween) {
    for (const bool between : {false, true}) {
        Link it;
        it.log_in();
        it.link.begin({}, it.out);
        it.link.upsert(item(), 1, {"7"sv, "x"sv}, it.out);
        it.link.end_group(it.out);
        if (between) {
            it.link.upsert(item(), 1, {"8"sv, "x"sv}, it.out);
            it.link.end_group(it.out);
        }
        it.say(raw('1') + Link::refusal() + Link::ready());
        EXPECT_THAT(it.told, ElementsAre("failed 23503: no parent"));
        EXPECT_EQ(it.link.begin_refused(), between);
    }
}

TEST(MirrorLink, ATransactionIsAllOrNothingWhileOnlyItsFailureCanBeLearned) {
    struct Case {
        const char* what;
        std::function<void(Link&)> then;
        bool all_or_nothing;
    };
    const Case cases[] = {
        {"rows behind BEGIN", [](Link&) {}, true},
        {"more groups before BEGIN is answered",
         [](Link& it) { it.link.end_group(it.out); }, false},
        {"more groups behind it",
         [](Link& it) {
             it.link.end_group(it.out);
             it.say(raw('1') + done("BEGIN") + raw('1') + done("INSERT 0 1") + Link::ready());
         },
         true},
        {"a delete", [](Link& it) { it.link.erase(item(), 1, key("8"), 0, it.out); }, false},
        {"an upsert that may miss",
         [](Link& it) { it.link.upsert(item(), 1, {"7"sv, "x"sv}, it.out, 0); }, false},
        {"a statement", [](Link& it) { it.link.statement("SAVEPOINT a", it.out); }, false},
        {"a failure",
         [](Link& it) {
             it.link.end_group(it.out);
             it.say(raw('1') + done("BEGIN") + raw('1') + Link::refusal() + Link::ready());
         },
         false},
        {"its end", [](Link& it) { it.link.rollback(it.out); }, false},
    };
    for (const auto& each : cases) {
        Link it;
        it.log_in();
        EXPECT_FALSE(it.link.all_or_nothing());
        it.link.begin({}, it.out);
        it.link.upsert(item(), 1, {"7"sv, "x"sv}, it.out);
        each.then(it);
        EXPECT_EQ(it.link.all_or_nothing(), each.all_or_nothing) << each.what;
    }
}

TEST(MirrorLink, ACommitThatAnswersRollbackIsNone) {
    for (const auto& answer : {Link::complete("ROLLBACK"), Link::refusal()}) {
        Link it;
        it.log_in();
        it.link.begin({}, it.out);
        it.link.commit(9, it.out);
        it.say(raw('1') + done("BEGIN") + Link::ready() + answer + Link::ready());
        EXPECT_THAT(it.told, ElementsAre("not committed 9"));
    }
}

// A transaction that was rolled back is nobody's any more: what the mirror says of it late must not
// be taken for the next one.
TEST(MirrorLink, LateAnswersOfATransactionGivenUpAreNotTheNextOnes) {
    Link it;
    it.log_in();
    it.link.begin({}, it.out);
    it.link.erase(item(), 1, key("1"), 0, it.out);
    it.link.end_group(it.out);
    it.link.upsert(item(), 1, {"7"sv, "x"sv}, it.out);
    it.link.end_group(it.out);
    it.link.rollback(it.out);
    it.link.begin({}, it.out);
    it.say(raw('1') + done("BEGIN") + raw('1') + done("DELETE 0") + Link::ready());
    it.say(Link::refusal() + Link::ready());
    EXPECT_THAT(it.told, IsEmpty());
    EXPECT_FALSE(it.link.failed());
}

TEST(MirrorLink, ResetReturnsTheCommitsWithoutAnswer) {
    Link it;
    it.log_in();
    it.link.begin({}, it.out);
    it.link.commit(1, it.out);
    it.link.begin({}, it.out);
    it.link.commit(2, it.out);
    it.say(raw('1') + done("BEGIN") + Link::ready() + Link::complete("COMMIT") + Link::ready());
    bool gone = false;
    it.link.shadow_query(
        "SELECT 1", [&gone](char type, std::string_view) { gone = type == 0; }, it.out);
    EXPECT_THAT(it.link.reset(), ElementsAre(2));
    EXPECT_TRUE(gone) << "the shadow read was not told";
    EXPECT_EQ(it.link.state(), MirrorLink::State::down);
    EXPECT_TRUE(it.link.drained());
    EXPECT_FALSE(it.link.in_transaction());
}

TEST(MirrorLink, ShadowReadsHearEveryMessage) {
    Link it;
    it.log_in();
    std::string heard;
    const auto reader = [&heard](char type, std::string_view) { heard += type; };
    protocol::Bind bind;
    bind.statement = "clients_name";
    bind.parameters = {"1"sv};
    it.link.shadow_execute("read_1", "SELECT $1", {23}, bind, reader, it.out);
    it.link.shadow_execute("read_1", "SELECT $1", {23}, bind, reader, it.out);
    EXPECT_THAT(it.sent(), ElementsAre("Parse read_1: SELECT $1", "Bind :read_1(1)", "Execute ",
                                       "Sync", "Bind :read_1(1)", "Execute ", "Sync"));
    EXPECT_EQ(it.link.outstanding_shadows(), 2U);
    EXPECT_TRUE(it.link.front_is_shadow());
    it.say(raw('1') + raw('2') + raw('D', "\0\0"s) + Link::complete("SELECT 1") + Link::ready());
    EXPECT_EQ(heard, "12DCZ");
    it.say(Link::refusal() + Link::ready());
    EXPECT_EQ(heard, "12DCZEZ");
    EXPECT_EQ(it.link.outstanding_shadows(), 0U);
}

TEST(MirrorLink, ShadowReadsAskedForDuringTheLoginFollowIt) {
    Link it;
    it.link.shadow_query("SELECT 1", [](char, std::string_view) {}, it.out);
    EXPECT_THAT(it.sent(), IsEmpty());
    it.say(raw('R', "\0\0\0\0"s) + Link::ready());
    EXPECT_THAT(it.sent(), ElementsAre("Query <setup>", "Query SELECT 1"));
}

TEST(MirrorLink, WhatNothingExplainsEndsTheConnection) {
    Link it;
    it.log_in();
    EXPECT_EQ(it.say(raw('N') + raw('S') + raw('A')), std::nullopt);
    EXPECT_TRUE(it.say(Link::complete("COMMIT")));
    EXPECT_TRUE(it.say(Link::ready()));
    EXPECT_TRUE(it.say(raw('E', "C57P01\0Mshutting down\0\0"s)));
}

}  // namespace
}  // namespace banyan::test
