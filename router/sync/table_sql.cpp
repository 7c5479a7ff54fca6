#include "router/sync/table_sql.hpp"

#include <algorithm>

namespace banyan::router {
namespace {

std::string typed_literal(const Column& column, const std::string& text) {
    return quote_literal(text) + "::" + column.type_name;
}

std::string key_tuple(const Table& table, const KeyText& key) {
    std::string sql = "(";
    for (std::size_t i = 0; i < table.key.size(); ++i) {
        sql += i == 0 ? "" : ", ";
        sql += typed_literal(table.columns[table.key[i]], key.at(i));
    }
    return sql + ")";
}

}  // namespace

std::string column_list(const Table& table, const std::vector<std::size_t>& columns,
                        std::string_view prefix) {
    std::string sql;
    for (const std::size_t column : columns) {
        sql += sql.empty() ? "" : ", ";
        sql += std::string(prefix) + quote_identifier(table.columns[column].name);
    }
    return sql;
}

std::vector<std::size_t> copied_columns(const Table& table) {
    std::vector<std::size_t> columns;
    for (std::size_t i = 0; i < table.columns.size(); ++i) {
        if (!table.columns[i].generated || table.is_key(i)) {
            columns.push_back(i);
        }
    }
    return columns;
}

std::string key_compare(const Table& table, std::string_view comparison, const KeyText& key) {
    return "(" + column_list(table, table.key) + ") OPERATOR(pg_catalog." +
           std::string(comparison) + ") " + key_tuple(table, key);
}

std::string key_range(const Table& table, const KeyText& low, const KeyText& high) {
    std::string sql;
    if (!low.empty()) {
        sql += " WHERE " + key_compare(table, ">", low);
    }
    if (!high.empty()) {
        sql += (low.empty() ? " WHERE " : " AND ") + key_compare(table, "<=", high);
    }
    return sql;
}

std::string key_between(const Table& table, const std::string& low, const std::string& high) {
    const Column& column = table.columns[table.key.front()];
    const std::string name = quote_identifier(column.name);
    return name + " OPERATOR(pg_catalog.>=) " + typed_literal(column, low) + " AND " + name +
           " OPERATOR(pg_catalog.<=) " + typed_literal(column, high);
}

std::string key_values(const Table& table, const std::vector<KeyText>& keys) {
    std::string sql = "(VALUES ";
    for (std::size_t i = 0; i < keys.size(); ++i) {
        std::string tuple = key_tuple(table, keys[i]);
        sql += (i == 0 ? "(" : ", (") + std::to_string(i) + ", " + tuple.substr(1);
    }
    return sql + ")";
}

std::string key_join(const Table& table) {
    std::string sql;
    for (std::size_t i = 0; i < table.key.size(); ++i) {
        sql += i == 0 ? "" : " AND ";
        sql += "t." + quote_identifier(table.columns[table.key[i]].name) +
               " OPERATOR(pg_catalog.=) v.k" + std::to_string(i);
    }
    return sql;
}

std::string key_aliases(const Table& table) {
    std::string sql = "i";
    for (std::size_t i = 0; i < table.key.size(); ++i) {
        sql += ", k" + std::to_string(i);
    }
    return sql;
}

std::string row_hash(const Table& table, std::string_view prefix) {
    return "pg_catalog.hashtextextended(ROW(" + column_list(table, image_columns(table), prefix) +
           ")::pg_catalog.text, 0)";
}

RowKey row_key(const Table& table, const Rows& rows, int row, int first_column) {
    RowKey key;
    key.table = table.id;
    for (std::size_t i = 0; i < table.key.size(); ++i) {
        append_key_column(key.bytes, rows.view(row, first_column + static_cast<int>(i)));
    }
    return key;
}

std::string printable_key(const Table& table, const KeyText& key) {
    std::string text;
    for (std::size_t i = 0; i < table.key.size(); ++i) {
        text += i == 0 ? "" : ", ";
        text += table.columns[table.key[i]].name + "=" + key.at(i);
    }
    return text;
}

// CopyAttributeOutText (commands/copyto.c) escapes the backslash and these six, nothing else.
std::vector<std::string> split_copy_line(std::string_view line) {
    if (!line.empty() && line.back() == '\n') {
        line.remove_suffix(1);
    }
    std::vector<std::string> fields(1);
    for (std::size_t i = 0; i < line.size(); ++i) {
        if (line[i] == '\t') {
            fields.emplace_back();
            continue;
        }
        if (line[i] != '\\' || i + 1 == line.size()) {
            fields.back().push_back(line[i]);
            continue;
        }
        switch (const char code = line[++i]; code) {
            case 'b':
                fields.back().push_back('\b');
                break;
            case 'f':
                fields.back().push_back('\f');
                break;
            case 'n':
                fields.back().push_back('\n');
                break;
            case 'r':
                fields.back().push_back('\r');
                break;
            case 't':
                fields.back().push_back('\t');
                break;
            case 'v':
                fields.back().push_back('\v');
                break;
            case 'N':
                break;
            default:
                fields.back().push_back(code);
                break;
        }
    }
    return fields;
}

Failure classify_failure(const Error& error, const Connection& connection) {
    const std::string& state = error.sqlstate;
    // Class 57P: the server shuts down, crashed, starts up, or ended this session. Class 53: it has
    // no connection slot, memory or disk to spare. 25006: it is, for now, read-only.
    if (!connection.alive() || state.empty() || state.starts_with("08") ||
        state.starts_with("57P") || state.starts_with("53") || state == "25006") {
        return Failure::lost;
    }
    if (state == "55P03" || state == "40P01" || state == "40001" || state == "57014") {
        return Failure::contention;
    }
    if (state.starts_with("22") || state.starts_with("23")) {
        return Failure::data;
    }
    return Failure::other;
}

}  // namespace banyan::router
