#include "router/session/belongings.hpp"

#include <algorithm>
#include <array>
#include <charconv>

namespace banyan::router {

// Without a temporary schema nothing of pg_class is read: the condition needs no row.
const char* const belongings_sql =
    " UNION ALL SELECT 'listen', c, '' FROM pg_catalog.pg_listening_channels() AS c "
    "UNION ALL SELECT 'prepare', name, statement FROM pg_catalog.pg_prepared_statements "
    "WHERE from_sql "
    "UNION ALL SELECT 'cursor', name, '' FROM pg_catalog.pg_cursors WHERE is_holdable "
    "UNION ALL SELECT 'relation', relname::pg_catalog.text, relkind::pg_catalog.text "
    "FROM pg_catalog.pg_class WHERE pg_catalog.pg_my_temp_schema() <> 0 "
    "AND relnamespace = pg_catalog.pg_my_temp_schema() AND relkind NOT IN ('i', 'I', 't') "
    "UNION ALL SELECT 'function', oid::pg_catalog.regprocedure::pg_catalog.text, '' "
    "FROM pg_catalog.pg_proc WHERE pg_catalog.pg_my_temp_schema() <> 0 "
    "AND pronamespace = pg_catalog.pg_my_temp_schema() "
    "UNION ALL SELECT 'type', typname::pg_catalog.text, '' FROM pg_catalog.pg_type "
    "WHERE pg_catalog.pg_my_temp_schema() <> 0 "
    "AND typnamespace = pg_catalog.pg_my_temp_schema() AND typtype IN ('d', 'e', 'r')";

const char* const advisory_locks_sql =
    " UNION ALL SELECT 'lock', mode, classid::pg_catalog.text || ' ' || objid::pg_catalog.text || "
    "' ' || objsubid::pg_catalog.text FROM pg_catalog.pg_locks WHERE locktype = 'advisory' "
    "AND pid = pg_catalog.pg_backend_pid() AND granted";

namespace {

constexpr std::size_t most_custom_settings = 1000;

std::string kind_of_relation(std::string_view relkind) {
    return relkind == "S"   ? "temporary sequence"
           : relkind == "v" ? "temporary view"
           : relkind == "c" ? "temporary type"
                            : "temporary table";
}

/// "classid objid objsubid" as pg_locks shows them: unsigned halves of one key, or two keys.
std::optional<AdvisoryLock> read_lock(std::string_view mode, std::string_view text) {
    std::array<std::uint32_t, 3> numbers{};
    const char* at = text.data();
    const char* const end = text.data() + text.size();
    for (auto& number : numbers) {
        const auto [next, error] = std::from_chars(at, end, number);
        if (error != std::errc()) {
            return std::nullopt;
        }
        at = next == end ? end : next + 1;
    }
    AdvisoryLock lock;
    lock.shared = mode == "ShareLock";
    lock.two_keys = numbers[2] == 2;
    lock.key = (std::uint64_t{numbers[0]} << 32U) | numbers[1];
    return lock;
}

// A statement's text is the whole query string it came in: what else stands there must not run
// again.
std::optional<std::string> prepare_text(const std::string& name, const std::string& text,
                                        const Parser& parse) {
    const auto parsed = parse(text);
    std::optional<std::string> found;
    for (const auto& statement : parsed->statements) {
        if (statement.kind == StatementKind::prepare && statement.name == name) {
            found = parsed->sql.substr(statement.begin, statement.end - statement.begin);
        }
    }
    return found;
}

char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

/// The name in lower case if it is one of a custom setting: words with dots between them.
std::string custom_name(std::string_view text) {
    std::string name;
    bool dots = false;
    for (std::size_t i = 0; i < text.size() && text.size() < 64; ++i) {
        const char c = lower(text[i]);
        const bool word = (c >= 'a' && c <= 'z') || c == '_' || (c & 0x80) != 0;
        const bool digit = (c >= '0' && c <= '9') || c == '$';
        const bool begins = i == 0 || text[i - 1] == '.';
        if (!word && !(digit && !begins) && !(c == '.' && !begins && i + 1 < text.size())) {
            return {};
        }
        dots = dots || c == '.';
        name += c;
    }
    return dots ? name : std::string();
}

}  // namespace

bool take_owned(Belongings& belongings, const OwnedRow& row, const Parser& parse) {
    if (row.size() != 3 || !row[0] || !row[1]) {
        return false;
    }
    const std::string& kind = *row[0];
    const std::string& name = *row[1];
    const std::string value = row[2].value_or("");
    if (kind == "listen") {
        belongings.channels.push_back(name);
    } else if (kind == "prepare") {
        if (auto sql = prepare_text(name, value, parse)) {
            belongings.statements.push_back({name, std::move(*sql)});
        } else {
            belongings.stays.push_back("prepared statement \"" + name +
                                       "\" (its PREPARE cannot be read)");
        }
    } else if (kind == "cursor") {
        belongings.stays.push_back("cursor WITH HOLD \"" + name + "\"");
    } else if (kind == "relation") {
        belongings.stays.push_back(kind_of_relation(value) + " \"" + name + "\"");
    } else if (kind == "function" || kind == "type") {
        belongings.stays.push_back("temporary " + kind + " \"" + name + "\"");
    } else if (kind == "lock") {
        if (const auto lock = read_lock(name, value)) {
            belongings.locks.push_back(*lock);
        }
    } else {
        return false;
    }
    return true;
}

bool calls_set_config(const Statement& statement) {
    return std::find(statement.functions.begin(), statement.functions.end(), "set_config") !=
           statement.functions.end();
}

bool may_set(std::string_view sql) {
    const auto begins = [sql](std::string_view word) {
        return sql.size() > word.size() && std::equal(word.begin(), word.end(), sql.begin(),
                                                      [](char a, char b) { return a == lower(b); });
    };
    return begins("set ") || begins("select set_config(") ||
           begins("select pg_catalog.set_config(");
}

void note_custom_setting(std::set<std::string>& names, std::string_view parameter) {
    if (auto name = custom_name(parameter); !name.empty() && names.size() < most_custom_settings) {
        names.insert(std::move(name));
    }
}

void note_custom_settings(std::set<std::string>& names, const ParsedQuery& query) {
    bool literals = false;
    for (const auto& statement : query.statements) {
        if (statement.kind == StatementKind::set) {
            note_custom_setting(names, statement.name);
        }
        literals = literals || calls_set_config(statement) ||
                   statement.kind == StatementKind::anonymous_block ||
                   statement.kind == StatementKind::call;
    }
    if (!literals) {
        return;
    }
    // Every literal that could be a name, also within a DO block: one too many is asked in vain.
    const std::string_view sql = query.sql;
    for (auto begin = sql.find('\''); begin != std::string_view::npos;) {
        const auto end = sql.find('\'', begin + 1);
        if (end == std::string_view::npos) {
            break;
        }
        note_custom_setting(names, sql.substr(begin + 1, end - begin - 1));
        begin = end;
    }
}

std::string custom_settings_sql(const std::set<std::string>& names) {
    if (names.empty()) {
        return {};
    }
    std::string values;
    for (const auto& name : names) {
        values += (values.empty() ? "(" : ", (") + quote_literal(name) + ")";
    }
    return " UNION ALL SELECT 'setting', n, pg_catalog.current_setting(n, true) FROM (VALUES " +
           values + ") AS v(n) WHERE pg_catalog.current_setting(n, true) IS NOT NULL";
}

std::string try_locks_sql(const std::vector<AdvisoryLock>& locks) {
    std::string sql;
    for (const bool two_keys : {false, true}) {
        for (const bool shared : {false, true}) {
            std::string values;
            for (const auto& lock : locks) {
                if (lock.two_keys == two_keys && lock.shared == shared) {
                    values += (values.empty() ? "" : ", ") +
                              ("(" + quote_literal(to_string(lock))) + ", " + keys_of(lock) + ")";
                }
            }
            if (values.empty()) {
                continue;
            }
            const std::string type = two_keys ? "::pg_catalog.int4" : "::pg_catalog.int8";
            sql += (sql.empty() ? "" : "; ");
            sql += "SELECT d, pg_catalog.pg_try_advisory_lock";
            sql += shared ? "_shared(a" : "(a";
            sql += type + (two_keys ? ", b" + type : "") + ") FROM (VALUES " + values +
                   (two_keys ? ") AS v(d, a, b)" : ") AS v(d, a)");
        }
    }
    return sql;
}

}  // namespace banyan::router
