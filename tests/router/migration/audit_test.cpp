#include "router/migration/audit.hpp"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include "router/migration/store.hpp"
#include "router/migration/transition.hpp"
#include "tests/router/state/temp_directory.hpp"

namespace banyan::router {
namespace {

class AuditTest : public ::testing::Test {
   protected:
    void SetUp() override {
        db = *StateDb::open(directory.path(), StateDb::Durability::process);
    }
    AuditEntry entry(const std::string& action) {
        AuditEntry it;
        it.at_unix_ms = 1;
        it.actor = "ann";
        it.action = action;
        it.after = {{"b", 2}, {"a", 1}};
        it.result = "ok";
        return it;
    }
    test::TempDirectory directory;
    std::unique_ptr<StateDb> db;
};

TEST(Canonical, IsTheSameWhateverTheOrderOfTheMembers) {
    const boost::json::value one{{"b", {1, nullptr}}, {"a", {{"y", "\n"}, {"x", true}}}};
    const boost::json::value two{{"a", {{"x", true}, {"y", "\n"}}}, {"b", {1, nullptr}}};
    EXPECT_EQ(canonical(one), R"({"a":{"x":true,"y":"\n"},"b":[1,null]})");
    EXPECT_EQ(canonical(one), canonical(two));
    EXPECT_EQ(canonical(boost::json::object()), "{}");
    EXPECT_EQ(canonical(boost::json::array()), "[]");
}

TEST(ChainHash, IsSha256OfPreviousAndBody) {
    EXPECT_EQ(chain_hash("a", "bc"),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_F(AuditTest, ShowsTheNewestFirstAndPagesByBefore) {
    AuditLog log(*db);
    for (const char* action : {"one", "two", "three"}) {
        ASSERT_TRUE(log.append(entry(action)));
    }
    const auto newest = log.newest(2, std::nullopt);
    ASSERT_EQ(newest.size(), 2U);
    EXPECT_EQ(newest.at(0).at("action").as_string(), "three");
    EXPECT_EQ(newest.at(0).at("previous"), newest.at(1).at("hash"));
    const auto older = log.newest(10, newest.at(1).at("id").as_int64());
    ASSERT_EQ(older.size(), 1U);
    EXPECT_EQ(older.at(0).at("previous").as_string(), audit_genesis);
    EXPECT_EQ(log.first_broken(), std::nullopt);
}

TEST_F(AuditTest, AChangedOrRemovedEntryBreaksTheChain) {
    for (const char* damage : {"UPDATE audit SET body = replace(body, 'ann', 'bob') WHERE id = 2",
                               "DELETE FROM audit WHERE id = 2"}) {
        db->submit_and_wait([](sqlite3* sqlite) {
            sqlite3_exec(sqlite, "DROP TABLE IF EXISTS audit", nullptr, nullptr, nullptr);
        });
        AuditLog log(*db);
        for (const char* action : {"one", "two", "three"}) {
            ASSERT_TRUE(log.append(entry(action)));
        }
        EXPECT_EQ(log.first_broken(), std::nullopt);
        ASSERT_TRUE(db->submit_and_wait([&](sqlite3* sqlite) {
            ASSERT_EQ(sqlite3_exec(sqlite, damage, nullptr, nullptr, nullptr), SQLITE_OK);
        }));
        EXPECT_TRUE(log.first_broken().has_value()) << damage;
    }
}

TEST_F(AuditTest, TheStoreKeepsPhaseTransitionsAndSettings) {
    MigrationStore store(*db);
    EXPECT_EQ(store.phase().phase, Phase::initial);
    EXPECT_EQ(store.next_transition(), 1);
    Transition transition;
    transition.number = 1;
    ASSERT_TRUE(store.save_transition(1, to_json(transition), true));
    ASSERT_TRUE(store.persist_phase(Phase::initial, Phase::dual_write, "go", transition.id()));
    EXPECT_EQ(store.phase().phase, Phase::dual_write);
    EXPECT_EQ(store.next_transition(), 2);
    const auto unfinished = store.unfinished();
    ASSERT_EQ(unfinished.size(), 1U);
    const auto ended = interrupted(unfinished.at(1), 7, Phase::dual_write);
    EXPECT_EQ(ended.at("state").as_string(), "failed");
    EXPECT_EQ(ended.at("error").as_string(), "interrupted");
    ASSERT_TRUE(store.save_transition(1, ended, true));
    EXPECT_TRUE(store.unfinished().empty());
    EXPECT_EQ(store.transition(1)->at("id").as_string(), "t-000001");
    EXPECT_FALSE(store.transition(2).has_value());
    EXPECT_EQ(store.setting("x"), "");
    ASSERT_TRUE(store.set_setting("x", "1"));
    ASSERT_TRUE(store.set_setting("x", "2"));
    EXPECT_EQ(store.setting("x"), "2");
}

}  // namespace
}  // namespace banyan::router
