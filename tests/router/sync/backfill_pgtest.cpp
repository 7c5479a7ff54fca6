#include <future>

#include "router/sync/backfill_store.hpp"
#include "router/sync/table_copier.hpp"
#include "tests/router/sync/two_sides.hpp"

namespace banyan::test {
namespace {

class BackfillTest : public TwoSides {
   protected:
    void make_t(int rows) {
        on_both("CREATE TABLE t (id bigint PRIMARY KEY, v text)");
        on_source("INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, " +
                  std::to_string(rows) + ") i; ANALYZE t");
        load();
    }
    bool waits_for_a_row_of_the_target() {
        return eventually([&] {
            return on_target("SELECT count(*) FROM pg_stat_activity WHERE application_name ="
                             " 'banyan-backfill' AND wait_event_type = 'Lock'").number(0, 0) == 1;
        });
    }
};

TEST_F(BackfillTest, CopiesEveryRowAndIsDone) {
    make_t(1234);
    backfill_all();
    expect_equal("t");
    EXPECT_EQ(ledger_->dirty_count(), 0U);
}

TEST_F(BackfillTest, CopiesAnEmptyTable) {
    make_t(0);
    backfill_all();
    expect_equal("t");
}

TEST_F(BackfillTest, CopiesAwkwardKeysAndValues) {
    on_both(R"(
        CREATE TYPE mood AS ENUM ('sad', 'it''s', 'happy');
        CREATE DOMAIN code AS varchar(8);
        CREATE TABLE composite (a int, b text, c timestamptz, x bytea, PRIMARY KEY (b, a, c));
        CREATE TABLE texts (k text PRIMARY KEY, v text);
        CREATE TABLE uuids (k uuid PRIMARY KEY, v float8, n numeric, i interval);
        CREATE TABLE bytes (k bytea PRIMARY KEY, v bytea);
        CREATE TABLE moods (m mood, c code, "odd ""name" int, PRIMARY KEY (m, c));
        CREATE TABLE gen (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int,
                          b int GENERATED ALWAYS AS (a * 2) STORED NOT NULL);
        CREATE TABLE genkey (a int NOT NULL, b int GENERATED ALWAYS AS (a + 1) STORED PRIMARY KEY))");
    on_source(R"(
        INSERT INTO composite SELECT i % 7, 'k' || i % 11, '2020-01-01'::timestamptz + i * '1.000001s'::interval,
            CASE WHEN i % 3 = 0 THEN NULL ELSE decode(lpad(to_hex(i), 8, '0'), 'hex') END
            FROM generate_series(1, 700) i;
        INSERT INTO texts VALUES ('', ''), (E'a\tb', E'\\N'), (E'a\nb', NULL), (E'a\\b', E'\r\b\f\v'),
            ('it''s', '''"'), (E'\\.', E'\\.'), ('é😀', 'ü'), ('$1', '$$'), (' ', ' ');
        INSERT INTO texts SELECT E'\t\n\\''' || i, repeat('x', i % 100) FROM generate_series(1, 500) i;
        INSERT INTO uuids SELECT gen_random_uuid(), 1.0 / i, i / 7.0, i * '1 mon 1.5s'::interval
            FROM generate_series(1, 500) i;
        INSERT INTO uuids VALUES (gen_random_uuid(), 'NaN', 'NaN', NULL);
        INSERT INTO bytes SELECT decode(md5(i::text), 'hex'), E'\\x00' FROM generate_series(1, 500) i;
        INSERT INTO bytes VALUES ('', NULL);
        INSERT INTO moods SELECT m, 'c' || i, i FROM unnest(enum_range(NULL::mood)) m, generate_series(1, 300) i;
        INSERT INTO gen (a) SELECT i FROM generate_series(1, 500) i;
        INSERT INTO genkey (a) SELECT i FROM generate_series(1, 500) i)");
    config_.backfill.max_chunk_rows = 50;
    config_.backfill.workers = 2;
    load();
    backfill_all();
    for (const char* name : {"composite", "texts", "uuids", "bytes", "moods", "gen", "genkey"}) {
        expect_equal(name);
    }
    EXPECT_EQ(on_source("SELECT count(*) FROM composite").number(0, 0), 700);
}

TEST_F(BackfillTest, CopiesPartitionedTables) {
    on_both(R"(
        CREATE TABLE p (id int, d int, v text, PRIMARY KEY (id, d)) PARTITION BY RANGE (d);
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
        CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20) PARTITION BY LIST (d);
        CREATE TABLE p21 PARTITION OF p2 DEFAULT)");
    on_source("INSERT INTO p SELECT i, i % 20, 'v' FROM generate_series(1, 900) i");
    load();
    ASSERT_EQ(catalog_->tables().size(), 1U);
    backfill_all();
    expect_equal("p");
    EXPECT_GT(on_target("SELECT count(*) FROM p21").number(0, 0), 0);
}

TEST_F(BackfillTest, NeitherTriggersNorForeignKeysOnTheTargetStandInTheWay) {
    on_both(R"(
        CREATE TABLE child_first (id int PRIMARY KEY, parent int);
        CREATE TABLE parent (id int PRIMARY KEY, v text);
        ALTER TABLE child_first ADD FOREIGN KEY (parent) REFERENCES parent;
        CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN NEW.v := 'spoilt'; RETURN NEW; END $$)");
    on_source("INSERT INTO parent SELECT i, 'p' FROM generate_series(1, 300) i;"
              "INSERT INTO child_first SELECT i, i FROM generate_series(1, 300) i");
    on_target("CREATE TRIGGER s BEFORE INSERT ON parent FOR EACH ROW EXECUTE FUNCTION spoil()");
    load();
    backfill_all();
    expect_equal("parent");
    expect_equal("child_first");
}

TEST_F(BackfillTest, ConvergesWhileClientsWriteDeleteAndChangeKeys) {
    make_t(4000);
    on_source("DELETE FROM t WHERE id % 3 = 0");  // gaps for key changes and inserts
    start_repair();
    Storm storm(config_, *ledger_, table("t")->id, 3, 4000);
    config_.backfill.max_chunk_rows = 100;
    backfill_all();
    storm.stop();
    EXPECT_GT(storm.writes(), 0U);
    ASSERT_TRUE(eventually([&] { return ledger_->dirty_count() == 0; })) << repair_->last_error();
    expect_equal("t");
}

// Without the window's touched set the row would come back as a ghost that nobody knows of (R2).
TEST_F(BackfillTest, ARowDeletedBetweenReadAndInsertIsKnownToBeDirty) {
    make_t(100);
    on_target("INSERT INTO t VALUES (1, 'row 1')");  // so the chunk does not go straight in
    // Holds the chunk's insert on the target: its key 50 is being inserted and not committed.
    auto blocker = target_cluster->connect(database_);
    must(blocker.exec("BEGIN; INSERT INTO public.t VALUES (50, 'row 50')"));
    config_.mirror.lock_timeout = std::chrono::milliseconds(30000);
    Backfill backfill(backfill_context());
    backfill.start();
    ASSERT_TRUE(waits_for_a_row_of_the_target());
    DualWriter writer(config_, *ledger_, table("t")->id);
    writer.leave_missing_rows_to_the_window();
    writer.erase(7);  // read by the chunk, already in its temporary table
    EXPECT_EQ(on_source("SELECT count(*) FROM t WHERE id = 7").number(0, 0), 0);
    must(blocker.exec("COMMIT"));
    ASSERT_TRUE(eventually([&] { return backfill.done(); }));
    EXPECT_EQ(on_target("SELECT count(*) FROM t WHERE id = 7").number(0, 0), 1);  // the ghost
    ASSERT_EQ(ledger_->dirty_count(), 1U);
    start_repair();
    ASSERT_TRUE(eventually([&] { return ledger_->dirty_count() == 0; })) << repair_->last_error();
    expect_equal("t");
}

TEST_F(BackfillTest, ChunksGoStraightInWhereNothingIsThereYet) {
    make_t(100);
    auto source = source_cluster->connect(database_);
    auto target = target_cluster->connect(database_);
    ASSERT_TRUE(prepare_source_session(source, config_.mirror.lock_timeout));
    ASSERT_TRUE(prepare_target_session(target, config_.mirror.lock_timeout));
    ASSERT_TRUE(create_progress_store(target));
    TableCopier copier(*ledger_, source, target, table("t"), config_.mirror.lock_timeout);
    ASSERT_TRUE(copier.begin());
    EXPECT_EQ(must(copier.copy_chunk(40)), 40U);
    EXPECT_EQ(copier.straight_chunks(), 1U);
    // Written by the application meanwhile, and newer than what a chunk may have read.
    on_target("INSERT INTO t VALUES (50, 'newer')");
    EXPECT_EQ(must(copier.copy_chunk(40)), 40U);
    EXPECT_EQ(copier.straight_chunks(), 1U);
    EXPECT_EQ(on_target("SELECT v FROM t WHERE id = 50").text(0, 0), "newer");
    EXPECT_EQ(must(copier.copy_chunk(40)), 20U);
    EXPECT_EQ(copier.straight_chunks(), 1U);  // the next few are not even tried
    EXPECT_TRUE(copier.progress().done);
    EXPECT_EQ(on_target("SELECT count(*) FROM t").number(0, 0), 100);
}

// DDL locks the source's table first and then the target's. Who waits for it must not be in its way.
TEST_F(BackfillTest, WaitingForTheSourcesTableItHoldsNothingOfTheTargets) {
    make_t(100);
    config_.mirror.lock_timeout = std::chrono::milliseconds(30000);
    auto source = source_cluster->connect(database_);
    auto target = target_cluster->connect(database_);
    ASSERT_TRUE(prepare_source_session(source, config_.mirror.lock_timeout));
    ASSERT_TRUE(prepare_target_session(target, config_.mirror.lock_timeout));
    ASSERT_TRUE(create_progress_store(target));
    TableCopier copier(*ledger_, source, target, table("t"), config_.mirror.lock_timeout);
    ASSERT_TRUE(copier.begin());
    auto ddl = source_cluster->connect(database_);
    auto mirrored_ddl = target_cluster->connect(database_);
    must(ddl.exec("BEGIN; LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE"));
    auto copied = std::async(std::launch::async, [&] { return must(copier.copy_chunk(1000)); });
    ASSERT_TRUE(eventually([&] {
        return on_source("SELECT count(*) FROM pg_locks WHERE NOT granted").number(0, 0) == 1;
    }));
    must(mirrored_ddl.exec("SET lock_timeout = '5s'; BEGIN;"
                           "LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE; COMMIT"));
    must(ddl.exec("COMMIT"));
    EXPECT_EQ(copied.get(), 100U);
    expect_equal("t");
}

// The chunk has its rows in the table, uncommitted, when one of them is deleted: the delete finds
// nothing on the mirror, so the chunk must not commit that row.
TEST_F(BackfillTest, ARowDeletedWhileItsChunkGoesStraightInIsNotLeftThere) {
    make_t(100);
    auto blocker = target_cluster->connect(database_);
    must(blocker.exec("BEGIN; INSERT INTO public.t VALUES (50, 'row 50')"));
    config_.mirror.lock_timeout = std::chrono::milliseconds(30000);
    Backfill backfill(backfill_context());
    backfill.start();
    ASSERT_TRUE(waits_for_a_row_of_the_target());
    DualWriter writer(config_, *ledger_, table("t")->id);
    writer.leave_missing_rows_to_the_window();
    writer.erase(7);
    must(blocker.exec("ROLLBACK"));  // nothing is in the way any more
    ASSERT_TRUE(eventually([&] { return backfill.done(); }));
    EXPECT_EQ(on_target("SELECT count(*) FROM t WHERE id = 7").number(0, 0), 0);
    start_repair();
    ASSERT_TRUE(eventually([&] { return ledger_->dirty_count() == 0; })) << repair_->last_error();
    expect_equal("t");
}

// The chunk reads the row, for the delete has not committed: the touched set must keep it out.
TEST_F(BackfillTest, ADeleteInFlightWhenTheWindowOpensKeepsItsRowOut) {
    on_both("CREATE TYPE mood AS ENUM ('sad', 'it''s');"
            "CREATE TABLE c (m mood, id int, k text, PRIMARY KEY (m, id, k))");
    on_source("INSERT INTO c SELECT 'it''s', i, E'\\t' || i FROM generate_series(1, 20) i");
    load();
    auto reader = source_cluster->connect(database_);
    const Rows row = must(reader.exec("SELECT m, id, k FROM public.c WHERE id = 7", {}, true));
    CommitIntent intent;
    KeyWrite& removal = intent.writes.emplace_back();
    removal.removes = true;
    removal.key.table = table("c")->id;
    for (int column = 0; column < 3; ++column) {
        append_key_column(removal.key.bytes, row.view(0, column));
    }
    const TxnId txn = ledger_->begin_commit(std::move(intent), [](bool) {});
    backfill_all();
    EXPECT_EQ(on_target("SELECT count(*) FROM c").number(0, 0), 19);
    EXPECT_EQ(on_target("SELECT count(*) FROM c WHERE id = 7").number(0, 0), 0);
    EXPECT_EQ(ledger_->dirty_count(), 1U);
    ledger_->finish(txn, CommitOutcome::rolled_back);
    start_repair();
    ASSERT_TRUE(eventually([&] { return ledger_->dirty_count() == 0; })) << repair_->last_error();
    expect_equal("c");
}

TEST_F(BackfillTest, ANewProcessResumesWhereTheOldOneEndedAndCopiesNothingTwice) {
    make_t(3000);
    config_.backfill.max_chunk_rows = 100;
    config_.backfill.max_rows_per_second = 2000;
    std::uint64_t before = 0;
    {
        Backfill first(backfill_context());
        first.start();
        ASSERT_TRUE(eventually([&] { return first.progress().tables.at(0).rows_copied >= 300; }));
        first.stop();
        EXPECT_FALSE(first.done());
        before = first.progress().tables.at(0).rows_copied;
    }
    ASSERT_LT(before, 3000U);
    // What was copied before is gone from the target: copying it twice would bring it back.
    on_target("DELETE FROM t WHERE id = 1");
    config_.backfill.max_rows_per_second = 0;
    Backfill second(backfill_context());
    second.start();
    ASSERT_TRUE(eventually([&] { return second.done(); }));
    EXPECT_EQ(second.progress().tables.at(0).rows_copied, 3000U);
    EXPECT_EQ(on_target("SELECT count(*) FROM t").number(0, 0), 2999);

    Backfill third(backfill_context());
    third.start();
    ASSERT_TRUE(eventually([&] { return third.done(); }));
    EXPECT_EQ(on_target("SELECT count(*) FROM t").number(0, 0), 2999);
    ASSERT_TRUE(third.reset());
    EXPECT_TRUE(on_target("SELECT to_regnamespace('banyan') IS NULL").truth(0, 0));
}

TEST_F(BackfillTest, WaitsForTransactionsOlderThanMirroring) {
    make_t(10);
    auto old = source_cluster->connect(database_);
    must(old.exec("BEGIN; INSERT INTO public.t VALUES (5000, 'unmirrored')"));
    auto prepared = source_cluster->connect(database_);
    must(prepared.exec("BEGIN; INSERT INTO public.t VALUES (0, 'prepared'); PREPARE TRANSACTION 'gid'"));
    Backfill backfill(backfill_context());
    backfill.start();
    const auto waiting_for = [&] { return backfill.progress().tables.at(0).waiting_for; };
    ASSERT_TRUE(eventually(
        [&] { return waiting_for().find(std::to_string(old.process_id())) != std::string::npos; }))
        << waiting_for();
    EXPECT_EQ(backfill.progress().tables.at(0).state, "waiting");
    must(old.exec("COMMIT"));
    ASSERT_TRUE(eventually([&] { return waiting_for().find("'gid'") != std::string::npos; }));
    must(prepared.exec("COMMIT PREPARED 'gid'"));
    ASSERT_TRUE(eventually([&] { return backfill.done(); }));
    expect_equal("t");
}

TEST_F(BackfillTest, ARowThatCollidesOnAnotherUniqueIndexIsLeftToRepairNotDropped) {
    on_both("CREATE TABLE t (id bigint PRIMARY KEY, v text UNIQUE)");
    on_source("INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 500) i");
    on_target("INSERT INTO t VALUES (9999, 'v250')");  // in the way
    load();
    backfill_all();
    EXPECT_GT(ledger_->dirty_count(), 0U);
    EXPECT_LE(ledger_->dirty_count(), 64U);
    bool named = false;
    for (const DirtyKey& dirty : ledger_->dirty_sample(100)) {
        EXPECT_EQ(dirty.reason, "unique_conflict");
        named = named || dirty.key == bigint_key(table("t")->id, 250);
    }
    EXPECT_TRUE(named);
    on_target("DELETE FROM t WHERE id = 9999");
    start_repair();
    ASSERT_TRUE(eventually([&] { return ledger_->dirty_count() == 0; })) << repair_->last_error();
    expect_equal("t");
}

TEST_F(BackfillTest, ALockedRowOnTheTargetDoesNotStopTheOthers) {
    make_t(300);
    config_.mirror.lock_timeout = std::chrono::milliseconds(20);
    auto blocker = target_cluster->connect(database_);
    must(blocker.exec("BEGIN; INSERT INTO public.t VALUES (150, 'row 150')"));
    backfill_all();
    ASSERT_EQ(ledger_->dirty_count(), 1U);
    EXPECT_EQ(ledger_->dirty_sample(1).at(0).key, bigint_key(table("t")->id, 150));
    must(blocker.exec("COMMIT"));
    expect_equal("t");
}

TEST_F(BackfillTest, SurvivesACrashOfTheTarget) {
    make_t(2000);
    config_.backfill.max_rows_per_second = 2000;
    Backfill backfill(backfill_context());
    backfill.start();
    ASSERT_TRUE(eventually([&] { return backfill.progress().tables.at(0).rows_copied >= 200; }));
    target_cluster->stop("immediate");
    ASSERT_TRUE(eventually([&] { return backfill.progress().tables.at(0).state == "waiting"; }));
    target_cluster->restart();
    ASSERT_TRUE(eventually([&] { return backfill.done(); }));
    expect_equal("t");
    EXPECT_EQ(backfill.progress().tables.at(0).rows_copied, 2000U);
}

TEST_F(BackfillTest, PauseHoldsItAndResumeLetsItGoOn) {
    make_t(2000);
    config_.backfill.max_rows_per_second = 4000;
    Backfill backfill(backfill_context());
    backfill.start();
    ASSERT_TRUE(eventually([&] { return backfill.progress().tables.at(0).rows_copied > 0; }));
    EXPECT_EQ(backfill.progress().throttle_reason.substr(0, 19), "max_rows_per_second");
    backfill.pause();
    ASSERT_TRUE(eventually([&] { return backfill.progress().throttle_reason == "paused"; }));
    EXPECT_EQ(backfill.progress().state, "paused");
    EXPECT_FALSE(backfill.done());
    backfill.resume();
    ASSERT_TRUE(eventually([&] { return backfill.done(); }));
    expect_equal("t");
}

TEST_F(BackfillTest, ATableWithoutAKeyFailsWithWordsAndTheRestIsDone) {
    on_both("CREATE TABLE nokey (v int)");
    make_t(10);
    Backfill backfill(backfill_context());
    backfill.start();
    ASSERT_TRUE(eventually([&] { return backfill.done(); }));
    for (const TableProgress& shown : backfill.progress().tables) {
        EXPECT_EQ(shown.state, shown.name == "public.t" ? "done" : "failed");
        EXPECT_EQ(shown.error.empty(), shown.name == "public.t");
    }
}

TEST_F(BackfillTest, ARefusedTableFailsTheBackfillAndMayBeStartedAgain) {
    make_t(10);
    on_target("ALTER TABLE t RENAME TO u");
    Backfill backfill(backfill_context());
    backfill.start();
    ASSERT_TRUE(eventually([&] { return backfill.progress().state == "failed"; }));
    EXPECT_FALSE(backfill.progress().tables.at(0).error.empty());
    on_target("ALTER TABLE u RENAME TO t");
    backfill.start();
    ASSERT_TRUE(eventually([&] { return backfill.done(); }));
    expect_equal("t");
}

}  // namespace
}  // namespace banyan::test
