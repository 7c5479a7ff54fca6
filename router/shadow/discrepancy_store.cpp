#include "router/shadow/discrepancy_store.hpp"

#include <fstream>

#include "router/shadow/sqlite_query.hpp"

namespace banyan::router {
namespace {

constexpr int samples_per_group = 5;
// Now, in Unix milliseconds.
#define BANYAN_NOW "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
#define BANYAN_ACKNOWLEDGED                                                                     \
    "(acknowledged AND NOT EXISTS (SELECT 1 FROM discrepancy_expiry e WHERE e.fingerprint = "     \
    "discrepancies.fingerprint AND until_unix_ms <= " BANYAN_NOW "))"
constexpr const char* group_columns =
    "fingerprint, kind, tables, sql, count, first_unix_ms, last_unix_ms, phase, user, "
    BANYAN_ACKNOWLEDGED ", acknowledged_by, note, (SELECT until_unix_ms FROM discrepancy_expiry e WHERE "
    "e.fingerprint = discrepancies.fingerprint)";

boost::json::value parse(const std::string& text) {
    boost::json::error_code damaged;
    return boost::json::parse(text, damaged);
}

boost::json::object group_json(SqliteQuery& query) {
    return {{"fingerprint", query.text(0)},
            {"kind", query.text(1)},
            {"tables", parse(query.text(2))},
            {"sql", query.text(3)},
            {"count", query.number(4)},
            {"first_seen_unix_ms", query.number(5)},
            {"last_seen_unix_ms", query.number(6)},
            {"phase", query.text(7)},
            {"user", query.text(8)},
            {"acknowledged", query.number(9) != 0},
            {"acknowledged_by", query.text(10)},
            {"note", query.text(11)},
            {"acknowledged_until_unix_ms", query.null(12) ? boost::json::value(nullptr)
                                                          : boost::json::value(query.number(12))}};
}

boost::json::array names(const std::vector<std::string>& tables) {
    boost::json::array array;
    for (const std::string& table : tables) {
        array.push_back(boost::json::string(table));
    }
    return array;
}

void upsert_group(sqlite3* sqlite, const ConfirmedDiscrepancy& found) {
    SqliteQuery(sqlite,
                "INSERT INTO discrepancies (fingerprint, kind, tables, sql, count, first_unix_ms, "
                "last_unix_ms, "
                "phase, user, acknowledged, acknowledged_by, note) VALUES (?1, ?2, ?3, ?4, 1, ?5, "
                "?5, ?6, ?7, 0, '', '') "
                "ON CONFLICT (fingerprint) DO UPDATE SET count = count + 1, last_unix_ms = "
                "excluded.last_unix_ms, "
                "acknowledged = acknowledged AND kind = excluded.kind, kind = excluded.kind, "
                "phase = excluded.phase, user = excluded.user")
        .bind(found.fingerprint)
        .bind(found.kind)
        .bind(boost::json::serialize(names(found.tables)))
        .bind(found.sql)
        .bind(found.at_unix_ms)
        .bind(to_string(found.phase))
        .bind(found.user)
        .run();
}

}  // namespace

DiscrepancyStore::DiscrepancyStore(StateDb& db, std::uint32_t max_groups, std::filesystem::path log)
    : db_(db), max_groups_(max_groups), log_(std::move(log)) {
    db_.submit_and_wait([](sqlite3* sqlite) {
        SqliteQuery(
            sqlite,
            "CREATE TABLE IF NOT EXISTS discrepancies (fingerprint TEXT PRIMARY KEY, kind TEXT NOT "
            "NULL, "
            "tables TEXT NOT NULL, sql TEXT NOT NULL, count INTEGER NOT NULL, first_unix_ms "
            "INTEGER NOT NULL, "
            "last_unix_ms INTEGER NOT NULL, phase TEXT NOT NULL, user TEXT NOT NULL, "
            "acknowledged INTEGER NOT NULL, acknowledged_by TEXT NOT NULL, note TEXT NOT NULL)")
            .run();
        SqliteQuery(
            sqlite,
            "CREATE TABLE IF NOT EXISTS discrepancy_samples (id INTEGER PRIMARY KEY AUTOINCREMENT, "
            "fingerprint TEXT NOT NULL, body TEXT NOT NULL)")
            .run();
        SqliteQuery(sqlite,
                    "CREATE TABLE IF NOT EXISTS discrepancy_expiry (fingerprint TEXT PRIMARY KEY, "
                    "until_unix_ms INTEGER NOT NULL)")
            .run();
        SqliteQuery(
            sqlite,
            "CREATE INDEX IF NOT EXISTS discrepancy_samples_by_fingerprint ON discrepancy_samples "
            "(fingerprint, id)")
            .run();
    });
}

bool DiscrepancyStore::record(const ConfirmedDiscrepancy& found) {
    append_to_log(found);
    return db_.submit_and_wait([&](sqlite3* sqlite) {
        upsert_group(sqlite, found);
        SqliteQuery(sqlite, "INSERT INTO discrepancy_samples (fingerprint, body) VALUES (?, ?)")
            .bind(found.fingerprint)
            .bind(boost::json::serialize(found.sample))
            .run();
        SqliteQuery(
            sqlite,
            "DELETE FROM discrepancy_samples WHERE fingerprint = ?1 AND id NOT IN (SELECT id FROM "
            "discrepancy_samples WHERE fingerprint = ?1 ORDER BY id DESC LIMIT ?2)")
            .bind(found.fingerprint)
            .bind(static_cast<std::int64_t>(samples_per_group))
            .run();
        SqliteQuery(sqlite,
                    "DELETE FROM discrepancies WHERE fingerprint IN (SELECT fingerprint FROM "
                    "discrepancies ORDER BY "
                    "acknowledged, last_unix_ms DESC, fingerprint LIMIT -1 OFFSET ?)")
            .bind(static_cast<std::int64_t>(max_groups_))
            .run();
        SqliteQuery(sqlite,
                    "DELETE FROM discrepancy_samples WHERE fingerprint NOT IN (SELECT fingerprint "
                    "FROM discrepancies)")
            .run();
    });
}

boost::json::array DiscrepancyStore::groups(std::size_t limit) const {
    boost::json::array all;
    db_.read([&](sqlite3* sqlite) {
        SqliteQuery query(
            sqlite, std::string("SELECT ") + group_columns +
                        " FROM discrepancies ORDER BY last_unix_ms DESC, fingerprint LIMIT ?");
        query.bind(static_cast<std::int64_t>(limit));
        while (query.step()) {
            all.push_back(group_json(query));
        }
    });
    return all;
}

std::optional<boost::json::object> DiscrepancyStore::group(const std::string& fingerprint) const {
    std::optional<boost::json::object> found;
    db_.read([&](sqlite3* sqlite) {
        SqliteQuery query(sqlite, std::string("SELECT ") + group_columns +
                                      " FROM discrepancies WHERE fingerprint = ?");
        query.bind(fingerprint);
        if (!query.step()) {
            return;
        }
        found = group_json(query);
        boost::json::array samples;
        SqliteQuery rows(
            sqlite, "SELECT body FROM discrepancy_samples WHERE fingerprint = ? ORDER BY id DESC");
        rows.bind(fingerprint);
        while (rows.step()) {
            samples.push_back(parse(rows.text(0)));
        }
        (*found)["samples"] = std::move(samples);
    });
    return found;
}

bool DiscrepancyStore::acknowledge(const std::string& fingerprint, const std::string& by,
                                   const std::string& note,
                                   std::optional<std::int64_t> until_unix_ms) {
    bool changed = false;
    const bool stored = db_.submit_and_wait([&](sqlite3* sqlite) {
        SqliteQuery(sqlite,
                    "UPDATE discrepancies SET acknowledged = 1, acknowledged_by = ?2, note = ?3 "
                    "WHERE fingerprint = ?1")
            .bind(fingerprint)
            .bind(by)
            .bind(note)
            .run();
        changed = sqlite3_changes(sqlite) > 0;
        SqliteQuery(sqlite, "DELETE FROM discrepancy_expiry WHERE fingerprint = ?")
            .bind(fingerprint)
            .run();
        if (changed && until_unix_ms) {
            SqliteQuery(sqlite, "INSERT INTO discrepancy_expiry (fingerprint, until_unix_ms) VALUES (?, ?)")
                .bind(fingerprint)
                .bind(*until_unix_ms)
                .run();
        }
    });
    return stored && changed;
}

void DiscrepancyStore::forget(const std::string& fingerprint) {
    db_.submit_and_wait([&](sqlite3* sqlite) {
        for (const char* table : {"discrepancies", "discrepancy_samples", "discrepancy_expiry"}) {
            SqliteQuery(sqlite, std::string("DELETE FROM ") + table + " WHERE fingerprint = ?")
                .bind(fingerprint)
                .run();
        }
    });
}

std::uint64_t DiscrepancyStore::unacknowledged() const {
    std::uint64_t count = 0;
    db_.read([&](sqlite3* sqlite) {
        if (SqliteQuery query(sqlite, "SELECT count(*) FROM discrepancies WHERE NOT " BANYAN_ACKNOWLEDGED);
            query.step()) {
            count = static_cast<std::uint64_t>(query.number(0));
        }
    });
    return count;
}

// Opened for each line, so that the file can be rotated; confirmed discrepancies are rare.
void DiscrepancyStore::append_to_log(const ConfirmedDiscrepancy& found) const {
    if (log_.empty()) {
        return;
    }
    const boost::json::object line{{"at_unix_ms", found.at_unix_ms},
                                   {"fingerprint", found.fingerprint},
                                   {"kind", found.kind},
                                   {"tables", names(found.tables)},
                                   {"sql", found.sql},
                                   {"user", found.user},
                                   {"phase", to_string(found.phase)},
                                   {"sample", found.sample}};
    std::ofstream(log_, std::ios::app) << boost::json::serialize(line) << '\n';
}

}  // namespace banyan::router
