// A source and a target database, a ledger, the real repair worker, and a client that writes to
// both sides as a session does (router/session/README.md), for the tests of backfill and verification.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "router/catalog/catalog_loader.hpp"
#include "router/config/config.hpp"
#include "router/breaker/breaker.hpp"
#include "router/state/ledger.hpp"
#include "router/state/state_db.hpp"
#include "router/sync/backfill.hpp"
#include "router/sync/repair.hpp"
#include "router/sync/verify.hpp"
#include "tests/support/postgres_cluster.hpp"

namespace banyan::test {

using namespace banyan::router;  // NOLINT: a test header

template <class T>
T must(Result<T> result) {
    if (!result) {
        throw std::runtime_error(result.error().sqlstate + " " + result.error().message);
    }
    return std::move(*result);
}

/// The key of a table whose key is one bigint.
inline RowKey bigint_key(TableId table, std::int64_t id) {
    std::string value;
    for (int shift = 56; shift >= 0; shift -= 8) {
        value.push_back(static_cast<char>(static_cast<std::uint64_t>(id) >> static_cast<unsigned>(shift)));
    }
    RowKey key;
    key.table = table;
    append_key_column(key.bytes, value);
    return key;
}

class TwoSides : public ::testing::Test {
   protected:
    static void SetUpTestSuite() {
        source_cluster = std::make_unique<PostgresCluster>(
            std::vector<std::string>{"fsync=off", "max_prepared_transactions=10"});
        target_cluster = std::make_unique<PostgresCluster>(std::vector<std::string>{"fsync=off"});
    }
    static void TearDownTestSuite() {
        source_cluster.reset();
        target_cluster.reset();
    }

    void SetUp() override {
        static int count = 0;
        database_ = "case" + std::to_string(++count);
        source_cluster->create_database(database_);
        target_cluster->create_database(database_);
        directory_ = std::filesystem::temp_directory_path() /
                     ("banyan-sync-" + std::to_string(::getpid()) + "-" + database_);
        std::filesystem::create_directories(directory_);
        db_ = must(StateDb::open(directory_, StateDb::Durability::process));
        ledger_ = std::make_unique<Ledger>(*db_);
        config_.source = source_cluster->endpoint(database_);
        config_.target = target_cluster->endpoint(database_);
        config_.mirror.lock_timeout = std::chrono::milliseconds(300);
        config_.backfill.max_chunk_rows = 200;
    }
    void TearDown() override {
        if (repair_) {
            repair_->stop();
        }
        repair_.reset();
        if (HasFailure()) {  // a prepared transaction left behind would hold up every other case
            const Rows left = on_source("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()");
            for (int row = 0; row < left.size(); ++row) {
                on_source("ROLLBACK PREPARED " + quote_literal(left.view(row, 0)));
            }
        }
        ledger_.reset();
        db_.reset();
        std::filesystem::remove_all(directory_);
    }

    Rows on_source(const std::string& sql) { return source_cluster->run(sql, database_); }
    Rows on_target(const std::string& sql) { return target_cluster->run(sql, database_); }
    void on_both(const std::string& sql) {
        on_source(sql);
        on_target(sql);
    }
    void load() {
        auto source = source_cluster->connect(database_);
        auto target = target_cluster->connect(database_);
        catalog_ = must(load_catalog(source, target, Side::source, *db_, {}, 1));
    }
    std::shared_ptr<const Table> table(const std::string& name) {
        return catalog_->find({"public", name, ""}, {}).table;
    }
    BackfillContext backfill_context() {
        return {config_, *ledger_, breaker_, [this] { return catalog_; }};
    }
    void start_repair() {
        repair_ = std::make_unique<Repair>(RepairContext{config_, *ledger_, breaker_,
                                                         [] { return Phase::dual_write; },
                                                         [this] { return catalog_; }});
        repair_->start();
    }
    /// Waits with a deadline that only a hang reaches.
    static bool eventually(const std::function<bool()>& condition) {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
        while (!condition()) {
            if (std::chrono::steady_clock::now() > deadline) {
                return false;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
        return true;
    }
    void backfill_all() {
        Backfill backfill(backfill_context());
        backfill.start();
        const bool ended = eventually([&] {
            const std::string state = backfill.progress().state;
            return state == "done" || state == "failed";
        });
        EXPECT_TRUE(ended);
        for (const TableProgress& shown : backfill.progress().tables) {
            EXPECT_EQ(shown.state, "done") << shown.name << ": " << shown.error << shown.waiting_for;
        }
        EXPECT_TRUE(backfill.done());
    }
    TableVerification verify(const std::string& name, bool repair = false) {
        const std::atomic<bool> cancel{false};
        const VerifyContext context{config_, *ledger_, [] { return Phase::dual_write; },
                                    [this] { return catalog_; }};
        return verify_table(context, *table(name), repair, nullptr, cancel);
    }
    /// Every row of a table as text, ordered: a comparison that shares no code with verification.
    std::string dump(const std::string& name, bool source) {
        const std::string sql = "SELECT coalesce(string_agg(r, E'\\n' ORDER BY r COLLATE \"C\"), '')"
                                " FROM (SELECT t::text AS r FROM public." + name + " t) x";
        return (source ? on_source(sql) : on_target(sql)).text(0, 0);
    }
    void expect_equal(const std::string& name) {
        EXPECT_EQ(dump(name, true), dump(name, false)) << name;
    }

    inline static std::unique_ptr<PostgresCluster> source_cluster;
    inline static std::unique_ptr<PostgresCluster> target_cluster;
    std::string database_;
    std::filesystem::path directory_;
    std::unique_ptr<StateDb> db_;
    std::unique_ptr<Ledger> ledger_;
    Breaker breaker_{3};
    Config config_;
    std::shared_ptr<const Catalog> catalog_;
    std::unique_ptr<Repair> repair_;

    friend class DualWriter;
};

/// One client session on public.t (id bigint PRIMARY KEY, v text).
class DualWriter {
   public:
    DualWriter(const Config& config, Ledger& ledger, TableId table)
        : ledger_(ledger), table_(table),
          source_(must(Connection::open(config.source, "writer"))),
          target_(must(Connection::open(config.target, "writer"))) {
        must(target_.exec("SET session_replication_role = replica; SET lock_timeout = '1s'"));
    }

    /// A delete that finds no row on the mirror is then not made dirty by the client itself.
    void leave_missing_rows_to_the_window() { missing_is_dirty_ = false; }
    void upsert(std::int64_t id, const std::string& value) {
        begin();
        put(id, value);
        commit({{bigint_key(table_, id), false, false}});
    }
    void erase(std::int64_t id) {
        begin();
        if (must(source_.exec("DELETE FROM public.t WHERE id = $1", {Param::number(id)}))
                .affected() == 0) {
            rollback();
            return;
        }
        commit({{bigint_key(table_, id), true, remove_on_target(id)}});
    }
    /// Changes the key; does nothing if `from` does not exist or `to` does.
    void move(std::int64_t from, std::int64_t to) {
        begin();
        auto moved = source_.exec("UPDATE public.t SET id = $2 WHERE id = $1 RETURNING v",
                                  {Param::number(from), Param::number(to)});
        if (!moved || moved->size() == 0) {
            rollback();
            return;
        }
        const bool dirty = remove_on_target(from);
        put_on_target(to, moved->text(0, 0));
        commit({{bigint_key(table_, from), true, dirty}, {bigint_key(table_, to), false, false}});
    }
    void change(std::int64_t id) {
        begin();
        auto row = must(source_.exec("UPDATE public.t SET v = md5(v) WHERE id = $1 RETURNING v",
                                     {Param::number(id)}));
        if (row.size() == 0) {
            rollback();
            return;
        }
        put_on_target(id, row.text(0, 0));
        commit({{bigint_key(table_, id), false, false}});
    }

   private:
    void begin() {
        must(source_.exec("BEGIN"));
        must(target_.exec("BEGIN"));
        target_failed_ = false;
    }
    void rollback() {
        source_.rollback();
        target_.rollback();
    }
    void put(std::int64_t id, const std::string& value) {
        must(source_.exec(upsert_sql, {Param::number(id), Param::text(value)}));
        put_on_target(id, value);
    }
    void put_on_target(std::int64_t id, const std::string& value) {
        auto done = target_.exec(upsert_sql, {Param::number(id), Param::text(value)});
        target_failed_ = target_failed_ || !done;
    }
    bool remove_on_target(std::int64_t id) {
        auto done = target_.exec("DELETE FROM public.t WHERE id = $1", {Param::number(id)});
        target_failed_ = target_failed_ || !done;
        return missing_is_dirty_ && done && done->affected() == 0;
    }
    void commit(std::vector<KeyWrite> writes) {
        std::promise<bool> durable;
        CommitIntent intent;
        intent.writes = std::move(writes);
        const TxnId txn =
            ledger_.begin_commit(std::move(intent), [&](bool ok) { durable.set_value(ok); });
        durable.get_future().get();
        must(source_.exec("COMMIT"));
        const bool mirrored = !target_failed_ && target_.exec("COMMIT");
        target_.rollback();
        ledger_.finish(txn, mirrored ? CommitOutcome::mirrored : CommitOutcome::not_mirrored);
    }

    static constexpr const char* upsert_sql =
        "INSERT INTO public.t AS t (id, v) VALUES ($1, $2)"
        " ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v";
    Ledger& ledger_;
    TableId table_;
    Connection source_;
    Connection target_;
    bool target_failed_ = false;
    bool missing_is_dirty_ = true;
};

/// Writers at full speed on keys 1..keys until destroyed.
class Storm {
   public:
    Storm(const Config& config, Ledger& ledger, TableId table, int writers, std::int64_t keys) {
        for (int i = 0; i < writers; ++i) {
            threads_.emplace_back([&config, &ledger, table, keys, i, this] {
                DualWriter writer(config, ledger, table);
                auto seed = static_cast<std::uint32_t>(i + 1) * 2654435761U;
                auto next = [&seed] { return (seed = seed * 1664525U + 1013904223U) >> 8U; };
                while (!stop_) {
                    const std::int64_t id = 1 + next() % keys;
                    switch (next() % 5) {
                        case 0:
                            writer.erase(id);
                            break;
                        case 1:
                            writer.move(id, 1 + next() % keys);
                            break;
                        case 2:
                            writer.upsert(id, "w" + std::to_string(next()));
                            break;
                        default:
                            writer.change(id);
                            break;
                    }
                    ++writes_;
                }
            });
        }
    }
    ~Storm() { stop(); }
    void stop() {
        stop_ = true;
        for (std::thread& thread : threads_) {
            thread.join();
        }
        threads_.clear();
    }
    std::uint64_t writes() const { return writes_; }

   private:
    std::atomic<bool> stop_{false};
    std::atomic<std::uint64_t> writes_{0};
    std::vector<std::thread> threads_;
};

}  // namespace banyan::test
