#include <algorithm>

#include "tests/router/sync/two_sides.hpp"

namespace banyan::test {
namespace {

class VerifyTest : public TwoSides {
   protected:
    void make_t(int rows) {
        on_both("CREATE TABLE t (id bigint PRIMARY KEY, v text);"
                "INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, " +
                std::to_string(rows) + ") i");
        load();
    }
};

TEST_F(VerifyTest, EqualTablesAreEqual) {
    make_t(12000);
    const TableVerification seen = verify("t");
    EXPECT_EQ(seen.state, "equal") << seen.error;
    EXPECT_EQ(seen.rows_compared, 12000U);
    EXPECT_TRUE(seen.sample.empty());
}

TEST_F(VerifyTest, EmptyTablesAreEqual) {
    make_t(0);
    EXPECT_EQ(verify("t").state, "equal");
}

TEST_F(VerifyTest, FindsMissingExtraAndDifferentRowsWithTheirKeysAndColumns) {
    make_t(12000);
    on_target("DELETE FROM t WHERE id = 7; UPDATE t SET v = NULL WHERE id = 6000;"
              "INSERT INTO t VALUES (0, 'before all'), (20000, 'behind all')");
    const TableVerification seen = verify("t");
    EXPECT_EQ(seen.state, "different") << seen.error;
    EXPECT_EQ(seen.missing, 1U);
    EXPECT_EQ(seen.extra, 2U);
    EXPECT_EQ(seen.different, 1U);
    ASSERT_EQ(seen.sample.size(), 4U);
    for (const Difference& difference : seen.sample) {
        if (difference.kind == "different") {
            EXPECT_EQ(difference.key, "id=6000");
            EXPECT_EQ(difference.columns, std::vector<std::string>{"v"});
        } else {
            EXPECT_EQ(difference.kind, difference.key == "id=7" ? "missing" : "extra");
        }
    }
    EXPECT_EQ(ledger_->dirty_count(), 0U);
}

TEST_F(VerifyTest, RepairMakesTheDifferingKeysDirtyAndThenTheyAreEqual) {
    on_both(R"(
        CREATE TYPE mood AS ENUM ('sad', 'it''s');
        CREATE TABLE odd (m mood, k text, n numeric, g int GENERATED ALWAYS AS (1) STORED, v bytea,
                          PRIMARY KEY (k, m, n));
        INSERT INTO odd (m, k, n, v) SELECT m, E'\t\n\\''é' || i, i / 8.0, E'\\x0001'
            FROM unnest(enum_range(NULL::mood)) m, generate_series(1, 300) i)");
    on_target("DELETE FROM odd WHERE n = 12.5; UPDATE odd SET v = NULL WHERE n = 20;"
              "INSERT INTO odd VALUES ('sad', '', 1)");
    load();
    const TableVerification seen = verify("odd", true);
    EXPECT_EQ(seen.state, "different") << seen.error;
    EXPECT_EQ(seen.missing, 2U);
    EXPECT_EQ(seen.different, 2U);
    EXPECT_EQ(seen.extra, 1U);
    EXPECT_EQ(ledger_->dirty_count(table("odd")->id), 5U);
    start_repair();
    ASSERT_TRUE(eventually([&] { return ledger_->dirty_count() == 0; })) << repair_->last_error();
    EXPECT_EQ(verify("odd").state, "equal");
    expect_equal("odd");
}

TEST_F(VerifyTest, ATableThatIsMissingAltogetherIsReportedInFull) {
    make_t(3000);
    on_target("TRUNCATE t");
    const TableVerification seen = verify("t");
    EXPECT_EQ(seen.missing, 3000U);
    EXPECT_EQ(seen.sample.size(), 100U);
}

TEST_F(VerifyTest, ClientsAtFullSpeedAreNotReportedAsDifferences) {
    make_t(3000);
    start_repair();
    Storm storm(config_, *ledger_, table("t")->id, 3, 3000);
    for (int round = 0; round < 3; ++round) {
        const TableVerification seen = verify("t");
        EXPECT_EQ(seen.state, "equal")
            << seen.error << " missing " << seen.missing << " extra " << seen.extra << " different "
            << seen.different;
    }
    EXPECT_GT(storm.writes(), 0U);
}

TEST_F(VerifyTest, AHotRowIsDecided) {
    make_t(3);
    start_repair();
    std::atomic<bool> stop{false};
    std::thread client([&] {
        DualWriter writer(config_, *ledger_, table("t")->id);
        while (!stop) {
            writer.change(1);
        }
    });
    for (int round = 0; round < 5; ++round) {
        EXPECT_EQ(verify("t").state, "equal");
    }
    on_target("UPDATE t SET v = 'silent' WHERE id = 2");
    const TableVerification seen = verify("t");
    stop = true;
    client.join();
    EXPECT_EQ(seen.state, "different");
    EXPECT_EQ(seen.different, 1U);
}

TEST_F(VerifyTest, AWriteOnItsWayToTheMirrorIsNoDifference) {
    make_t(100);
    CommitIntent intent;
    intent.writes.push_back({bigint_key(table("t")->id, 5), false, false});
    const TxnId txn = ledger_->begin_commit(std::move(intent), [](bool) {});
    on_source("UPDATE t SET v = 'new' WHERE id = 5");
    std::thread later([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(700));
        on_target("UPDATE t SET v = 'new' WHERE id = 5");
        ledger_->finish(txn, CommitOutcome::mirrored);
    });
    const TableVerification seen = verify("t");
    later.join();
    EXPECT_EQ(seen.state, "equal");
    EXPECT_EQ(seen.raced, 1U);
}

TEST_F(VerifyTest, ADirtyKeyThatRepairReachesIsNoDifference) {
    make_t(100);
    on_target("DELETE FROM t WHERE id = 5");
    ledger_->mark_dirty({bigint_key(table("t")->id, 5)}, "test");
    std::thread later([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
        start_repair();
    });
    const TableVerification seen = verify("t");
    later.join();
    EXPECT_EQ(seen.state, "equal");
    EXPECT_EQ(seen.raced, 1U);
}

TEST_F(VerifyTest, ADirtyKeyThatNobodyRepairsIsADifference) {
    make_t(100);
    on_target("DELETE FROM t WHERE id = 5");
    ledger_->mark_dirty({bigint_key(table("t")->id, 5)}, "test");
    EXPECT_EQ(verify("t").missing, 1U);
}

TEST_F(VerifyTest, TablesWithoutAKeyAreComparedAsAWhole) {
    on_both("CREATE TABLE nokey (v text); INSERT INTO nokey VALUES ('a'), ('a'), (NULL)");
    load();
    EXPECT_EQ(verify("nokey").state, "equal");
    on_target("INSERT INTO nokey VALUES ('a')");
    const TableVerification seen = verify("nokey");
    EXPECT_EQ(seen.state, "different");
    EXPECT_EQ(seen.different, 1U);
    EXPECT_TRUE(seen.sample.empty());
}

TEST_F(VerifyTest, ATableThatCannotBeComparedFailsWithAReason) {
    on_source("CREATE TABLE lonely (id int PRIMARY KEY)");
    load();
    const TableVerification seen = verify("lonely");
    EXPECT_EQ(seen.state, "failed");
    EXPECT_NE(seen.error.find("not_on_mirror"), std::string::npos);
}

TEST_F(VerifyTest, CancelStopsIt) {
    make_t(100);
    const std::atomic<bool> cancel{true};
    const VerifyContext context{config_, *ledger_, [] { return Phase::dual_write; },
                                [this] { return catalog_; }};
    EXPECT_EQ(verify_table(context, *table("t"), false, nullptr, cancel).state, "stopped");
}

TEST_F(VerifyTest, AChangedPhaseEndsItWithoutAVerdict) {
    make_t(100);
    std::atomic<int> asked{0};
    const std::atomic<bool> cancel{false};
    const VerifyContext context{
        config_, *ledger_,
        [&] { return ++asked == 1 ? Phase::dual_write : Phase::switchover; },
        [this] { return catalog_; }};
    EXPECT_EQ(verify_table(context, *table("t"), false, nullptr, cancel).state, "failed");
}

}  // namespace
}  // namespace banyan::test
