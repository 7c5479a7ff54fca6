#include "router/state/ledger_store.hpp"

#include "router/state/journal_entry.hpp"

namespace banyan::router {

void LedgerStore::create_tables(sqlite3* db) {
    sqlite::exec(db,
                 "CREATE TABLE IF NOT EXISTS journal(txn INTEGER PRIMARY KEY, entry BLOB NOT NULL);"
                 "CREATE TABLE IF NOT EXISTS dirty(table_id INTEGER NOT NULL, key BLOB NOT NULL,"
                 "  generation INTEGER NOT NULL, reason TEXT NOT NULL, PRIMARY KEY(table_id, key))"
                 "  WITHOUT ROWID;"
                 "CREATE TABLE IF NOT EXISTS suspects(table_id INTEGER PRIMARY KEY,"
                 "  generation INTEGER NOT NULL, reason TEXT NOT NULL,"
                 "  since_unix_ms INTEGER NOT NULL)");
    sqlite::Statement columns(
        db, "SELECT count(*) FROM pragma_table_info('suspects') WHERE name = 'ranges'");
    columns.step();
    const bool present = columns.number(0) != 0;
    columns.reset();
    if (!present) {  // from a version without ranges
        sqlite::exec(db, "ALTER TABLE suspects ADD COLUMN ranges BLOB");
    }
}

LedgerStore::Contents LedgerStore::load(sqlite3* db) {
    Contents contents;
    sqlite::Statement journal(db, "SELECT txn, entry FROM journal ORDER BY txn");
    while (journal.step()) {
        contents.journal.emplace_back(static_cast<TxnId>(journal.number(0)), journal.text(1));
    }
    sqlite::Statement dirty(
        db, "SELECT table_id, key, generation, reason FROM dirty ORDER BY generation");
    while (dirty.step()) {
        DirtyKey key;
        key.key.table = static_cast<TableId>(dirty.number(0));
        key.key.bytes = dirty.text(1);
        key.generation = static_cast<std::uint64_t>(dirty.number(2));
        key.reason = dirty.text(3);
        contents.dirty.push_back(std::move(key));
    }
    sqlite::Statement suspects(db,
                               "SELECT table_id, generation, reason, since_unix_ms,"
                               "  coalesce(ranges, x'') FROM suspects");
    while (suspects.step()) {
        SuspectTable suspect;
        suspect.table = static_cast<TableId>(suspects.number(0));
        suspect.generation = static_cast<std::uint64_t>(suspects.number(1));
        suspect.reason = suspects.text(2);
        suspect.since_unix_ms = suspects.number(3);
        suspect.rows = decode_key_ranges(suspects.bytes(4)).value_or(KeyRanges());
        contents.suspects.push_back(std::move(suspect));
    }
    return contents;
}

sqlite::Statement& LedgerStore::cached(Cached& slot, sqlite3* db, const char* sql) {
    if (!slot) {
        slot.emplace(db, sql);
    }
    return *slot;
}

void LedgerStore::put_journal(sqlite3* db, TxnId txn, const std::string& entry) {
    cached(put_journal_, db, "INSERT OR REPLACE INTO journal(txn, entry) VALUES (?, ?)")
        .bind(1, txn)
        .bind_blob(2, entry)
        .run();
}

void LedgerStore::erase_journal(sqlite3* db, TxnId txn) {
    cached(erase_journal_, db, "DELETE FROM journal WHERE txn = ?").bind(1, txn).run();
}

void LedgerStore::put_dirty(sqlite3* db, const std::vector<DirtyKey>& keys) {
    sqlite::Statement& put = cached(
        put_dirty_, db,
        "INSERT OR REPLACE INTO dirty(table_id, key, generation, reason) VALUES (?, ?, ?, ?)");
    for (const DirtyKey& key : keys) {
        put.bind(1, key.key.table)
            .bind_blob(2, key.key.bytes)
            .bind(3, key.generation)
            .bind_text(4, key.reason)
            .run();
    }
}

void LedgerStore::erase_dirty(sqlite3* db, const RowKey& key, std::uint64_t generation) {
    cached(erase_dirty_, db, "DELETE FROM dirty WHERE table_id = ? AND key = ? AND generation = ?")
        .bind(1, key.table)
        .bind_blob(2, key.bytes)
        .bind(3, generation)
        .run();
}

void LedgerStore::erase_dirty(sqlite3* db, TableId table) {
    sqlite::Statement(db, "DELETE FROM dirty WHERE table_id = ?").bind(1, table).run();
}

void LedgerStore::put_suspects(sqlite3* db, const std::vector<SuspectTable>& suspects) {
    sqlite::Statement& put = cached(put_suspect_, db,
                                    "INSERT OR REPLACE INTO suspects(table_id, generation, reason,"
                                    "  since_unix_ms, ranges) VALUES (?, ?, ?, ?, ?)");
    for (const SuspectTable& suspect : suspects) {
        const std::string ranges = encode_key_ranges(suspect.rows);
        put.bind(1, suspect.table)
            .bind(2, suspect.generation)
            .bind_text(3, suspect.reason)
            .bind(4, suspect.since_unix_ms)
            .bind_blob(5, ranges)
            .run();
    }
}

void LedgerStore::erase_suspect(sqlite3* db, TableId table) {
    cached(erase_suspect_, db, "DELETE FROM suspects WHERE table_id = ?").bind(1, table).run();
}

void LedgerStore::replace_all(sqlite3* db, const Contents& contents) {
    sqlite::exec(db, "DELETE FROM journal; DELETE FROM dirty; DELETE FROM suspects");
    for (const auto& [txn, entry] : contents.journal) {
        put_journal(db, txn, entry);
    }
    put_dirty(db, contents.dirty);
    put_suspects(db, contents.suspects);
}

void LedgerStore::close() {
    for (Cached* slot : {&put_journal_, &erase_journal_, &put_dirty_, &erase_dirty_, &put_suspect_,
                         &erase_suspect_}) {
        slot->reset();
    }
}

}  // namespace banyan::router
