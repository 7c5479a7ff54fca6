#include "router/migration/audit.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <limits>

#include "router/shadow/sqlite_query.hpp"

namespace banyan::router {
namespace {

void write_canonical(const boost::json::value& value, std::string& out) {
    if (const auto* object = value.if_object()) {
        std::vector<const boost::json::key_value_pair*> members;
        for (const auto& member : *object) {
            members.push_back(&member);
        }
        std::sort(members.begin(), members.end(),
                  [](const auto* a, const auto* b) { return a->key() < b->key(); });
        char separator = '{';
        for (const auto* member : members) {
            out += separator;
            out += boost::json::serialize(boost::json::value(member->key())) + ":";
            write_canonical(member->value(), out);
            separator = ',';
        }
        out += separator == '{' ? "{}" : "}";
    } else if (const auto* array = value.if_array()) {
        char separator = '[';
        for (const auto& item : *array) {
            out += separator;
            write_canonical(item, out);
            separator = ',';
        }
        out += separator == '[' ? "[]" : "]";
    } else {
        out += boost::json::serialize(value);
    }
}

}  // namespace

boost::json::object to_json(const AuditEntry& entry) {
    return {
        {"at_unix_ms", entry.at_unix_ms}, {"actor", entry.actor},     {"address", entry.address},
        {"action", entry.action},         {"subject", entry.subject}, {"reason", entry.reason},
        {"before", entry.before},         {"after", entry.after},     {"result", entry.result}};
}

std::string canonical(const boost::json::value& value) {
    std::string out;
    write_canonical(value, out);
    return out;
}

std::string chain_hash(std::string_view previous, std::string_view canonical_body) {
    std::string bytes(previous);
    bytes += canonical_body;
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int size = 0;
    if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1) {
        throw std::runtime_error("SHA-256 is not available");
    }
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (unsigned int i = 0; i < size; ++i) {
        text += digits[digest.at(i) >> 4U];
        text += digits[digest.at(i) & 15U];
    }
    return text;
}

AuditLog::AuditLog(StateDb& db) : db_(db) {
    db_.submit_and_wait([](sqlite3* sqlite) {
        SqliteQuery(sqlite,
                    "CREATE TABLE IF NOT EXISTS audit (id INTEGER PRIMARY KEY AUTOINCREMENT, "
                    "previous TEXT NOT NULL, hash TEXT NOT NULL, body TEXT NOT NULL)")
            .run();
    });
}

bool AuditLog::append(const AuditEntry& entry) {
    return db_.submit_and_wait([body = canonical(to_json(entry))](sqlite3* sqlite) {
        std::string previous(audit_genesis);
        if (SqliteQuery last(sqlite, "SELECT hash FROM audit ORDER BY id DESC LIMIT 1");
            last.step()) {
            previous = last.text(0);
        }
        SqliteQuery(sqlite, "INSERT INTO audit (previous, hash, body) VALUES (?, ?, ?)")
            .bind(previous)
            .bind(chain_hash(previous, body))
            .bind(body)
            .run();
    });
}

boost::json::array AuditLog::newest(std::size_t limit, std::optional<std::int64_t> before) const {
    boost::json::array entries;
    db_.read([&](sqlite3* sqlite) {
        SqliteQuery query(
            sqlite,
            "SELECT id, previous, hash, body FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?");
        query.bind(before.value_or(std::numeric_limits<std::int64_t>::max()))
            .bind(static_cast<std::int64_t>(limit));
        while (query.step()) {
            boost::json::error_code damaged;
            boost::json::value body = boost::json::parse(query.text(3), damaged);
            boost::json::object entry{{"id", query.number(0)}};
            if (const auto* object = body.if_object()) {
                for (const char* key : {"at_unix_ms", "actor", "address", "action", "subject",
                                        "reason", "before", "after", "result"}) {
                    const auto* member = object->if_contains(key);
                    entry[key] = member == nullptr ? boost::json::value() : *member;
                }
            }
            entry["previous"] = query.text(1);
            entry["hash"] = query.text(2);
            entries.push_back(std::move(entry));
        }
    });
    return entries;
}

std::optional<std::int64_t> AuditLog::first_broken() const {
    std::optional<std::int64_t> broken;
    db_.read([&](sqlite3* sqlite) {
        std::string previous(audit_genesis);
        SqliteQuery query(sqlite, "SELECT id, previous, hash, body FROM audit ORDER BY id");
        while (!broken && query.step()) {
            if (query.text(1) != previous || query.text(2) != chain_hash(previous, query.text(3))) {
                broken = query.number(0);
            }
            previous = query.text(2);
        }
    });
    return broken;
}

std::int64_t AuditLog::entries() const {
    std::int64_t count = 0;
    db_.read([&](sqlite3* sqlite) {
        if (SqliteQuery query(sqlite, "SELECT count(*) FROM audit"); query.step()) {
            count = query.number(0);
        }
    });
    return count;
}

}  // namespace banyan::router
