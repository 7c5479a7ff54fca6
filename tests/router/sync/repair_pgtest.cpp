#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "router/catalog/catalog_loader.hpp"
#include "router/state/state_db.hpp"
#include "router/sync/recovery.hpp"
#include "router/sync/repair.hpp"
#include "tests/router/state/temp_directory.hpp"
#include "tests/router/sync/random_writer.hpp"
#include "tests/support/postgres_cluster.hpp"

namespace banyan::router {
namespace {

using namespace std::chrono_literals;
using Lines = std::vector<std::string>;

class RepairTest : public testing::Test {
   protected:
    static void SetUpTestSuite() {
        source_ = std::make_unique<test::PostgresCluster>();
        target_ = std::make_unique<test::PostgresCluster>();
    }
    static void TearDownTestSuite() {
        source_.reset();
        target_.reset();
    }

    void SetUp() override {
        both("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
        auto db = StateDb::open(directory_.path(), StateDb::Durability::process);
        ASSERT_TRUE(db) << db.error().message;
        db_ = std::move(*db);
        ledger_ = std::make_unique<Ledger>(*db_);
        config_.source = source_->endpoint();
        config_.target = target_->endpoint();
        config_.mirror.lock_timeout = 100ms;
    }

    void TearDown() override { repair_.reset(); }

    static void both(const std::string& sql) {
        source_->run(sql);
        target_->run(sql);
    }

    // Reads the catalogue and starts repair.
    void start() {
        const Side primary = primary_of(phase_);
        auto source = source_->connect();
        auto target = target_->connect();
        auto loaded = primary == Side::source ? load_catalog(source, target, primary, *db_, {}, 1)
                                              : load_catalog(target, source, primary, *db_, {}, 1);
        ASSERT_TRUE(loaded) << loaded.error().message;
        catalog_ = *loaded;
        repair_ = std::make_unique<Repair>(RepairContext{
            config_, *ledger_, breaker_, [this] { return phase_; }, [this] { return catalog_; }});
        repair_->start();
    }

    TableId table(const std::string& name) { return db_->table_id("public", name); }

    // The key whose columns are this SELECT list, with casts: "1::int4, 'x'::text".
    RowKey key(const std::string& name, const std::string& columns) {
        auto connection = source_->connect();
        auto rows = connection.exec("SELECT " + columns, {}, true);
        EXPECT_TRUE(rows) << rows.error().message;
        RowKey made{table(name), {}};
        for (int column = 0; column < rows->columns(); ++column) {
            append_key_column(made.bytes, rows->view(0, column));
        }
        return made;
    }

    void mark(const std::string& name, const Lines& keys) {
        std::vector<RowKey> made;
        for (const std::string& columns : keys) {
            made.push_back(key(name, columns));
        }
        ledger_->mark_dirty(made, "test");
    }

    static bool eventually(const std::function<bool()>& holds) {
        const auto deadline = std::chrono::steady_clock::now() + 20s;
        while (!holds()) {
            if (std::chrono::steady_clock::now() > deadline) {
                return false;
            }
            std::this_thread::sleep_for(2ms);
        }
        return true;
    }

    bool drained(std::chrono::milliseconds timeout = 20s) {
        const auto deadline = std::chrono::steady_clock::now() + timeout;
        while (ledger_->dirty_count() > 0) {
            if (std::chrono::steady_clock::now() > deadline) {
                ADD_FAILURE() << ledger_->dirty_count() << " keys left; " << repair_->last_error();
                return false;
            }
            std::this_thread::sleep_for(2ms);
        }
        return true;
    }

    static Lines lines(const test::PostgresCluster& cluster, const std::string& name) {
        auto rows = cluster.run("SELECT t::text FROM " + name + " t ORDER BY 1");
        Lines found;
        for (int row = 0; row < rows.size(); ++row) {
            found.push_back(rows.text(row, 0));
        }
        return found;
    }

    static void expect_equal(const std::string& name) {
        EXPECT_EQ(lines(*source_, name), lines(*target_, name)) << name;
    }

    static std::unique_ptr<test::PostgresCluster> source_;
    static std::unique_ptr<test::PostgresCluster> target_;
    test::TempDirectory directory_;
    Config config_;
    Breaker breaker_{3};
    std::unique_ptr<StateDb> db_;
    std::unique_ptr<Ledger> ledger_;
    Phase phase_ = Phase::dual_write;
    std::shared_ptr<const Catalog> catalog_;
    std::unique_ptr<Repair> repair_;
};

std::unique_ptr<test::PostgresCluster> RepairTest::source_;
std::unique_ptr<test::PostgresCluster> RepairTest::target_;

TEST_F(RepairTest, MissingExtraAndDifferentRowsBecomeEqualAndOthersAreLeftAlone) {
    both("CREATE TABLE t (id int PRIMARY KEY, a text, b bytea, c timestamptz, d float8[])");
    source_->run(
        "INSERT INTO t VALUES (1, 'missing', '\\x00ff', '2020-02-29 12:00:00.5+01', '{0.1,NaN}'),"
        "(2, 'new', NULL, NULL, NULL), (3, NULL, '', 'infinity', '{}'), (9, 'clean', NULL, NULL, "
        "NULL)");
    target_->run(
        "INSERT INTO t VALUES (2, 'old', '\\x01'), (3, 'not null', NULL), (4, 'extra', NULL)");
    mark("t", {"1::int4", "2::int4", "3::int4", "4::int4", "5::int4"});
    start();
    ASSERT_TRUE(drained());
    EXPECT_EQ(lines(*target_, "t").size(), 3U);
    target_->run("INSERT INTO t SELECT 9, 'clean'");
    expect_equal("t");
    EXPECT_EQ(repair_->repaired(), 5U);
    EXPECT_EQ(repair_->last_error(), "");
}

TEST_F(RepairTest, KeysOfManyTypesFindTheirRows) {
    struct Case {
        const char* name;
        const char* columns;  // of the key
        const char* row;      // the key's values as literals
        const char* typed;    // and with their types
    };
    both("CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE DOMAIN code AS varchar(8)");
    const std::vector<Case> cases = {
        {"composite", "a int, b text", "1, 'x''y'", "1::int4, 'x''y'::text"},
        {"ids", "a uuid", "'f47ac10b-58cc-4372-a567-0e02b2c3d479'",
         "'f47ac10b-58cc-4372-a567-0e02b2c3d479'::uuid"},
        {"varchars", "a varchar(10)", "'\303\244\303\266'", "'\303\244\303\266'::varchar"},
        {"chars", "a char(4)", "'ab'", "'ab'::char(4)"},
        {"numerics", "a numeric", "1.00", "1.0::numeric"},
        {"smalls", "a smallint, b bigint", "-1, 9223372036854775807",
         "(-1)::int2, 9223372036854775807::int8"},
        {"times", "a timestamptz, b date", "'2020-01-01 00:00:00.123456+02', '0044-03-15 BC'",
         "'2020-01-01 00:00:00.123456+02'::timestamptz, '0044-03-15 BC'::date"},
        {"floats", "a float8", "0.1", "0.1::float8"},
        {"bytes", "a bytea", "'\\x0001'", "'\\x0001'::bytea"},
        {"moods", "a mood", "'glad'", "'glad'::public.mood"},
        {"codes", "a code", "'k'", "'k'::varchar"},
        {"Odd \"Name\"", "\"Sel ect\" int", "5", "5::int4"},
    };
    for (const Case& c : cases) {
        std::string quoted = quote_identifier(c.name);
        std::string key_columns;
        auto made = "CREATE TABLE " + quoted + " (" + c.columns + ", v text, PRIMARY KEY (";
        const std::string columns = c.columns;
        if (columns.find(", b ") != std::string::npos) {
            key_columns = "a, b";
        } else {
            key_columns = columns[0] == '"' ? "\"Sel ect\"" : "a";
        }
        both(made + key_columns + "))");
        source_->run("INSERT INTO " + quoted + " VALUES (" + c.row + ", 'right')");
    }
    start();
    for (const char* wrong : {"", "wrong"}) {
        for (const Case& c : cases) {
            const std::string quoted = quote_identifier(c.name);
            target_->run("DELETE FROM " + quoted);
            if (*wrong != '\0') {
                target_->run("INSERT INTO " + quoted + " VALUES (" + c.row + ", 'wrong')");
            }
            mark(c.name, {c.typed});
        }
        ASSERT_TRUE(drained());
        for (const Case& c : cases) {
            expect_equal(quote_identifier(c.name));
        }
    }
    for (const Case& c : cases) {
        source_->run("DELETE FROM " + quote_identifier(c.name));
        mark(c.name, {c.typed});
    }
    ASSERT_TRUE(drained());
    for (const Case& c : cases) {
        expect_equal(quote_identifier(c.name));
    }
}

TEST_F(RepairTest, EqualKeysThatPrintDifferentlyEndUpAlike) {
    both("CREATE TABLE n (id numeric PRIMARY KEY, v int)");
    source_->run("INSERT INTO n VALUES (1.00, 1)");
    target_->run("INSERT INTO n VALUES (1.0, 1)");
    mark("n", {"1.0::numeric"});
    start();
    ASSERT_TRUE(drained());
    EXPECT_EQ(lines(*target_, "n"), (Lines{"(1.00,1)"}));
}

TEST_F(RepairTest, GeneratedAndIdentityColumnsFollow) {
    both(
        "CREATE TABLE ident (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int,"
        "  twice int GENERATED ALWAYS AS (a * 2) STORED);"
        "CREATE TABLE inner_ident (id int PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, a int);"
        "CREATE TABLE def_ident (id int PRIMARY KEY, n int GENERATED BY DEFAULT AS IDENTITY, a "
        "int);"
        "CREATE TABLE only_key (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)");
    source_->run(
        "INSERT INTO ident OVERRIDING SYSTEM VALUE VALUES (1, 10), (2, 20);"
        "INSERT INTO inner_ident OVERRIDING SYSTEM VALUE VALUES (1, 100, 1), (2, 200, 2);"
        "INSERT INTO def_ident VALUES (1, 100, 1);"
        "INSERT INTO only_key OVERRIDING SYSTEM VALUE VALUES (1), (2)");
    target_->run(
        "INSERT INTO ident OVERRIDING SYSTEM VALUE VALUES (1, 11);"
        "INSERT INTO inner_ident OVERRIDING SYSTEM VALUE VALUES (1, 101, 1), (2, 200, 3);"
        "INSERT INTO def_ident VALUES (1, 101, 1);"
        "INSERT INTO only_key OVERRIDING SYSTEM VALUE VALUES (1), (3)");
    for (const char* name : {"ident", "inner_ident", "def_ident", "only_key"}) {
        mark(name, {"1::int4", "2::int4", "3::int4"});
    }
    start();
    ASSERT_TRUE(drained());
    for (const char* name : {"ident", "inner_ident", "def_ident", "only_key"}) {
        expect_equal(name);
    }
}

TEST_F(RepairTest, SwappedAndRotatedUniqueValuesConverge) {
    both("CREATE TABLE u (id int PRIMARY KEY, x text UNIQUE, y int, UNIQUE (y))");
    source_->run("INSERT INTO u VALUES (1,'b',2), (2,'a',1), (3,'d',4), (4,'e',5), (5,'c',3)");
    target_->run("INSERT INTO u VALUES (1,'a',1), (2,'b',2), (3,'c',3), (4,'d',4), (5,'e',5)");
    mark("u", {"1::int4", "2::int4", "3::int4", "4::int4", "5::int4"});
    start();
    ASSERT_TRUE(drained());
    expect_equal("u");
}

TEST_F(RepairTest, AStrangerThatHoldsTheUniqueValueIsMadeDirtyAsWell) {
    both("CREATE TABLE u (id int PRIMARY KEY, x text UNIQUE)");
    source_->run("INSERT INTO u VALUES (1,'a'), (2,'b')");
    target_->run("INSERT INTO u VALUES (2,'a')");
    mark("u", {"1::int4"});  // nobody knows about 2
    start();
    ASSERT_TRUE(drained());
    expect_equal("u");
}

TEST_F(RepairTest, TriggersAndForeignKeysOfTheMirrorStayOut) {
    both(
        "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE log (t text);"
        "CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent ON DELETE CASCADE)");
    target_->run(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        "  $$BEGIN INSERT INTO public.log VALUES ('fired'); RETURN NULL; END$$;"
        "CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON child"
        "  FOR EACH ROW EXECUTE FUNCTION note()");
    source_->run("INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1, 1)");
    mark("child", {"1::int4"});
    start();
    ASSERT_TRUE(drained());
    expect_equal("child");
    EXPECT_EQ(lines(*target_, "log"), Lines{});
}

TEST_F(RepairTest, RowsOfAPartitionedTableMoveToTheirPartition) {
    both(
        "CREATE TABLE p (id int, part int, v text, PRIMARY KEY (id, part)) PARTITION BY LIST "
        "(part);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);"
        "CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2)");
    source_->run("INSERT INTO p VALUES (1, 1, 'a'), (2, 2, 'b')");
    target_->run("INSERT INTO p VALUES (1, 1, 'old'), (1, 2, 'extra')");
    mark("p", {"1::int4, 1::int4", "1::int4, 2::int4", "2::int4, 2::int4"});
    start();
    ASSERT_TRUE(drained());
    expect_equal("p");
    expect_equal("p2");
}

TEST_F(RepairTest, InSwitchoverTheTargetIsCopiedToTheSource) {
    both("CREATE TABLE t (id int PRIMARY KEY, a text)");
    source_->run("INSERT INTO t VALUES (1, 'old')");
    target_->run("INSERT INTO t VALUES (1, 'new')");
    phase_ = Phase::switchover;
    mark("t", {"1::int4"});
    start();
    ASSERT_TRUE(drained());
    EXPECT_EQ(lines(*source_, "t"), (Lines{"(1,new)"}));
    expect_equal("t");
}

TEST_F(RepairTest, NothingHappensWhileNothingIsMirroredOrTheBreakerIsOpenOrRepairIsPaused) {
    both("CREATE TABLE t (id int PRIMARY KEY)");
    source_->run("INSERT INTO t VALUES (1)");
    mark("t", {"1::int4"});
    breaker_.open();
    start();
    std::this_thread::sleep_for(250ms);
    EXPECT_EQ(ledger_->dirty_count(), 1U);
    repair_->pause();
    breaker_.close();
    std::this_thread::sleep_for(250ms);
    EXPECT_EQ(ledger_->dirty_count(), 1U);
    repair_->resume();
    EXPECT_TRUE(drained());
}

// --- locks (R12) ---

TEST_F(RepairTest, ARowBeingDeletedOnThePrimaryIsLeftUntilThatIsOver) {
    both("CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 1)");
    auto client = source_->connect();
    ASSERT_TRUE(client.exec("BEGIN; DELETE FROM public.t WHERE id = 1"));
    mark("t", {"1::int4"});
    start();
    ASSERT_TRUE(eventually([&] { return repair_->requeued() >= 3; }));
    EXPECT_EQ(ledger_->dirty_count(), 1U);
    // Repair holds nothing between its attempts.
    target_->run("SET lock_timeout = '2s'; UPDATE t SET a = 2");
    ASSERT_TRUE(client.exec("COMMIT"));
    ASSERT_TRUE(drained());
    expect_equal("t");
}

TEST_F(RepairTest, ARowLockedOnTheMirrorIsTriedAgainAndOthersGoOn) {
    both("CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 1), (2, 2)");
    source_->run("UPDATE t SET a = a + 10");
    auto mirror = target_->connect();
    ASSERT_TRUE(mirror.exec("BEGIN; UPDATE public.t SET a = 5 WHERE id = 1"));
    mark("t", {"1::int4", "2::int4"});
    start();
    ASSERT_TRUE(
        eventually([&] { return ledger_->dirty_count() <= 1 && repair_->requeued() >= 2; }));
    ASSERT_TRUE(mirror.exec("COMMIT"));
    ASSERT_TRUE(drained());
    expect_equal("t");
}

TEST_F(RepairTest, AnAbsentRowIsNotBelievedWhileAMirrorTransactionMayStillInsertIt) {
    both("CREATE TABLE t (id int PRIMARY KEY, a int)");
    // Client 1 inserted the row and committed on the primary; its mirror COMMIT is under way.
    // Client 2 has deleted it on the primary; the mirror showed it no row, so the key is dirty.
    auto mirror = target_->connect();
    ASSERT_TRUE(mirror.exec("BEGIN; INSERT INTO public.t VALUES (1, 1)"));
    const RowKey row = key("t", "1::int4");
    std::promise<void> durable;
    const TxnId first =
        ledger_->begin_commit({{{row, false, false}}, {}}, [&](bool) { durable.set_value(); });
    durable.get_future().wait();
    ledger_->mark_dirty({row}, "touched_no_row");
    start();
    ASSERT_TRUE(eventually([&] { return repair_->requeued() >= 3; }));
    EXPECT_EQ(ledger_->dirty_count(), 1U);
    ASSERT_TRUE(mirror.exec("COMMIT"));
    ledger_->finish(first, CommitOutcome::mirrored);
    ASSERT_TRUE(drained());
    EXPECT_EQ(lines(*target_, "t"), Lines{}) << "a ghost";
}

TEST_F(RepairTest, APresentRowIsRepairedAlthoughItsKeyIsAlwaysInFlight) {
    both("CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 1)");
    source_->run("UPDATE t SET a = 2");
    const RowKey row = key("t", "1::int4");
    ledger_->begin_commit({{{row, false, false}}, {}}, [](bool) {});
    ledger_->mark_dirty({row}, "test");
    start();
    ASSERT_TRUE(drained());
    expect_equal("t");
}

// --- failures ---

TEST_F(RepairTest, AKeyOfATableThatIsGoneTurnsIntoASuspicion) {
    both("CREATE TABLE t (id int PRIMARY KEY)");
    ledger_->mark_dirty({{999, key("t", "1::int4").bytes}, {table("t"), "damaged"}}, "test");
    start();
    ASSERT_TRUE(drained());
    EXPECT_EQ(ledger_->suspect(999)->reason, "not_repairable");
    EXPECT_EQ(ledger_->suspect(table("t"))->reason, "not_repairable");
}

TEST_F(RepairTest, AStatementThatFailsIsReportedAndTriedAgain) {
    both("CREATE TABLE t (id int PRIMARY KEY, a int)");
    target_->run("ALTER TABLE t ADD CHECK (a < 10)");
    source_->run("INSERT INTO t VALUES (1, 10), (2, 1)");
    mark("t", {"1::int4", "2::int4"});
    start();
    ASSERT_TRUE(
        eventually([&] { return ledger_->dirty_count() <= 1 && !repair_->last_error().empty(); }));
    EXPECT_THAT(repair_->last_error(), testing::HasSubstr("public.t: new row"));
    target_->run("ALTER TABLE t DROP CONSTRAINT t_a_check");
    ASSERT_TRUE(drained());
    expect_equal("t");
}

TEST_F(RepairTest, AnOutageOfTheMirrorFailsTheBreakerAndIsSurvived) {
    both("CREATE TABLE t (id int PRIMARY KEY)");
    target_->run("CHECKPOINT");
    source_->run("INSERT INTO t SELECT generate_series(1, 300)");
    start();
    target_->stop();
    std::vector<RowKey> keys;
    for (int i = 1; i <= 300; ++i) {
        RowKey made{table("t"), std::string("\0\0\0\4\0\0", 6)};
        made.bytes.push_back(static_cast<char>(i >> 8));
        made.bytes.push_back(static_cast<char>(i & 255));
        keys.push_back(std::move(made));
    }
    ledger_->mark_dirty(keys, "outage");
    ASSERT_TRUE(eventually([&] { return !breaker_.allows(); }));
    EXPECT_FALSE(repair_->last_error().empty());
    target_->restart();
    breaker_.close();
    ASSERT_TRUE(drained());
    expect_equal("t");
}

// --- limbo ---

TEST_F(RepairTest, ALostTransactionIsDirtyOnceItsBackendIsGone) {
    both("CREATE TABLE t (id int PRIMARY KEY)");
    source_->run("INSERT INTO t VALUES (1)");
    const RowKey row = key("t", "1::int4");
    const TxnId txn = ledger_->begin_commit({{{row, false, false}}, {}}, [](bool) {});
    auto backend = std::make_optional(target_->connect());
    ledger_->lose(txn, {{Side::target, backend->process_id()}});
    start();
    std::this_thread::sleep_for(300ms);
    EXPECT_EQ(ledger_->limbo().size(), 1U) << "its backend lives";
    backend.reset();
    ASSERT_TRUE(eventually([&] { return ledger_->limbo().empty(); }));
    ASSERT_TRUE(drained());
    expect_equal("t");
}

TEST_F(RepairTest, ALostBackendThatLingersIsEnded) {
    both("CREATE TABLE t (id int PRIMARY KEY)");
    const RowKey row = key("t", "1::int4");
    const TxnId txn = ledger_->begin_commit({{{row, true, false}}, {}}, [](bool) {});
    auto backend = target_->connect();
    ASSERT_TRUE(backend.exec("BEGIN; INSERT INTO public.t VALUES (1)"));
    ledger_->lose(txn, {{Side::target, backend.process_id()}});
    start();
    ASSERT_TRUE(eventually([&] { return ledger_->limbo().empty(); }));
    ASSERT_TRUE(drained());
    EXPECT_FALSE(backend.exec("COMMIT"));
    EXPECT_EQ(lines(*target_, "t"), Lines{});
}

// --- recovery (R15) ---

TEST_F(RepairTest, RecoveryWaitsForOpenTransactionsAndNamesThem) {
    both("CREATE TABLE t (id int PRIMARY KEY)");
    auto idle = target_->connect();
    ASSERT_TRUE(idle.exec("SELECT 1"));
    auto orphan = target_->connect();
    ASSERT_TRUE(orphan.exec("BEGIN; INSERT INTO public.t VALUES (1)"));
    auto watcher = target_->connect();
    std::string since;
    auto waited = wait_for_older_transactions(watcher, 400ms, since);
    ASSERT_FALSE(waited);
    EXPECT_THAT(waited.error().message,
                testing::HasSubstr(std::to_string(orphan.process_id()) + " (test, idle in tr"));
    EXPECT_THAT(waited.error().message,
                testing::Not(testing::HasSubstr(std::to_string(idle.process_id()))));
    auto later =
        std::async(std::launch::async, [&] { return wait_for_older_transactions(watcher, 20s, since); });
    std::this_thread::sleep_for(100ms);
    ASSERT_TRUE(orphan.exec("COMMIT"));
    // A transaction that begins afterwards is not waited for.
    ASSERT_TRUE(orphan.exec("BEGIN; SELECT 1"));
    EXPECT_TRUE(later.get());
}

// Or recovery would never end beside clients whose transactions overlap.
TEST_F(RepairTest, RecoveryThatTriesAgainDoesNotWaitForTransactionsBegunMeanwhile) {
    both("CREATE TABLE t (id int PRIMARY KEY)");
    auto orphan = target_->connect();
    ASSERT_TRUE(orphan.exec("BEGIN; INSERT INTO public.t VALUES (1)"));
    auto watcher = target_->connect();
    std::string since;
    ASSERT_FALSE(wait_for_older_transactions(watcher, 300ms, since));
    auto client = target_->connect();
    ASSERT_TRUE(client.exec("BEGIN; INSERT INTO public.t VALUES (2)"));
    ASSERT_FALSE(wait_for_older_transactions(watcher, 300ms, since));
    ASSERT_TRUE(orphan.exec("COMMIT"));
    EXPECT_TRUE(wait_for_older_transactions(watcher, 5s, since));
}

TEST_F(RepairTest, RecoverySaysThatItsRoleMayNotSee) {
    target_->run("DROP ROLE IF EXISTS blind; CREATE ROLE blind LOGIN");
    auto other = target_->connect();
    Endpoint endpoint = target_->endpoint();
    endpoint.user = "blind";
    auto watcher = Connection::open(endpoint, "banyan-recovery");
    ASSERT_TRUE(watcher);
    std::string since;
    auto waited = wait_for_older_transactions(*watcher, 5s, since);
    ASSERT_FALSE(waited);
    EXPECT_THAT(waited.error().message, testing::HasSubstr("pg_monitor"));
}

// --- everything at once ---

TEST_F(RepairTest, BothSidesAreEqualAfterWritersAndRepairRanAtOnce) {
    both("CREATE TABLE t (id int PRIMARY KEY, a int)");
    source_->run("INSERT INTO t VALUES (1, 1), (2, 2)");
    target_->run("INSERT INTO t VALUES (2, 0), (3, 3)");
    mark("t", {"1::int4", "2::int4", "3::int4"});
    start();
    for (unsigned round = 0; round < 5; ++round) {
        std::vector<std::future<void>> writers;
        for (unsigned writer = 0; writer < 5; ++writer) {
            writers.push_back(std::async(std::launch::async, [&, writer] {
                test::RandomWriter client(*source_, *target_, *ledger_, table("t"),
                                        round * 100 + writer);
                for (int i = 0; i < 80; ++i) {
                    client.transaction();
                }
            }));
        }
        for (auto& writer : writers) {
            writer.get();
        }
        ASSERT_TRUE(drained());
        expect_equal("t");
    }
    EXPECT_GT(repair_->repaired(), 50U);
}

}  // namespace
}  // namespace banyan::router
