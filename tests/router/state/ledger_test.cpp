#include "router/state/ledger.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <map>
#include <thread>
#include <tuple>

#include "tests/router/state/ledger_fixture.hpp"

namespace banyan::router {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::UnorderedElementsAre;

using Pairs = std::map<std::string, std::string>;

// --- transactions ---

TEST_F(LedgerTest, AMirroredTransactionLeavesNothing) {
    const TxnId txn = begin(upsert(key(1, "a")));
    EXPECT_TRUE(ledger_->in_flight(key(1, "a")));
    EXPECT_EQ(rows("journal"), 1);
    ledger_->finish(txn, CommitOutcome::mirrored);
    EXPECT_FALSE(ledger_->in_flight(key(1, "a")));
    EXPECT_EQ(dirty(), Pairs{});
    EXPECT_EQ(rows("journal"), 0);
}

TEST_F(LedgerTest, OnlyKeysSaidToBeDirtyStayDirtyWhenMirrored) {
    CommitIntent intent = upsert(key(1, "a"));
    intent.writes.push_back({key(1, "b"), true, true});
    ledger_->finish(begin(intent), CommitOutcome::mirrored);
    EXPECT_EQ(dirty(), (Pairs{{"b", "touched_no_row"}}));
    EXPECT_EQ(rows("journal"), 0);
    EXPECT_EQ(rows("dirty"), 1);
}

// R18: a transaction that is not mirrored may write the row after this one.
TEST_F(LedgerTest, WhatIsMirroredWhileSettlingStaysDirtyAndIsNotRepairedBeforeTheEnd) {
    ledger_->begin_settling();
    const TxnId during = begin(upsert(key(1, "a")));
    ledger_->finish(during, CommitOutcome::mirrored);
    EXPECT_EQ(ledger_->dirty_count(), 1U);
    EXPECT_TRUE(ledger_->begin_repair(10).empty());
    ledger_->end_settling();
    const auto keys = ledger_->begin_repair(10);
    ASSERT_EQ(keys.size(), 1U);
    EXPECT_EQ(keys[0].reason, "settling");
    ledger_->end_repair();
    const TxnId after = begin(upsert(key(1, "b")));
    ledger_->finish(after, CommitOutcome::mirrored);
    EXPECT_EQ(ledger_->dirty_count(), 1U);
    ledger_->begin_settling();
    ledger_->forget_all();
    const TxnId later = begin(upsert(key(1, "c")));
    ledger_->finish(later, CommitOutcome::mirrored);
    EXPECT_EQ(ledger_->dirty_count(), 0U);
}

TEST_F(LedgerTest, EveryKeyTurnsDirtyWhenNotMirrored) {
    CommitIntent intent = upsert(key(1, "a"));
    intent.writes.push_back({key(2, "b"), true, false});
    ledger_->finish(begin(intent), CommitOutcome::not_mirrored);
    EXPECT_EQ(dirty(), (Pairs{{"a", "not_mirrored"}, {"b", "not_mirrored"}}));
    EXPECT_EQ(ledger_->dirty_count(1), 1U);
    EXPECT_EQ(rows("dirty"), 2);
}

TEST_F(LedgerTest, ARolledBackTransactionIsForgotten) {
    CommitIntent intent = upsert(key(1, "a"));
    intent.writes[0].dirty = true;
    ledger_->finish(begin(intent), CommitOutcome::rolled_back);
    EXPECT_EQ(dirty(), Pairs{});
    EXPECT_EQ(rows("journal"), 0);
}

TEST_F(LedgerTest, AKeyIsInFlightUntilItsLastTransactionEnds) {
    const TxnId first = begin(upsert(key(1, "a")));
    const TxnId second = begin(upsert(key(1, "a")));
    ledger_->finish(first, CommitOutcome::mirrored);
    EXPECT_TRUE(ledger_->in_flight(key(1, "a")));
    ledger_->finish(second, CommitOutcome::mirrored);
    EXPECT_FALSE(ledger_->in_flight(key(1, "a")));
    EXPECT_FALSE(ledger_->in_flight(key(2, "a")));
}

TEST_F(LedgerTest, AnUnknownOrRepeatedFinishIsIgnored) {
    const TxnId txn = begin(upsert(key(1, "a")));
    ledger_->finish(txn, CommitOutcome::mirrored);
    ledger_->finish(txn, CommitOutcome::not_mirrored);
    ledger_->finish(99, CommitOutcome::not_mirrored);
    EXPECT_EQ(dirty(), Pairs{});
}

TEST_F(LedgerTest, FinishMayComeFromTheAnswerItself) {
    std::promise<void> finished;
    std::promise<TxnId> txn;
    auto known = txn.get_future();
    txn.set_value(ledger_->begin_commit(upsert(key(1, "a")), [&](bool durable) {
        EXPECT_TRUE(durable);
        ledger_->finish(known.get(), CommitOutcome::mirrored);
        finished.set_value();
    }));
    finished.get_future().wait();
    EXPECT_EQ(rows("journal"), 0);
}

TEST_F(LedgerTest, WaitInFlightWaitsForTheTransactionsThereAtTheCallOnly) {
    EXPECT_TRUE(ledger_->wait_in_flight(0ms));
    const TxnId first = begin(upsert(key(1, "a")));
    EXPECT_FALSE(ledger_->wait_in_flight(10ms));
    std::thread ender([&] {
        std::this_thread::sleep_for(20ms);
        begin(upsert(key(1, "later")));  // never ends
        ledger_->finish(first, CommitOutcome::mirrored);
    });
    EXPECT_TRUE(ledger_->wait_in_flight(10s));
    ender.join();
}

// --- limbo ---

TEST_F(LedgerTest, ALostTransactionStaysInFlightUntilResolvedAndThenIsDirty) {
    const TxnId txn = begin(upsert(key(1, "a")));
    ledger_->lose(txn, {{Side::source, 4711}});
    EXPECT_TRUE(ledger_->in_flight(key(1, "a")));
    EXPECT_FALSE(ledger_->wait_in_flight(10ms));
    EXPECT_EQ(ledger_->stats().limbo, 1U);
    const auto limbo = ledger_->limbo();
    ASSERT_EQ(limbo.size(), 1U);
    EXPECT_EQ(limbo[0].first, txn);
    EXPECT_EQ(limbo[0].second.at(0).process_id, 4711);
    EXPECT_EQ(rows("journal"), 1);
    EXPECT_EQ(dirty(), Pairs{});
    ledger_->resolve_limbo(txn);
    EXPECT_FALSE(ledger_->in_flight(key(1, "a")));
    EXPECT_EQ(dirty(), (Pairs{{"a", "unknown_outcome"}}));
    EXPECT_EQ(rows("journal"), 0);
}

TEST_F(LedgerTest, ResolvingATransactionThatWasNotLostDoesNothing) {
    const TxnId txn = begin(upsert(key(1, "a")));
    ledger_->resolve_limbo(txn);
    EXPECT_TRUE(ledger_->in_flight(key(1, "a")));
    ledger_->finish(txn, CommitOutcome::mirrored);
}

// --- generations and repair ---

TEST_F(LedgerTest, OnlyTheGenerationThatWasReadIsCleared) {
    ledger_->mark_dirty({key(1, "a")}, "test");
    const auto read = ledger_->begin_repair(10);
    ASSERT_EQ(read.size(), 1U);
    ledger_->mark_dirty({key(1, "a")}, "again");
    ledger_->clear_dirty(key(1, "a"), read[0].generation);
    EXPECT_EQ(dirty(), (Pairs{{"a", "again"}}));
    EXPECT_EQ(rows("dirty"), 1);
    EXPECT_GT(generation(key(1, "a")), read[0].generation);
    ledger_->clear_dirty(key(1, "a"), generation(key(1, "a")));
    ledger_->end_repair();
    EXPECT_EQ(dirty(), Pairs{});
    EXPECT_EQ(rows("dirty"), 0);
    EXPECT_EQ(ledger_->stats().repaired_total, 1U);
}

TEST_F(LedgerTest, AKeyClearedAndMarkedAgainHasANewGenerationEvenAfterARestart) {
    ledger_->mark_dirty({key(1, "a"), key(1, "b")}, "test");
    const auto first = generation(key(1, "a"));
    ledger_->clear_dirty(key(1, "a"), first);
    ledger_->mark_dirty({key(1, "a")}, "test");
    const auto second = generation(key(1, "a"));
    EXPECT_GT(second, first);
    reopen();
    EXPECT_EQ(generation(key(1, "a")), second);
    ledger_->mark_dirty({key(1, "a")}, "test");
    EXPECT_GT(generation(key(1, "a")), second);
}

TEST_F(LedgerTest, KeysAreRepairedInTheOrderTheyBecameDirtyAcrossTables) {
    ledger_->mark_dirty({key(2, "c"), key(1, "a"), key(2, "b")}, "test");
    std::vector<std::string> order;
    for (const DirtyKey& found : ledger_->begin_repair(2)) {
        order.push_back(found.key.bytes.substr(4));
    }
    EXPECT_THAT(order, ElementsAre("c", "a"));
    ledger_->end_repair();
}

TEST_F(LedgerTest, ARequeuedKeyWaitsForItsTimeAndCountsItsAttempts) {
    ledger_->mark_dirty({key(1, "a"), key(1, "b")}, "test");
    ledger_->requeue(key(1, "a"), 30ms);
    auto now = ledger_->begin_repair(10);
    ledger_->end_repair();
    ASSERT_EQ(now.size(), 1U);
    EXPECT_EQ(now[0].key, key(1, "b"));
    ledger_->clear_dirty(key(1, "b"), now[0].generation);
    ledger_->wait_for_work(10s);  // returns when the delay has passed
    now = ledger_->begin_repair(10);
    ledger_->end_repair();
    ASSERT_EQ(now.size(), 1U);
    EXPECT_EQ(now[0].attempts, 1U);
}

TEST_F(LedgerTest, WaitForWorkWakesUpWhenAKeyTurnsDirty) {
    std::thread marker([&] {
        std::this_thread::sleep_for(20ms);
        ledger_->mark_dirty({key(1, "a")}, "test");
    });
    ledger_->wait_for_work(60s);
    EXPECT_EQ(ledger_->begin_repair(1).size(), 1U);
    ledger_->end_repair();
    marker.join();
}

// --- windows ---

TEST_F(LedgerTest, AWindowHoldsRemovalsBeforeAndWhileItIsOpen) {
    const TxnId before = begin(removal(key(1, "before")));
    begin(upsert(key(1, "upsert")));
    begin(removal(key(2, "elsewhere")));
    const auto window = ledger_->open_window(1);
    const TxnId during = begin(removal(key(1, "during")));
    EXPECT_THAT(ledger_->touched(window), UnorderedElementsAre(key(1, "before"), key(1, "during")));
    // Dirty at once and for good, whatever becomes of the transactions.
    EXPECT_EQ(dirty(), (Pairs{{"before", "window"}, {"during", "window"}}));
    EXPECT_EQ(rows("dirty"), 2);
    ledger_->finish(before, CommitOutcome::mirrored);
    ledger_->finish(during, CommitOutcome::rolled_back);
    ledger_->close_window(window);
    EXPECT_EQ(dirty(), (Pairs{{"before", "window"}, {"during", "window"}}));
    EXPECT_TRUE(ledger_->touched(window).empty()) << "closed";
}

TEST_F(LedgerTest, ARemovalInLimboIsTouchedByAWindowOpenedLater) {
    const TxnId txn = begin(removal(key(1, "a")));
    ledger_->lose(txn, {});
    const auto window = ledger_->open_window(1);
    EXPECT_THAT(ledger_->touched(window), ElementsAre(key(1, "a")));
}

TEST_F(LedgerTest, NoTableIsRepairedWhileAWindowIsOpenOnIt) {
    ledger_->mark_dirty({key(1, "a"), key(2, "b")}, "test");
    const auto first = ledger_->open_window(1);
    const auto second = ledger_->open_window(1);
    for (const auto window : {first, second}) {
        const auto keys = ledger_->begin_repair(10);
        ledger_->end_repair();
        ASSERT_EQ(keys.size(), 1U);
        EXPECT_EQ(keys[0].key, key(2, "b"));
        ledger_->close_window(window);
    }
    EXPECT_EQ(ledger_->begin_repair(10).size(), 2U);
    ledger_->end_repair();
}

TEST_F(LedgerTest, AWindowWaitsForTheRepairOfItsTable) {
    ledger_->mark_dirty({key(1, "a")}, "test");
    ASSERT_EQ(ledger_->begin_repair(10).size(), 1U);
    ledger_->open_window(2);  // of another table: at once
    auto opened = std::async(std::launch::async, [&] { return ledger_->open_window(1); });
    EXPECT_EQ(opened.wait_for(30ms), std::future_status::timeout);
    EXPECT_TRUE(ledger_->begin_repair(10).empty()) << "the waiting window goes first";
    ledger_->end_repair();
    opened.get();
}

// --- suspects ---

TEST_F(LedgerTest, ATransactionsMarkHoldsUntilItEndsAndMarksAnew) {
    const TxnId txn = begin({{}, {{1, "truncate"}}});
    const auto marked = ledger_->suspect(1);
    ASSERT_TRUE(marked);
    EXPECT_EQ(marked->reason, "truncate");
    EXPECT_FALSE(ledger_->clear_suspect(1, marked->generation)) << "still in flight";
    ledger_->finish(txn, CommitOutcome::mirrored);
    EXPECT_FALSE(ledger_->clear_suspect(1, marked->generation)) << "verified before the commit";
    const auto after = ledger_->suspect(1);
    ASSERT_TRUE(after);
    EXPECT_GT(after->generation, marked->generation);
    EXPECT_EQ(after->since_unix_ms, marked->since_unix_ms);
    EXPECT_EQ(rows("suspects"), 1);
    EXPECT_TRUE(ledger_->clear_suspect(1, after->generation));
    EXPECT_FALSE(ledger_->suspect(1));
    EXPECT_EQ(rows("suspects"), 0);
}

TEST_F(LedgerTest, ARolledBackMarkDoesNotMarkAnew) {
    const TxnId txn = begin({{}, {{1, "do"}}});
    const auto marked = ledger_->suspect(1);
    ledger_->finish(txn, CommitOutcome::rolled_back);
    EXPECT_TRUE(ledger_->clear_suspect(1, marked->generation));
}

TEST_F(LedgerTest, AMarkForEveryTableBecomesOneForEachKnownTable) {
    ledger_->set_tables({1, 2});
    ledger_->mark_suspect({{0, "do"}});
    EXPECT_EQ(ledger_->suspects().size(), 2U);
    EXPECT_TRUE(ledger_->clear_suspect(1, ledger_->suspect(1)->generation));
    EXPECT_FALSE(ledger_->suspect(1));
    EXPECT_TRUE(ledger_->suspect(2));
}

TEST_F(LedgerTest, AMarkForEveryTableMadeBeforeTheyWereKnownStandsUntilTheyAre) {
    ledger_->mark_suspect({{0, "do"}});
    reopen();
    EXPECT_EQ(ledger_->suspect(5)->table, 0U);
    EXPECT_FALSE(ledger_->clear_suspect(5, ledger_->suspect(5)->generation));
    ledger_->set_tables({4, 5});
    EXPECT_EQ(ledger_->suspects().size(), 2U);
    EXPECT_EQ(ledger_->suspect(5)->table, 5U);
    EXPECT_FALSE(ledger_->suspect(6));
    reopen();
    EXPECT_EQ(ledger_->suspects().size(), 2U);
    EXPECT_TRUE(ledger_->clear_suspect(5, ledger_->suspect(5)->generation));
}

TEST_F(LedgerTest, AnInFlightMarkForEveryTableHoldsEachOfThem) {
    ledger_->set_tables({1});
    const TxnId txn = begin({{}, {{0, "do"}}});
    EXPECT_FALSE(ledger_->clear_suspect(1, ledger_->suspect(1)->generation));
    ledger_->finish(txn, CommitOutcome::not_mirrored);
    EXPECT_TRUE(ledger_->clear_suspect(1, ledger_->suspect(1)->generation));
}

// --- restart ---

TEST_F(LedgerTest, AfterACrashEveryJournaledKeyIsDirtyAndEveryMarkStands) {
    dies([](Ledger& ledger, StateDb&) {
        CommitIntent intent = upsert(key(1, "a"));
        intent.writes.push_back({key(2, "b"), true, true});
        intent.suspects.push_back({3, "copy"});
        begin(ledger, intent);
        const TxnId done = begin(ledger, upsert(key(1, "done"))).first;
        ledger.finish(done, CommitOutcome::mirrored);
        begin(ledger, upsert(key(1, "last")));
    });
    EXPECT_EQ(dirty(), (Pairs{{"a", "recovered"}, {"b", "recovered"}, {"last", "recovered"}}));
    EXPECT_EQ(ledger_->suspect(3)->reason, "copy");
    EXPECT_EQ(ledger_->stats().in_flight, 0U);
    EXPECT_EQ(rows("journal"), 0);
    EXPECT_EQ(rows("dirty"), 3);
    reopen();
    EXPECT_EQ(ledger_->dirty_count(), 3U);
}

TEST_F(LedgerTest, AfterACrashInAnOpenWindowItsTouchedKeysAreDirty) {
    dies([](Ledger& ledger, StateDb& db) {
        const TxnId before = begin(ledger, removal(key(1, "before"))).first;
        ledger.open_window(1);
        const TxnId during = begin(ledger, removal(key(1, "during"))).first;
        ledger.finish(before, CommitOutcome::mirrored);
        ledger.finish(during, CommitOutcome::mirrored);
        db.submit_and_wait([](sqlite3*) {});
    });
    EXPECT_EQ(dirty(), (Pairs{{"before", "window"}, {"during", "window"}}));
}

TEST_F(LedgerTest, ALimboTransactionIsRecoveredAfterACrash) {
    dies([](Ledger& ledger, StateDb&) {
        ledger.lose(begin(ledger, upsert(key(1, "a"))).first, {{Side::target, 1}});
    });
    EXPECT_EQ(dirty(), (Pairs{{"a", "recovered"}}));
    EXPECT_TRUE(ledger_->limbo().empty());
}

TEST_F(LedgerTest, ADamagedJournalEntryMakesEveryTableSuspect) {
    ASSERT_TRUE(db_->submit_and_wait(
        [](sqlite3* raw) { sqlite::exec(raw, "INSERT INTO journal VALUES (5, x'0102')"); }));
    reopen();
    EXPECT_EQ(ledger_->suspect(1)->reason, "journal_damaged");
    EXPECT_EQ(rows("journal"), 0);
}

// --- a failing journal ---

TEST_F(LedgerTest, AFailedJournalWriteMakesTheTablesSuspectAndIsMadeUpForLater) {
    fill_disk();
    CommitIntent intent = upsert(key(7, std::string(50'000, 'k')));
    intent.writes.push_back({key(8, "b"), false, false});
    const auto [txn, durable] = begin(*ledger_, intent);
    EXPECT_FALSE(durable);
    EXPECT_TRUE(ledger_->stats().journal_failed);
    EXPECT_GE(ledger_->stats().journal_errors_total, 1U);
    EXPECT_EQ(ledger_->suspect(7)->reason, "journal_failed");
    EXPECT_EQ(ledger_->suspect(8)->reason, "journal_failed");
    ledger_->finish(txn, CommitOutcome::not_mirrored);
    flush();
    EXPECT_EQ(ledger_->dirty_count(), 2U) << "in memory all the same";
    free_disk();
    for (int i = 0; i < 200 && ledger_->stats().journal_failed; ++i) {
        std::this_thread::sleep_for(20ms);
    }
    EXPECT_FALSE(ledger_->stats().journal_failed);
    reopen();
    EXPECT_EQ(ledger_->dirty_count(), 2U);
    EXPECT_EQ(ledger_->suspect(7)->reason, "journal_failed");
    EXPECT_FALSE(db_->machine_crashed());
}

TEST_F(LedgerTest, ARunThatEndsWhileItsJournalFailsIsNotTrusted) {
    fill_disk();
    EXPECT_FALSE(begin(*ledger_, upsert(key(7, std::string(50'000, 'k')))).second);
    reopen();
    EXPECT_TRUE(db_->machine_crashed());
}

TEST_F(LedgerTest, OtherTransactionsOfTheBatchAreJournaledAllTheSame) {
    fill_disk();
    EXPECT_FALSE(begin(*ledger_, upsert(key(7, std::string(50'000, 'k')))).second);
    EXPECT_TRUE(begin(*ledger_, upsert(key(1, "small"))).second);
}

// --- the rest ---

TEST_F(LedgerTest, ForgetAllLeavesNothingAndIgnoresLateEnds) {
    ledger_->mark_suspect({{1, "x"}});
    ledger_->mark_dirty({key(1, "a")}, "test");
    const TxnId txn = begin(upsert(key(1, "b")));
    ledger_->forget_all();
    ledger_->finish(txn, CommitOutcome::not_mirrored);
    EXPECT_EQ(ledger_->dirty_count(), 0U);
    EXPECT_TRUE(ledger_->suspects().empty());
    EXPECT_TRUE(ledger_->wait_in_flight(0ms));
    EXPECT_EQ(rows("journal") + rows("dirty") + rows("suspects"), 0);
}

TEST_F(LedgerTest, StatsCount) {
    const TxnId txn = begin(upsert(key(1, "a")));
    begin({{}, {{2, "x"}}});
    ledger_->finish(txn, CommitOutcome::not_mirrored);
    flush();
    const LedgerStats stats = ledger_->stats();
    EXPECT_EQ(stats.in_flight, 1U);
    EXPECT_EQ(stats.dirty, 1U);
    EXPECT_EQ(stats.suspect_tables, 1U);
    EXPECT_EQ(stats.journaled_total, 2U);
    EXPECT_GT(stats.journal_batches_total, 0U);
    EXPECT_FALSE(stats.journal_failed);
}

TEST_F(LedgerTest, ManyThreadsAtOnceLeaveMemoryAndDatabaseAlike) {
    std::vector<std::thread> threads;
    std::atomic<bool> over{false};
    for (int thread = 0; thread < 4; ++thread) {
        threads.emplace_back([&, thread] {
            for (int i = 0; i < 500; ++i) {
                const RowKey row = key(static_cast<TableId>(1 + i % 3), std::to_string(i % 17));
                const auto [txn, durable] = begin(*ledger_, {{{row, i % 2 == 0, i % 5 == 0}}, {}});
                ASSERT_TRUE(durable);
                ledger_->finish(txn, (i + thread) % 7 == 0 ? CommitOutcome::not_mirrored
                                                           : CommitOutcome::mirrored);
            }
        });
    }
    threads.emplace_back([&] {
        while (!over) {
            for (const DirtyKey& found : ledger_->begin_repair(8)) {
                ledger_->clear_dirty(found.key, found.generation);
            }
            ledger_->end_repair();
        }
    });
    threads.emplace_back([&] {
        while (!over) {
            const auto window = ledger_->open_window(1);
            ledger_->touched(window);
            ledger_->close_window(window);
        }
    });
    for (std::size_t i = 0; i < 4; ++i) {
        threads[i].join();
    }
    over = true;
    threads[4].join();
    threads[5].join();
    // The repairer may have cleared everything; something should be left to compare.
    ledger_->finish(begin(upsert(key(4, "last"))), CommitOutcome::not_mirrored);
    EXPECT_EQ(ledger_->stats().in_flight, 0U);
    EXPECT_EQ(rows("journal"), 0);
    EXPECT_EQ(static_cast<std::uint64_t>(rows("dirty")), ledger_->dirty_count());
    // dirty() would mix the three tables' keys up.
    const auto everything = [&] {
        std::vector<std::tuple<TableId, std::string, std::uint64_t, std::string>> keys;
        for (const DirtyKey& found : ledger_->dirty_sample(1000)) {
            keys.emplace_back(found.key.table, found.key.bytes, found.generation, found.reason);
        }
        std::sort(keys.begin(), keys.end());
        return keys;
    };
    const auto before = everything();
    EXPECT_FALSE(before.empty());
    reopen();
    EXPECT_EQ(everything(), before);
}

}  // namespace
}  // namespace banyan::router
