#include "router/migration/store.hpp"

#include "router/migration/clock.hpp"
#include "router/shadow/sqlite_query.hpp"

namespace banyan::router {
namespace {

constexpr const char* schema[] = {
    // In parentheses for clang, which takes a literal of several lines for a forgotten comma.
    ("CREATE TABLE IF NOT EXISTS phase_history (id INTEGER PRIMARY KEY AUTOINCREMENT, "
     "at_unix_ms INTEGER NOT NULL, from_phase TEXT NOT NULL, phase TEXT NOT NULL, "
     "reason TEXT NOT NULL, transition TEXT NOT NULL)"),
    ("CREATE TABLE IF NOT EXISTS transitions (number INTEGER PRIMARY KEY, "
     "finished INTEGER NOT NULL, body TEXT NOT NULL)"),
    "CREATE TABLE IF NOT EXISTS control_settings (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    ("CREATE TABLE IF NOT EXISTS verification_results (table_id INTEGER PRIMARY KEY, "
     "body TEXT NOT NULL)"),
};

boost::json::object parse_object(const std::string& text) {
    boost::json::error_code damaged;
    boost::json::value value = boost::json::parse(text, damaged);
    return value.is_object() ? value.as_object() : boost::json::object();
}

}  // namespace

MigrationStore::MigrationStore(StateDb& db) : db_(db) {
    db_.submit_and_wait([](sqlite3* sqlite) {
        for (const char* sql : schema) {
            SqliteQuery(sqlite, sql).run();
        }
    });
}

PhaseEntry MigrationStore::phase() const {
    PhaseEntry entry;
    db_.read([&](sqlite3* sqlite) {
        SqliteQuery query(sqlite,
                          "SELECT phase, at_unix_ms, id FROM phase_history "
                          "ORDER BY id DESC LIMIT 1");
        if (query.step()) {
            entry.phase = phase_from_string(query.text(0)).value_or(Phase::initial);
            entry.at_unix_ms = query.number(1);
            entry.number = query.number(2);
        }
    });
    return entry;
}

bool MigrationStore::persist_phase(Phase from, Phase to, const std::string& reason,
                                   const std::string& transition,
                                   std::optional<std::int64_t> number) {
    return db_.submit_and_wait([=, now = unix_ms()](sqlite3* sqlite) {
        SqliteQuery insert(
            sqlite,
            number ? "INSERT INTO phase_history (at_unix_ms, from_phase, phase, reason, "
                     "transition, id) VALUES (?, ?, ?, ?, ?, ?)"
                   : "INSERT INTO phase_history (at_unix_ms, from_phase, phase, reason, "
                     "transition) VALUES (?, ?, ?, ?, ?)");
        insert.bind(now).bind(to_string(from)).bind(to_string(to)).bind(reason).bind(transition);
        if (number) {
            insert.bind(*number);
        }
        insert.run();
    });
}

std::int64_t MigrationStore::next_transition() const {
    std::int64_t number = 1;
    db_.read([&](sqlite3* sqlite) {
        if (SqliteQuery query(sqlite, "SELECT coalesce(max(number), 0) + 1 FROM transitions");
            query.step()) {
            number = query.number(0);
        }
    });
    return number;
}

bool MigrationStore::save_transition(std::int64_t number, const boost::json::object& body,
                                     bool wait) {
    const bool done = body.contains("finished_unix_ms") && !body.at("finished_unix_ms").is_null();
    auto work = [number, done, text = boost::json::serialize(body)](sqlite3* sqlite) {
        SqliteQuery(sqlite,
                    "INSERT OR REPLACE INTO transitions (number, finished, body) VALUES (?, ?, ?)")
            .bind(number)
            .bind(static_cast<std::int64_t>(done))
            .bind(text)
            .run();
    };
    if (wait) {
        return db_.submit_and_wait(std::move(work));
    }
    db_.submit(std::move(work), [](bool) {});
    return true;
}

boost::json::array MigrationStore::transitions(std::size_t limit) const {
    boost::json::array all;
    db_.read([&](sqlite3* sqlite) {
        SqliteQuery query(sqlite, "SELECT body FROM transitions ORDER BY number DESC LIMIT ?");
        query.bind(static_cast<std::int64_t>(limit));
        while (query.step()) {
            all.push_back(parse_object(query.text(0)));
        }
    });
    return all;
}

std::optional<boost::json::object> MigrationStore::transition(std::int64_t number) const {
    std::optional<boost::json::object> found;
    db_.read([&](sqlite3* sqlite) {
        SqliteQuery query(sqlite, "SELECT body FROM transitions WHERE number = ?");
        query.bind(number);
        if (query.step()) {
            found = parse_object(query.text(0));
        }
    });
    return found;
}

std::map<std::int64_t, boost::json::object> MigrationStore::unfinished() const {
    std::map<std::int64_t, boost::json::object> found;
    db_.read([&](sqlite3* sqlite) {
        SqliteQuery query(sqlite, "SELECT number, body FROM transitions WHERE finished = 0");
        while (query.step()) {
            found.emplace(query.number(0), parse_object(query.text(1)));
        }
    });
    return found;
}

std::string MigrationStore::setting(const std::string& key) const {
    std::string value;
    db_.read([&](sqlite3* sqlite) {
        SqliteQuery query(sqlite, "SELECT value FROM control_settings WHERE key = ?");
        query.bind(key);
        if (query.step()) {
            value = query.text(0);
        }
    });
    return value;
}

bool MigrationStore::set_setting(const std::string& key, const std::string& value) {
    return db_.submit_and_wait([=](sqlite3* sqlite) {
        SqliteQuery(sqlite, "INSERT OR REPLACE INTO control_settings (key, value) VALUES (?, ?)")
            .bind(key)
            .bind(value)
            .run();
    });
}

std::map<TableId, boost::json::object> MigrationStore::verification_results() const {
    std::map<TableId, boost::json::object> results;
    db_.read([&](sqlite3* sqlite) {
        SqliteQuery query(sqlite, "SELECT table_id, body FROM verification_results");
        while (query.step()) {
            results.emplace(static_cast<TableId>(query.number(0)), parse_object(query.text(1)));
        }
    });
    return results;
}

void MigrationStore::save_verification(TableId table, const boost::json::object& result) {
    db_.submit(
        [table, text = boost::json::serialize(result)](sqlite3* sqlite) {
            SqliteQuery(
                sqlite,
                "INSERT OR REPLACE INTO verification_results (table_id, body) VALUES (?, ?)")
                .bind(static_cast<std::int64_t>(table))
                .bind(text)
                .run();
        },
        [](bool) {});
}

void MigrationStore::forget_verifications() {
    db_.submit(
        [](sqlite3* sqlite) { SqliteQuery(sqlite, "DELETE FROM verification_results").run(); },
        [](bool) {});
}

}  // namespace banyan::router
