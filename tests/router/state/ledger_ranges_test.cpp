// Ranges of keys in the ledger: transactions of too many rows, and too many dirty keys.

#include <chrono>
#include <thread>

#include "router/state/journal_entry.hpp"
#include "tests/router/state/ledger_fixture.hpp"

namespace banyan::router {
namespace {

constexpr std::uint32_t int4 = 23;

RowKey numbered(TableId table, std::uint32_t number) {
    std::string value;
    for (const unsigned shift : {24U, 16U, 8U, 0U}) {
        value.push_back(static_cast<char>(number >> shift));
    }
    return key(table, value);
}

KeyRanges from_to(std::uint32_t low, std::uint32_t high) {
    KeyRanges rows = KeyRanges::none(int4);
    for (std::uint32_t i = low; i <= high; ++i) {
        rows.add(numbered(1, i).bytes);
    }
    return rows;
}

CommitIntent large(KeyRanges rows, bool removes = false) {
    CommitIntent intent;
    intent.tables.push_back({1, removes, "large", true, std::move(rows)});
    return intent;
}

class LedgerRangesTest : public LedgerTest {
   protected:
    // Which of these are suspect.
    std::vector<std::uint32_t> suspect(std::initializer_list<std::uint32_t> numbers) const {
        std::vector<std::uint32_t> found;
        const auto suspect = ledger_->suspect(1);
        for (const std::uint32_t number : numbers) {
            if (suspect && suspect->rows.contains(numbered(1, number).bytes)) {
                found.push_back(number);
            }
        }
        return found;
    }
    using Numbers = std::vector<std::uint32_t>;
};

TEST_F(LedgerRangesTest, TheirKeysAreInFlightAndNoOthers) {
    const auto first = begin(large(from_to(10, 20)));
    const auto second = begin(large(from_to(15, 30)));
    EXPECT_TRUE(ledger_->in_flight(numbered(1, 10)));
    EXPECT_TRUE(ledger_->in_flight(numbered(1, 30)));
    EXPECT_FALSE(ledger_->in_flight(numbered(1, 9)));
    EXPECT_FALSE(ledger_->in_flight(numbered(2, 15)));
    ledger_->finish(first, CommitOutcome::mirrored);
    EXPECT_FALSE(ledger_->in_flight(numbered(1, 10)));
    EXPECT_TRUE(ledger_->in_flight(numbered(1, 15)));
    ledger_->finish(second, CommitOutcome::rolled_back);
    EXPECT_FALSE(ledger_->in_flight(numbered(1, 15)));
    EXPECT_TRUE(ledger_->suspects().empty()) << "mirrored: nothing is left";
    EXPECT_EQ(rows("journal") + rows("suspects"), 0);
    EXPECT_EQ(ledger_->stats().collapsed_writes_total, 2U);
}

TEST_F(LedgerRangesTest, NotMirroredTheyAreSuspectAndNoOtherRows) {
    ledger_->finish(begin(large(from_to(10, 20))), CommitOutcome::not_mirrored);
    EXPECT_EQ(suspect({9, 10, 20, 21}), (Numbers{10, 20}));
    // Suspicions add up; the generation is that of the last.
    const auto generation = ledger_->suspect(1)->generation;
    ledger_->mark_suspect({{1, "more", from_to(100, 101)}});
    EXPECT_EQ(suspect({9, 10, 20, 21, 100}), (Numbers{10, 20, 100}));
    EXPECT_FALSE(ledger_->clear_suspect(1, generation));
    flush();
    reopen();
    EXPECT_EQ(suspect({9, 10, 20, 21, 100}), (Numbers{10, 20, 100})) << "also after a restart";
    ledger_->mark_suspect({{1, "ddl"}});
    EXPECT_EQ(suspect({9, 10, 21}), (Numbers{9, 10, 21})) << "the whole table takes them in";
    EXPECT_TRUE(ledger_->clear_suspect(1, ledger_->suspect(1)->generation));
    ledger_->mark_suspect({{1, "again", from_to(1, 2)}});
    EXPECT_EQ(suspect({2, 3}), (Numbers{2})) << "what was cleared does not come back";
}

TEST_F(LedgerRangesTest, LostOrCutOffByACrashTheyAreSuspect) {
    const auto txn = begin(large(from_to(1, 2)));
    ledger_->lose(txn, {{Side::target, 7}});
    EXPECT_TRUE(ledger_->in_flight(numbered(1, 1)));
    ledger_->resolve_limbo(txn);
    EXPECT_EQ(suspect({1, 2, 3}), (Numbers{1, 2}));
    dies([](Ledger& ledger, StateDb&) { begin(ledger, large(from_to(50, 60))); });
    EXPECT_EQ(suspect({1, 2, 3, 50, 60, 61}), (Numbers{1, 2, 50, 60}));
    EXPECT_EQ(rows("journal"), 0);
}

TEST_F(LedgerRangesTest, RowsThatGoAreSuspectWhenAWindowIsOpen) {
    const auto window = ledger_->open_window(1);
    ledger_->finish(begin(large(from_to(10, 20), true)), CommitOutcome::mirrored);
    EXPECT_EQ(suspect({9, 10, 20}), (Numbers{10, 20}));
    const auto verified = ledger_->suspect(1)->generation;
    EXPECT_FALSE(ledger_->clear_suspect(1, verified));
    ledger_->close_window(window);
    EXPECT_FALSE(ledger_->clear_suspect(1, verified)) << "the chunk's rows came after it";
    EXPECT_EQ(suspect({9, 10, 20}), (Numbers{10, 20}));
    EXPECT_TRUE(ledger_->clear_suspect(1, ledger_->suspect(1)->generation));
}

// Unlike TRUNCATE they hold no table: a chunk may read them between begin_commit and the commit.
TEST_F(LedgerRangesTest, AWindowOpenedWhileTheyAreInFlightMakesThemSuspectBeforeItReads) {
    const auto txn = begin(large(from_to(10, 20), true));
    const auto window = ledger_->open_window(1);
    EXPECT_EQ(suspect({9, 10, 20}), (Numbers{10, 20}));
    std::int64_t durable = 0;
    db_->read([&](sqlite3* raw) {
        sqlite::Statement select(raw, "SELECT count(*) FROM suspects");
        select.step();
        durable = select.number(0);
    });
    EXPECT_EQ(durable, 1) << "before open_window returns";
    ledger_->finish(txn, CommitOutcome::mirrored);
    EXPECT_FALSE(ledger_->clear_suspect(1, ledger_->suspect(1)->generation));
    ledger_->close_window(window);
    EXPECT_TRUE(ledger_->clear_suspect(1, ledger_->suspect(1)->generation));
    // Rows that did not go, and windows of other tables, are left alone.
    const auto stays = begin(large(from_to(1, 2)));
    const auto goes = begin(large(from_to(1, 2), true));
    const auto other = ledger_->open_window(2);
    ledger_->finish(goes, CommitOutcome::mirrored);
    const auto mine = ledger_->open_window(1);
    ledger_->finish(stays, CommitOutcome::mirrored);
    ledger_->close_window(mine);
    ledger_->close_window(other);
    EXPECT_TRUE(ledger_->suspects().empty());
}

TEST_F(LedgerRangesTest, AMillionRowsAreAnEntryOfAFewKilobytes) {
    KeyRanges rows = KeyRanges::none(int4);
    for (std::uint32_t i = 0; i < 1'000'000; ++i) {
        rows.add(numbered(1, i * 2).bytes);
    }
    const CommitIntent intent = large(std::move(rows));
    EXPECT_LT(encode_journal_entry(intent).size(), 8192U);
    const auto txn = begin(intent);
    EXPECT_TRUE(ledger_->in_flight(numbered(1, 1'999'998)));
    ledger_->finish(txn, CommitOutcome::mirrored);
    EXPECT_TRUE(ledger_->suspects().empty());
}

TEST_F(LedgerRangesTest, ADatabaseFromBeforeRangesIsTakenOver) {
    ledger_->mark_suspect({{1, "old"}});
    flush();
    ASSERT_TRUE(db_->submit_and_wait(
        [](sqlite3* raw) { sqlite::exec(raw, "ALTER TABLE suspects DROP COLUMN ranges"); }));
    reopen();
    EXPECT_EQ(suspect({1, 1'000'000}), (Numbers{1, 1'000'000}));
    ledger_->mark_suspect({{2, "new", from_to(1, 2)}});
    flush();
    reopen();
    EXPECT_FALSE(ledger_->suspect(2)->rows.all());
}

// --- too many dirty keys ---

TEST_F(LedgerRangesTest, BeyondItsLimitTheLargestTablesKeysBecomeRanges) {
    limits_.max_dirty_keys = 100;
    reopen();
    ledger_->set_tables({1, 2}, {{1, int4}});
    ledger_->mark_dirty({numbered(2, 7)}, "test");
    const auto handed_out = [&] {
        auto keys = ledger_->begin_repair(1);
        ledger_->end_repair();
        return keys.front();
    };
    for (std::uint32_t i = 0; i < 99; ++i) {
        ledger_->mark_dirty({numbered(1, 1000 + i)}, "test");
    }
    EXPECT_EQ(ledger_->dirty_count(), 100U);
    EXPECT_TRUE(ledger_->suspects().empty());
    ledger_->clear_dirty(numbered(2, 7), handed_out().generation);
    const DirtyKey repaired = handed_out();
    ledger_->finish(begin({{{numbered(1, 5), false, false}, {numbered(2, 7), false, false}}, {}}),
                    CommitOutcome::not_mirrored);
    EXPECT_EQ(ledger_->dirty_count(1), 0U);
    EXPECT_EQ(ledger_->dirty_count(2), 1U) << "the smaller table keeps its own";
    EXPECT_EQ(suspect({4, 5, 6, 999, 1000, 1098, 1099}), (Numbers{5, 1000, 1098}));
    EXPECT_EQ(ledger_->suspect(1)->reason, "too_many_dirty_keys");
    ledger_->clear_dirty(repaired.key, repaired.generation);  // by a repair that knew it before
    EXPECT_EQ(ledger_->stats().collapsed_dirty_total, 100U);
    EXPECT_EQ(ledger_->dirty_tables(), (std::vector<std::pair<TableId, std::uint64_t>>{{2, 1}}));
    EXPECT_EQ(rows("dirty"), 1);
    EXPECT_EQ(rows("suspects"), 1);
    dies([](Ledger&, StateDb&) {});
    EXPECT_EQ(ledger_->dirty_count(), 1U);
    EXPECT_EQ(suspect({4, 5, 6}), (Numbers{5}));
}

TEST_F(LedgerRangesTest, WithoutAnOrderedKeyTheWholeTableIsSuspect) {
    limits_.max_dirty_keys = 100;
    reopen();
    std::vector<RowKey> keys;
    for (std::uint32_t i = 0; i < 101; ++i) {
        keys.push_back(key(3, std::to_string(i)));
    }
    ledger_->mark_dirty(keys, "test");
    EXPECT_EQ(ledger_->dirty_count(), 0U);
    EXPECT_TRUE(ledger_->suspect(3)->rows.all());
}

// In the one SQLite transaction: however it is cut off, a key is dirty or within a suspicion.
TEST_F(LedgerRangesTest, AKeyIsForgottenOnlyTogetherWithItsSuspicion) {
    limits_.max_dirty_keys = 100;
    reopen();
    ledger_->set_tables({1}, {{1, int4}});
    std::atomic<bool> over{false};
    std::thread writer([&] {
        for (std::uint32_t round = 0; round < 60; ++round) {
            std::vector<RowKey> keys;
            for (std::uint32_t i = 0; i < 60; ++i) {
                keys.push_back(numbered(1, i));
            }
            ledger_->mark_dirty(keys, "test");
            keys.clear();
            for (std::uint32_t i = 60; i < 120; ++i) {
                keys.push_back(numbered(1, i));
            }
            ledger_->mark_dirty(keys, "test");
        }
        flush();
        over = true;
    });
    std::int64_t worst = 1000;
    bool begun = false;
    while (!over) {
        db_->read([&](sqlite3* raw) {  // one statement, so one state of the database
            sqlite::Statement select(raw,
                                     "SELECT (SELECT count(*) FROM dirty),"
                                     " (SELECT count(*) FROM suspects)");
            select.step();
            begun = begun || select.number(0) >= 60;
            if (begun && select.number(1) == 0) {
                worst = std::min(worst, select.number(0));
            }
        });
    }
    writer.join();
    EXPECT_GE(worst, 60) << "keys were gone before their suspicion was there";
    EXPECT_EQ(suspect({0, 119, 120}), (Numbers{0, 119}));
}

// A backlog of very many keys is worked off in steps that do not grow with it.
TEST_F(LedgerRangesTest, ALargeBacklogIsWorkedOffInOrderAndInSteps) {
    constexpr std::uint32_t keys = 50'000;
    for (std::uint32_t i = 0; i < keys; i += 1000) {
        std::vector<RowKey> batch;
        for (std::uint32_t k = i; k < i + 1000; ++k) {
            batch.push_back(numbered(1 + k % 3, k));
        }
        ledger_->mark_dirty(batch, "test");
    }
    std::uint32_t expected = 0;
    std::uint32_t batches = 0;
    for (;;) {
        const auto found = ledger_->begin_repair(64);
        ledger_->end_repair();
        if (found.empty()) {
            break;
        }
        ++batches;
        for (const DirtyKey& dirty : found) {
            ASSERT_EQ(dirty.key, numbered(1 + expected % 3, expected));
            ledger_->clear_dirty(dirty.key, dirty.generation);
            ++expected;
        }
    }
    EXPECT_EQ(expected, keys);
    EXPECT_EQ(batches, (keys + 63) / 64) << "no key is handed out twice";
    EXPECT_EQ(rows("dirty"), 0);
    EXPECT_EQ(ledger_->stats().oldest_dirty.count(), 0);
}

}  // namespace
}  // namespace banyan::router
