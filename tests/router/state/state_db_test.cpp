#include "router/state/state_db.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <future>
#include <random>
#include <stdexcept>

#include "router/state/journal_entry.hpp"
#include "router/state/sqlite.hpp"
#include "tests/router/state/temp_directory.hpp"

namespace banyan::router {
namespace {

using Durability = StateDb::Durability;

class StateDbTest : public testing::Test {
   protected:
    std::unique_ptr<StateDb> open(Durability durability = Durability::process) {
        auto db = StateDb::open(directory_.path(), durability);
        if (!db) {
            throw std::runtime_error(db.error().message);
        }
        return std::move(*db);
    }

    static std::int64_t rows(StateDb& db, const std::string& table) {
        std::int64_t count = 0;
        db.read([&](sqlite3* raw) {
            sqlite::Statement select(raw, "SELECT count(*) FROM " + table);
            select.step();
            count = select.number(0);
        });
        return count;
    }

    // Runs `work` with the database in a child process that then dies without a word.
    void in_a_process_that_dies(Durability durability, const std::function<void(StateDb&)>& work) {
        const pid_t child = ::fork();
        if (child == 0) {
            auto db = StateDb::open(directory_.path(), durability);
            if (db) {
                work(**db);
            }
            ::_exit(db ? 0 : 1);
        }
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        ASSERT_EQ(status, 0);
    }

    // What a reboot looks like: the next run sees another boot id.
    void pretend_reboot() {
        sqlite3* raw = nullptr;
        ASSERT_EQ(sqlite3_open((directory_.path() / "banyan.db").c_str(), &raw), SQLITE_OK);
        sqlite::exec(raw, "UPDATE meta SET value = 'another' WHERE name = 'boot_id'");
        sqlite3_close(raw);
    }

    test::TempDirectory directory_;
};

TEST_F(StateDbTest, CommittedRequestsAreReadAndSurviveAReopen) {
    {
        auto db = open();
        EXPECT_TRUE(db->submit_and_wait([](sqlite3* raw) {
            sqlite::exec(raw, "CREATE TABLE t(a); INSERT INTO t VALUES (1)");
        }));
        EXPECT_EQ(rows(*db, "t"), 1);
        EXPECT_GE(db->batches(), 1U);
    }
    EXPECT_EQ(rows(*open(), "t"), 1);
}

TEST_F(StateDbTest, ABadRequestFailsAloneAndLeavesNothing) {
    auto db = open();
    ASSERT_TRUE(db->submit_and_wait([](sqlite3* raw) { sqlite::exec(raw, "CREATE TABLE t(a)"); }));
    // The first request holds the writer up until the others are queued, so they share a batch.
    std::promise<void> go;
    auto gone = go.get_future().share();
    db->submit([gone](sqlite3*) { gone.wait(); }, [](bool) {});
    std::vector<std::future<bool>> answers;
    for (int i = 0; i < 5; ++i) {
        auto answer = std::make_shared<std::promise<bool>>();
        answers.push_back(answer->get_future());
        db->submit(
            [i](sqlite3* raw) {
                sqlite::exec(raw, "INSERT INTO t VALUES (" + std::to_string(i) + ")");
                if (i == 2) {
                    throw std::runtime_error("planted");
                }
            },
            [answer](bool ok) { answer->set_value(ok); });
    }
    go.set_value();
    for (std::size_t i = 0; i < answers.size(); ++i) {
        EXPECT_EQ(answers[i].get(), i != 2) << i;
    }
    EXPECT_EQ(rows(*db, "t"), 4);
    EXPECT_EQ(db->errors(), 1U);
}

TEST_F(StateDbTest, AFullDatabaseFailsRequestsAndRecovers) {
    auto db = open();
    ASSERT_TRUE(db->submit_and_wait([](sqlite3* raw) {
        sqlite::exec(raw, "CREATE TABLE t(a)");
        sqlite::exec(raw, "PRAGMA max_page_count = 1");  // as small as it is now
    }));
    const auto fill = [](sqlite3* raw) {
        sqlite::exec(raw, "INSERT INTO t VALUES (zeroblob(100000))");
    };
    EXPECT_FALSE(db->submit_and_wait(fill));
    ASSERT_TRUE(db->submit_and_wait(
        [](sqlite3* raw) { sqlite::exec(raw, "PRAGMA max_page_count = 1000000"); }));
    EXPECT_TRUE(db->submit_and_wait(fill));
}

TEST_F(StateDbTest, ASecondProcessIsToldWhoHasTheDirectory) {
    auto db = open();
    auto second = StateDb::open(directory_.path(), Durability::process);
    ASSERT_FALSE(second);
    EXPECT_NE(second.error().message.find(directory_.path().string()), std::string::npos);
    EXPECT_NE(second.error().message.find("pid " + std::to_string(::getpid()) + ")"),
              std::string::npos)
        << second.error().message;
    db.reset();
    EXPECT_TRUE(StateDb::open(directory_.path(), Durability::process));
}

TEST_F(StateDbTest, ADamagedFileIsAnErrorAndNotAnEmptyDatabase) {
    open().reset();
    std::ofstream(directory_.path() / "banyan.db") << std::string(8192, 'x');
    auto db = StateDb::open(directory_.path(), Durability::process);
    ASSERT_FALSE(db);
    EXPECT_NE(db.error().message.find("banyan.db"), std::string::npos);
}

TEST_F(StateDbTest, AFileOfANewerVersionIsRefusedByName) {
    open().reset();
    {
        // PRAGMA user_version: four bytes of the header.
        std::fstream file(directory_.path() / "banyan.db",
                          std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(60);
        file.write("\0\0\0\x63", 4);
    }
    auto db = StateDb::open(directory_.path(), Durability::process);
    ASSERT_FALSE(db);
    EXPECT_NE(db.error().message.find("newer version"), std::string::npos) << db.error().message;
}

TEST_F(StateDbTest, ADirectoryThatCannotBeMadeIsAnError) {
    auto db = StateDb::open("/proc/banyan", Durability::process);
    ASSERT_FALSE(db);
    EXPECT_NE(db.error().message.find("/proc/banyan"), std::string::npos);
}

TEST_F(StateDbTest, AFileThatWasDeletedOrReplacedTakesNoMoreWrites) {
    auto db = open();
    const auto nothing = [](sqlite3*) {};
    ASSERT_TRUE(db->submit_and_wait(nothing));
    const auto file = directory_.path() / "banyan.db";
    const auto aside = directory_.path() / "aside";
    for (const char* name : {"banyan.db", "banyan.db-wal"}) {
        std::filesystem::rename(directory_.path() / name, aside);
        EXPECT_FALSE(db->submit_and_wait(nothing)) << name;
        std::ofstream(directory_.path() / name) << "another";
        EXPECT_FALSE(db->submit_and_wait(nothing)) << name;
        std::filesystem::rename(aside, directory_.path() / name);
        EXPECT_TRUE(db->submit_and_wait(nothing)) << name << " was put back";
    }
    EXPECT_GE(db->errors(), 4U);
}

TEST_F(StateDbTest, TheFileGivesBackWhatABacklogTook) {
    auto db = open();
    ASSERT_TRUE(db->submit_and_wait([](sqlite3* raw) {
        sqlite::exec(raw, "CREATE TABLE t(a);"
                          "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
                          "  WHERE i < 10000) INSERT INTO t SELECT zeroblob(4000) FROM n");
    }));
    EXPECT_GT(db->file_bytes(), 30U << 20U);
    ASSERT_TRUE(db->submit_and_wait([](sqlite3* raw) { sqlite::exec(raw, "DELETE FROM t"); }));
    const auto pages = [&] {
        std::int64_t count = 0;
        db->read([&](sqlite3* raw) {
            sqlite::Statement select(raw, "PRAGMA page_count");
            select.step();
            count = select.number(0);
        });
        return count;
    };
    for (int i = 0; i < 2000 && pages() > 4000; ++i) {
        db->submit_and_wait([](sqlite3* raw) { sqlite::exec(raw, "UPDATE meta SET value = value"); });
    }
    EXPECT_LE(pages(), 4000) << "some 8 MB are kept";
    EXPECT_EQ(rows(*db, "t"), 0);
}

TEST_F(StateDbTest, TableIdsLastAndAreNeverZero) {
    TableId orders = 0;
    {
        auto db = open();
        orders = db->table_id("public", "orders");
        EXPECT_NE(orders, 0U);
        EXPECT_EQ(db->table_id("public", "orders"), orders);
        EXPECT_NE(db->table_id("other", "orders"), orders);
    }
    EXPECT_EQ(open()->table_id("public", "orders"), orders);
}

TEST_F(StateDbTest, WhatWasAnsweredSurvivesADyingProcess) {
    in_a_process_that_dies(Durability::process, [](StateDb& db) {
        db.submit_and_wait(
            [](sqlite3* raw) { sqlite::exec(raw, "CREATE TABLE t(a); INSERT INTO t VALUES (1)"); });
    });
    auto db = open();
    EXPECT_EQ(rows(*db, "t"), 1);
    EXPECT_FALSE(db->machine_crashed()) << "the machine did not";
}

TEST_F(StateDbTest, AMachineCrashIsRememberedUntilItIsHandled) {
    in_a_process_that_dies(Durability::process, [](StateDb&) {});
    pretend_reboot();
    EXPECT_TRUE(open()->machine_crashed());
    {
        auto db = open();
        EXPECT_TRUE(db->machine_crashed()) << "not handled yet";
        db->machine_crash_handled();
        EXPECT_FALSE(db->machine_crashed());
    }
    EXPECT_FALSE(open()->machine_crashed());
}

TEST_F(StateDbTest, ACleanEndOrASyncedJournalSurvivesAMachineCrash) {
    open().reset();
    pretend_reboot();
    EXPECT_FALSE(open()->machine_crashed()) << "ended cleanly";
    in_a_process_that_dies(Durability::power, [](StateDb&) {});
    pretend_reboot();
    EXPECT_FALSE(open()->machine_crashed()) << "every commit was synced";
}

TEST_F(StateDbTest, ALostJournalIsRememberedInTheLockFile) {
    in_a_process_that_dies(Durability::power, [](StateDb& db) { db.note_journal_lost(true); });
    EXPECT_TRUE(open()->machine_crashed());
}

TEST_F(StateDbTest, ALongRunOfWritesDoesNotLetTheLogGrowForEver) {
    auto db = open();
    ASSERT_TRUE(db->submit_and_wait(
        [](sqlite3* raw) { sqlite::exec(raw, "CREATE TABLE t(a INTEGER PRIMARY KEY, b)"); }));
    for (int i = 0; i < 5000; ++i) {
        db->submit(
            [i](sqlite3* raw) {
                sqlite::exec(
                    raw, "REPLACE INTO t VALUES (" + std::to_string(i % 10) + ", zeroblob(60000))");
            },
            [](bool ok) { EXPECT_TRUE(ok); });
        if (i % 10 == 0) {  // batches of ten, each 600 kB
            db->submit_and_wait([](sqlite3*) {});
        }
    }
    const auto size = std::filesystem::file_size(directory_.path() / "banyan.db-wal");
    EXPECT_LT(size, 140U << 20U) << "300 MB were written";
}

TEST(JournalEntryTest, AnEntryComesBackAsItWas) {
    CommitIntent intent;
    intent.writes.push_back({{7, std::string("\0\0\0\1x", 5)}, true, false});
    intent.writes.push_back({{0xFFFFFFFF, ""}, false, true});
    intent.suspects.push_back({0, "truncate"});
    KeyRanges rows = KeyRanges::none(23);
    rows.add(std::string("\0\0\0\4\0\0\0\1", 8));
    intent.tables.push_back({9, true, "why", true, rows});
    intent.suspects[0].rows = rows;
    const auto back = decode_journal_entry(encode_journal_entry(intent));
    ASSERT_TRUE(back);
    ASSERT_EQ(back->writes.size(), 2U);
    EXPECT_EQ(back->writes[0].key, intent.writes[0].key);
    EXPECT_TRUE(back->writes[0].removes);
    EXPECT_FALSE(back->writes[0].dirty);
    EXPECT_EQ(back->writes[1].key, intent.writes[1].key);
    EXPECT_TRUE(back->writes[1].dirty);
    ASSERT_EQ(back->suspects.size(), 1U);
    EXPECT_EQ(back->suspects[0].reason, "truncate");
    ASSERT_EQ(back->tables.size(), 1U);
    EXPECT_EQ(back->tables[0].table, 9U);
    EXPECT_TRUE(back->tables[0].removes);
    EXPECT_EQ(back->tables[0].reason, "why");
    EXPECT_TRUE(back->tables[0].by_row);
    EXPECT_EQ(back->tables[0].rows, rows);
    EXPECT_EQ(back->suspects[0].rows, rows);
}

TEST(JournalEntryTest, EveryTruncationAndAnUnknownVersionAreErrors) {
    CommitIntent intent;
    intent.writes.push_back({{7, "key"}, true, false});
    intent.suspects.push_back({1, "why"});
    intent.tables.push_back({2, false, "copy"});
    const std::string whole = encode_journal_entry(intent);
    for (std::size_t size = 0; size < whole.size(); ++size) {
        EXPECT_FALSE(decode_journal_entry(whole.substr(0, size))) << size;
    }
    EXPECT_FALSE(decode_journal_entry(whole + "x"));
    std::string other = whole;
    other[0] = 4;
    EXPECT_FALSE(decode_journal_entry(other));
    std::string huge = whole;
    huge[1] = '\x7f';  // two thousand million writes
    EXPECT_FALSE(decode_journal_entry(huge));
}

TEST(JournalEntryTest, EntriesOfFormerVersionsAreRead) {
    using namespace std::string_literals;
    const std::string write = "\0\0\0\1\1\0\0\0\7\0\0\0\3key"s;
    const std::string mark = "\0\0\0\1\0\0\0\5\0\0\0\2do"s;
    const std::string table = "\0\0\0\1\1\0\0\0\6\0\0\0\4copy"s;
    for (const std::string& entry : {"\1"s + write + mark, "\2"s + write + mark + table}) {
        const auto back = decode_journal_entry(entry);
        ASSERT_TRUE(back);
        ASSERT_EQ(back->writes.size(), 1U);
        EXPECT_EQ(back->writes[0].key.bytes, "key");
        ASSERT_EQ(back->suspects.size(), 1U);
        EXPECT_EQ(back->suspects[0].reason, "do");
        EXPECT_TRUE(back->suspects[0].rows.all());
        EXPECT_EQ(back->tables.size(), entry[0] == 1 ? 0U : 1U);
        if (entry[0] == 2) {
            EXPECT_TRUE(back->tables[0].removes);
            EXPECT_FALSE(back->tables[0].by_row);
            EXPECT_TRUE(back->tables[0].rows.all());
        }
        for (std::size_t size = 0; size < entry.size(); ++size) {
            EXPECT_FALSE(decode_journal_entry(entry.substr(0, size))) << size;
        }
    }
}

TEST(JournalEntryTest, RandomBytesNeverDoMoreThanFail) {
    CommitIntent intent;
    intent.writes.push_back({{7, "key"}, true, false});
    KeyRanges rows = KeyRanges::none(23);
    rows.add(std::string("\0\0\0\4\0\0\0\1", 8));
    intent.suspects.push_back({1, "why", rows});
    intent.tables.push_back({2, true, "large", true, rows});
    const std::string whole = encode_journal_entry(intent);
    std::mt19937 random(3);
    for (int i = 0; i < 20'000; ++i) {
        std::string bytes = whole.substr(0, random() % (whole.size() + 1));
        for (unsigned flips = random() % 4; flips > 0 && !bytes.empty(); --flips) {
            bytes[random() % bytes.size()] = static_cast<char>(random());
        }
        if (const auto back = decode_journal_entry(bytes)) {
            const auto again = decode_journal_entry(encode_journal_entry(*back));
            ASSERT_TRUE(again);
            ASSERT_EQ(again->tables.size(), back->tables.size());
        }
    }
}

}  // namespace
}  // namespace banyan::router
