// Tables that both sides wrote alike without its being known which rows: COPY and TRUNCATE.

#include "tests/router/state/ledger_fixture.hpp"

namespace banyan::router {
namespace {

CommitIntent copied(TableId table) {
    CommitIntent intent;
    intent.tables.push_back({table, false, "copy"});
    return intent;
}
CommitIntent truncated(TableId table) {
    CommitIntent intent;
    intent.tables.push_back({table, true, "truncate"});
    return intent;
}

class LedgerTablesTest : public LedgerTest {
   protected:
    std::string reason(TableId table) const {
        const auto suspect = ledger_->suspect(table);
        return suspect ? suspect->reason : "";
    }
};

TEST_F(LedgerTablesTest, AMirroredTableLeavesNothing) {
    const auto txn = begin(copied(1));
    EXPECT_EQ(rows("journal"), 1);
    ledger_->finish(txn, CommitOutcome::mirrored);
    EXPECT_EQ(reason(1), "");
    EXPECT_EQ(rows("journal"), 0);
    EXPECT_EQ(rows("suspects"), 0);
    EXPECT_EQ(ledger_->dirty_count(), 0U);
}

TEST_F(LedgerTablesTest, EveryKeyOfItIsInFlightUntilTheLastEnds) {
    const auto first = begin(copied(1));
    const auto second = begin(truncated(1));
    EXPECT_TRUE(ledger_->in_flight(key(1, "any")));
    EXPECT_FALSE(ledger_->in_flight(key(2, "any")));
    ledger_->finish(first, CommitOutcome::mirrored);
    EXPECT_TRUE(ledger_->in_flight(key(1, "any")));
    ledger_->finish(second, CommitOutcome::rolled_back);
    EXPECT_FALSE(ledger_->in_flight(key(1, "any")));
    EXPECT_EQ(reason(1), "");
}

TEST_F(LedgerTablesTest, ItIsSuspectWhenTheMirrorDidNotCommit) {
    ledger_->finish(begin(copied(1)), CommitOutcome::not_mirrored);
    EXPECT_EQ(reason(1), "copy");
    EXPECT_EQ(rows("suspects"), 1);
}

TEST_F(LedgerTablesTest, InLimboItIsInFlightAndThenSuspect) {
    const auto txn = begin(copied(1));
    ledger_->lose(txn, {{Side::target, 7}});
    EXPECT_TRUE(ledger_->in_flight(key(1, "any")));
    EXPECT_EQ(reason(1), "");
    ledger_->resolve_limbo(txn);
    EXPECT_FALSE(ledger_->in_flight(key(1, "any")));
    EXPECT_EQ(reason(1), "copy");
}

TEST_F(LedgerTablesTest, AfterACrashItIsSuspect) {
    dies([](Ledger& ledger, StateDb&) {
        begin(ledger, copied(1));
        begin(ledger, truncated(2));
        ledger.finish(begin(ledger, copied(3)).first, CommitOutcome::mirrored);
        ledger.finish(begin(ledger, copied(4)).first, CommitOutcome::not_mirrored);
    });
    EXPECT_EQ(reason(1), "copy");
    EXPECT_EQ(reason(2), "truncate");
    EXPECT_EQ(reason(3), "");
    EXPECT_EQ(reason(4), "copy");
    EXPECT_EQ(rows("journal"), 0);
}

TEST_F(LedgerTablesTest, AJournalThatCannotBeWrittenMakesItSuspect) {
    fill_disk();
    CommitIntent intent = copied(1);
    intent.writes.push_back({key(2, std::string(100'000, 'x')), false, false});
    const auto [txn, durable] = begin(*ledger_, std::move(intent));
    EXPECT_FALSE(durable);
    EXPECT_EQ(reason(1), "journal_failed");
    free_disk();
    ledger_->finish(txn, CommitOutcome::not_mirrored);
}

TEST_F(LedgerTablesTest, RowsThatWentWhileAWindowIsOpenMakeItSuspect) {
    const auto other = ledger_->open_window(2);
    const auto window = ledger_->open_window(1);
    const auto removed = begin(truncated(1));
    EXPECT_EQ(reason(1), "truncate") << "before its COMMIT can be sent";
    const auto generation = [&] { return ledger_->suspect(1)->generation; };
    EXPECT_FALSE(ledger_->clear_suspect(1, generation())) << "it has not ended yet";
    ledger_->finish(removed, CommitOutcome::mirrored);
    EXPECT_EQ(reason(1), "truncate");
    // The chunk's rows are not committed yet: a verification finds both sides empty.
    const auto verified = generation();
    EXPECT_FALSE(ledger_->clear_suspect(1, verified));
    ledger_->close_window(window);
    EXPECT_FALSE(ledger_->clear_suspect(1, verified)) << "it did not see the chunk's rows";
    EXPECT_EQ(rows("suspects"), 1);
    EXPECT_TRUE(ledger_->clear_suspect(1, generation()));
    // Rows that were added leave a window alone, and so does a table without one.
    const auto again = ledger_->open_window(3);
    ledger_->finish(begin(copied(3)), CommitOutcome::mirrored);
    ledger_->finish(begin(truncated(4)), CommitOutcome::mirrored);
    EXPECT_EQ(reason(3) + reason(4), "");
    ledger_->close_window(again);
    ledger_->close_window(other);
}

TEST_F(LedgerTablesTest, AWindowOpenedBehindATruncateCannotHaveReadBeforeIt) {
    const auto removed = begin(truncated(1));
    const auto window = ledger_->open_window(1);
    ledger_->finish(removed, CommitOutcome::mirrored);
    ledger_->close_window(window);
    EXPECT_EQ(reason(1), "");
}

TEST_F(LedgerTablesTest, WhatIsMirroredWhileSettlingStaysSuspectUntilTheEndOfIt) {
    ledger_->begin_settling();
    ledger_->finish(begin(copied(1)), CommitOutcome::mirrored);
    EXPECT_EQ(reason(1), "settling");
    EXPECT_FALSE(ledger_->clear_suspect(1, ledger_->suspect(1)->generation));
    ledger_->end_settling();
    EXPECT_TRUE(ledger_->clear_suspect(1, ledger_->suspect(1)->generation));
    ledger_->finish(begin(copied(1)), CommitOutcome::mirrored);
    EXPECT_EQ(reason(1), "");
}

TEST_F(LedgerTablesTest, ForgottenWithEverythingElse) {
    const auto txn = begin(copied(1));
    ledger_->forget_all();
    EXPECT_FALSE(ledger_->in_flight(key(1, "any")));
    ledger_->finish(txn, CommitOutcome::not_mirrored);
    EXPECT_EQ(reason(1), "");
}

}  // namespace
}  // namespace banyan::router
