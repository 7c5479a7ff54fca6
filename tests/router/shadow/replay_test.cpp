#include "router/shadow/replay.hpp"

#include <gtest/gtest.h>

#include <thread>

#include "router/shadow/discrepancy_store.hpp"
#include "router/shadow/redact.hpp"
#include "tests/router/state/temp_directory.hpp"

namespace banyan::router {
namespace {

Replay answer(const std::vector<std::string>& rows) {
    Replay it;
    for (const std::string& row : rows) {
        it.digest.add_row(row);
        it.rows.push_back({row});
    }
    return it;
}

Replay error(const std::string& sqlstate) {
    Replay it;
    it.sqlstate = sqlstate;
    return it;
}

TEST(Judge, ConfirmsOnlyWhatStandsStill) {
    using V = RecheckVerdict;
    struct Case {
        const char* name;
        Replay before;
        Replay mirror;
        Replay after;
        V verdict;
    };
    const std::vector<Case> cases{
        {"all the same", answer({"1"}), answer({"1"}), answer({"1"}), V::raced},
        {"the mirror is behind", answer({"1"}), answer({"1"}), answer({"2"}), V::raced},
        {"the mirror is ahead", answer({"1"}), answer({"2"}), answer({"2"}), V::raced},
        {"the primary moves", answer({"1"}), answer({"3"}), answer({"2"}), V::unstable},
        {"the primary stands", answer({"1"}), answer({"3"}), answer({"1"}), V::confirmed},
        {"the mirror fails", answer({"1"}), error("42P01"), answer({"1"}), V::confirmed},
        {"both fail alike", error("22012"), error("22012"), error("22012"), V::raced},
        {"the primary fails", error("22012"), answer({"1"}), error("22012"), V::unfit},
    };
    for (const Case& it : cases) {
        EXPECT_EQ(judge(it.before, it.mirror, it.after, false), it.verdict) << it.name;
    }
    EXPECT_EQ(judge(answer({"1", "2"}), answer({"2", "1"}), answer({"1", "2"}), true),
              V::confirmed);
    EXPECT_EQ(judge(answer({"1", "2"}), answer({"2", "1"}), answer({"1", "2"}), false), V::raced);
}

TEST(DifferenceKind, NamesWhatDiffers) {
    EXPECT_EQ(difference_kind(answer({"1"}), answer({"2"}), false), "rows");
    EXPECT_EQ(difference_kind(answer({"1"}), answer({"1", "2"}), false), "row_count");
    EXPECT_EQ(difference_kind(answer({"1", "2"}), answer({"2", "1"}), true), "order");
    EXPECT_EQ(difference_kind(answer({"1"}), error("42P01"), false), "error");
}

TEST(DifferingRows, ShowsTheSurplusOfEachSide) {
    const auto [here, there] =
        differing_rows(answer({"a", "a", "b", "c"}), answer({"a", "c", "d"}), 3);
    EXPECT_EQ(here, (std::vector<Cells>{{"a"}, {"b"}}));
    EXPECT_EQ(there, (std::vector<Cells>{{"d"}}));
    Replay big = answer({"a"});
    big.complete = false;
    EXPECT_TRUE(differing_rows(big, answer({}), 3).first.empty());
}

TEST(Redacted, HidesTheValueButKeepsEqualityTypeAndLength) {
    EXPECT_EQ(redacted("secret", 25), redacted("secret", 25));
    EXPECT_NE(redacted("secret", 25), redacted("Secret", 25));
    EXPECT_TRUE(redacted("secret", 25).starts_with("<text 6 "));
    EXPECT_TRUE(redacted("1", 999999).starts_with("<type 999999 1 "));
    const auto rows = rows_json({{"secret", std::nullopt}}, {25, 25}, true);
    EXPECT_EQ(boost::json::serialize(rows).find("secret"), std::string::npos);
    EXPECT_TRUE(rows.at(0).at(1).is_null());
    EXPECT_EQ(rows_json({{"plain"}}, {25}, false).at(0).at(0).as_string(), "plain");
}

TEST(Printable, IsAlwaysUtf8AndBounded) {
    EXPECT_EQ(printable("gr\xC3\xBC\xC3\x9F"), "gr\xC3\xBC\xC3\x9F");
    EXPECT_EQ(printable("a\xFF"
                        "b\xC3"),
              "a?b?");
    EXPECT_EQ(printable("\xED\xA0\x80\xC0\x80"), "?????");
    EXPECT_EQ(printable(std::string(20, 'x'), 5), "xxxxx...");
}

class StoreTest : public ::testing::Test {
   protected:
    void SetUp() override {
        db = *StateDb::open(directory.path(), StateDb::Durability::process);
    }
    static ConfirmedDiscrepancy found(const std::string& fingerprint, std::int64_t at,
                                      const std::string& kind = "rows") {
        ConfirmedDiscrepancy it;
        it.fingerprint = fingerprint;
        it.kind = kind;
        it.tables = {"public.t"};
        it.sql = "SELECT $1";
        it.at_unix_ms = at;
        it.sample = {{"at_unix_ms", at}};
        return it;
    }
    test::TempDirectory directory;
    std::unique_ptr<StateDb> db;
};

TEST_F(StoreTest, GroupsByFingerprintAndKeepsTheNewestSamples) {
    DiscrepancyStore store(*db, 10, directory.path() / "log.jsonl");
    for (int at = 1; at <= 7; ++at) {
        ASSERT_TRUE(store.record(found("f1", at)));
    }
    ASSERT_TRUE(store.record(found("f2", 8)));
    const auto groups = store.groups(10);
    ASSERT_EQ(groups.size(), 2U);
    EXPECT_EQ(groups.at(0).at("fingerprint").as_string(), "f2");
    const auto group = store.group("f1");
    ASSERT_TRUE(group);
    EXPECT_EQ(group->at("count").as_int64(), 7);
    EXPECT_EQ(group->at("first_seen_unix_ms").as_int64(), 1);
    ASSERT_EQ(group->at("samples").as_array().size(), 5U);
    EXPECT_EQ(group->at("samples").at(0).at("at_unix_ms").as_int64(), 7);
    EXPECT_GT(std::filesystem::file_size(directory.path() / "log.jsonl"), 0U);
    EXPECT_FALSE(store.group("none"));
}

TEST_F(StoreTest, AnAcknowledgementHoldsUntilAnotherKindAppears) {
    DiscrepancyStore store(*db, 10, {});
    ASSERT_TRUE(store.record(found("f", 1)));
    EXPECT_EQ(store.unacknowledged(), 1U);
    EXPECT_FALSE(store.acknowledge("none", "ann", "x"));
    EXPECT_TRUE(store.acknowledge("f", "ann", "known"));
    ASSERT_TRUE(store.record(found("f", 2)));
    EXPECT_EQ(store.unacknowledged(), 0U);
    EXPECT_TRUE(store.acknowledge("f", "ann", "for a while", 4'000'000'000'000));
    EXPECT_EQ(store.unacknowledged(), 0U);
    EXPECT_EQ(store.group("f")->at("acknowledged_until_unix_ms").as_int64(), 4'000'000'000'000);
    EXPECT_TRUE(store.acknowledge("f", "ann", "until a moment ago", 1));
    EXPECT_EQ(store.unacknowledged(), 1U);
    EXPECT_FALSE(store.group("f")->at("acknowledged").as_bool());
    EXPECT_TRUE(store.acknowledge("f", "ann", "known"));
    EXPECT_EQ(store.unacknowledged(), 0U);
    EXPECT_TRUE(store.group("f")->at("acknowledged_until_unix_ms").is_null());
    ASSERT_TRUE(store.record(found("f", 3, "error")));
    EXPECT_EQ(store.unacknowledged(), 1U);
}

TEST_F(StoreTest, DropsTheGroupsSeenLongestAgo) {
    DiscrepancyStore store(*db, 2, {});
    for (const char* fingerprint : {"a", "b", "c"}) {
        static std::int64_t at = 0;
        ASSERT_TRUE(store.record(found(fingerprint, ++at)));
    }
    EXPECT_EQ(store.groups(10).size(), 2U);
    EXPECT_FALSE(store.group("a"));
}

}  // namespace
}  // namespace banyan::router
