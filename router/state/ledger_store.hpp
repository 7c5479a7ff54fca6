// The ledger's durable form in the state database: three tables and the statements on them.
//
//   journal(txn, entry)                        one row per transaction between begin_commit and end
//   dirty(table_id, key, generation, reason)   one row per dirty key
//   suspects(table_id, generation, reason, since_unix_ms, ranges)   ranges NULL: the whole table
//
// All members but load() run on the writer thread, inside a StateDb::submit(); they throw
// std::runtime_error.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "router/state/ledger.hpp"
#include "router/state/sqlite.hpp"

namespace banyan::router {

class LedgerStore {
   public:
    struct Contents {
        std::vector<std::pair<TxnId, std::string>> journal;
        std::vector<DirtyKey> dirty;
        std::vector<SuspectTable> suspects;
    };

    static void create_tables(sqlite3* db);
    static Contents load(sqlite3* db);

    void put_journal(sqlite3* db, TxnId txn, const std::string& entry);
    void erase_journal(sqlite3* db, TxnId txn);
    void put_dirty(sqlite3* db, const std::vector<DirtyKey>& keys);
    void erase_dirty(sqlite3* db, const RowKey& key, std::uint64_t generation);
    void erase_dirty(sqlite3* db, TableId table);
    void put_suspects(sqlite3* db, const std::vector<SuspectTable>& suspects);
    void erase_suspect(sqlite3* db, TableId table);
    void replace_all(sqlite3* db, const Contents& contents);

    /// Lets go of the prepared statements; before the database closes.
    void close();

   private:
    using Cached = std::optional<sqlite::Statement>;
    static sqlite::Statement& cached(Cached& slot, sqlite3* db, const char* sql);

    Cached put_journal_;
    Cached erase_journal_;
    Cached put_dirty_;
    Cached erase_dirty_;
    Cached put_suspect_;
    Cached erase_suspect_;
};

}  // namespace banyan::router
