// What the tests of the ledger share: keys, and a ledger on a database of its own.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <future>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>

#include "router/state/ledger.hpp"
#include "router/state/sqlite.hpp"
#include "router/state/state_db.hpp"
#include "tests/router/state/temp_directory.hpp"

namespace banyan::router {

inline RowKey key(TableId table, std::string_view value) {
    RowKey made{table, {}};
    append_key_column(made.bytes, value);
    return made;
}

inline CommitIntent upsert(const RowKey& row) {
    return {{{row, false, false}}, {}};
}
inline CommitIntent removal(const RowKey& row) {
    return {{{row, true, false}}, {}};
}

class LedgerTest : public testing::Test {
   protected:
    LedgerTest() { reopen(); }

    void reopen() {
        ledger_.reset();
        db_.reset();
        auto db = StateDb::open(directory_.path(), StateDb::Durability::process);
        if (!db) {
            throw std::runtime_error(db.error().message);
        }
        db_ = std::move(*db);
        ledger_ = std::make_unique<Ledger>(*db_, limits_);
    }

    // Runs `work` with a ledger in a child process that then dies; the parent has let go before.
    void dies(const std::function<void(Ledger&, StateDb&)>& work) {
        ledger_.reset();
        db_.reset();
        const pid_t child = ::fork();
        if (child == 0) {
            auto db = StateDb::open(directory_.path(), StateDb::Durability::process);
            if (!db) {
                ::_exit(1);
            }
            Ledger ledger(**db);
            work(ledger, **db);
            ::_exit(0);
        }
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        ASSERT_EQ(status, 0);
        reopen();
    }

    static std::pair<TxnId, bool> begin(Ledger& ledger, CommitIntent intent) {
        auto answered = std::make_shared<std::promise<bool>>();
        const TxnId txn = ledger.begin_commit(
            std::move(intent), [answered](bool durable) { answered->set_value(durable); });
        return {txn, answered->get_future().get()};
    }
    TxnId begin(CommitIntent intent) {
        const auto [txn, durable] = begin(*ledger_, std::move(intent));
        EXPECT_TRUE(durable);
        return txn;
    }

    std::map<std::string, std::string> dirty() const { return dirty(*ledger_); }
    // Each dirty key without its table, with its reason.
    static std::map<std::string, std::string> dirty(const Ledger& ledger) {
        std::map<std::string, std::string> keys;
        for (const DirtyKey& found : ledger.dirty_sample(1000)) {
            keys[found.key.bytes.substr(4)] = found.reason;
        }
        return keys;
    }

    std::uint64_t generation(const RowKey& row) const {
        for (const DirtyKey& found : ledger_->dirty_sample(1000)) {
            if (found.key == row) {
                return found.generation;
            }
        }
        return 0;
    }

    void flush() {
        db_->submit_and_wait([](sqlite3*) {});
    }
    std::int64_t rows(const std::string& table) {
        flush();
        std::int64_t count = 0;
        db_->read([&](sqlite3* raw) {
            sqlite::Statement select(raw, "SELECT count(*) FROM " + table);
            select.step();
            count = select.number(0);
        });
        return count;
    }

    // From here on nothing that needs a new page can be written.
    void fill_disk() {
        ASSERT_TRUE(db_->submit_and_wait(
            [](sqlite3* raw) { sqlite::exec(raw, "PRAGMA max_page_count = 1"); }));
    }
    void free_disk() {
        ASSERT_TRUE(db_->submit_and_wait(
            [](sqlite3* raw) { sqlite::exec(raw, "PRAGMA max_page_count = 1000000"); }));
    }

    LedgerLimits limits_;
    test::TempDirectory directory_;
    std::unique_ptr<StateDb> db_;
    std::unique_ptr<Ledger> ledger_;
};

}  // namespace banyan::router
