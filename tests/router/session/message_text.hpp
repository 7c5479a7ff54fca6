// Messages as short texts, so that a test can say what went over the wire in one line each:
// "Query SELECT 1", "Bind p:s(1,-)/1,1", "D 1,2", "C INSERT 0 1", "Z I". SQL of Banyan's own is
// abbreviated (<settings>, <upsert item>), and captured columns are shown as " ~".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/messages.hpp"

namespace banyan::test {

using Lines = std::vector<std::string>;

inline std::string abbreviated(std::string sql) {
    const auto has = [&](std::string_view part) { return sql.find(part) != std::string::npos; };
    if (has("pg_listening_channels")) {
        return has("pg_locks") ? "<belongings and locks>" : "<belongings>";
    }
    if (has("FROM pg_catalog.pg_settings")) {
        return "<settings>";
    }
    if (has("pg_stat_xact_user_tables")) {
        return has("banyan.capture") ? "<changes, and capture>" : "<changes>";
    }
    if (has("FROM pg_catalog.pg_prepared_statements WHERE name")) {
        return "<prepared>";
    }
    if (sql.starts_with("SELECT pg_catalog.current_setting('client_encoding')")) {
        return "<copy settings>";
    }
    if (sql.starts_with("SELECT pg_catalog.set_config('client_encoding'")) {
        return "<set copy settings>";
    }
    if (sql.starts_with("SET session_replication_role")) {
        return "<setup>";
    }
    const auto table = [&](std::string_view start) {
        const auto name = sql.substr(start.size());
        return name.substr(0, name.find('"'));
    };
    if (constexpr std::string_view start = "INSERT INTO \"public\".\"";
        sql.starts_with(start) && has("OVERRIDING SYSTEM VALUE")) {
        return "<upsert " + table(start) + ">";
    }
    if (constexpr std::string_view start = "DELETE FROM ONLY \"public\".\"";
        sql.starts_with(start) && has("= $1")) {
        return "<delete " + table(start) + ">";
    }
    for (const std::string_view tail : {"\nRETURNING ", "\n, "}) {
        if (const auto at = sql.find(tail); at != std::string::npos) {
            return sql.substr(0, at) + " ~";
        }
    }
    return sql;
}

inline std::string joined(const std::vector<std::optional<std::string_view>>& values) {
    std::string text;
    for (const auto& value : values) {
        text += (text.empty() ? "" : ",") + std::string(value.value_or("-"));
    }
    return text;
}

/// A message to a server.
inline std::string frontend_text(char type, std::string_view body) {
    protocol::Reader reader(body);
    switch (type) {
        case 'Q':
            return "Query " + abbreviated(std::string(reader.string()));
        case 'P': {
            const std::string name(reader.string());
            return "Parse " + name + (name.empty() ? "" : ": ") +
                   abbreviated(std::string(reader.string()));
        }
        case 'B': {
            const auto bind = protocol::decode_bind(body);
            if (!bind) {
                return "Bind?";
            }
            std::string text = "Bind " + std::string(bind->portal) + ":" +
                               std::string(bind->statement) + "(" + joined(bind->parameters) + ")";
            char separator = '/';
            for (const auto format : bind->result_formats) {
                text += separator + std::to_string(format);
                separator = ',';
            }
            return text;
        }
        case 'D':
        case 'C': {
            const char kind = static_cast<char>(reader.byte());
            return std::string(type == 'D' ? "Describe " : "Close ") + kind + " " +
                   std::string(reader.string());
        }
        case 'E': {
            const std::string portal(reader.string());
            const auto rows = reader.int32();
            return "Execute " + portal + (rows == 0 ? "" : "/" + std::to_string(rows));
        }
        case 'S':
            return "Sync";
        case 'H':
            return "Flush";
        case 'X':
            return "Terminate";
        case 'd':
            return "CopyData " + std::string(body);
        case 'c':
            return "CopyDone";
        case 'f':
            return "CopyFail";
        case 'F':
            return "FunctionCall";
        case 'p':
            return "Password " + std::string(reader.string());
        default:
            return std::string("?") + type;
    }
}

/// A message to the client.
inline std::string backend_text(char type, std::string_view body) {
    std::string text(1, type);
    protocol::Reader reader(body);
    switch (type) {
        case 'T':
            if (const auto fields = protocol::decode_row_description(body)) {
                std::string names;
                for (const auto& field : *fields) {
                    names += (names.empty() ? "" : ",") + std::string(field.name);
                }
                return text + " " + names;
            }
            return "T?";
        case 'D': {
            std::vector<std::optional<std::string_view>> columns;
            return protocol::decode_data_row(body, columns) ? text + " " + joined(columns) : "D?";
        }
        case 'C':
            return text + " " + std::string(reader.string());
        case 'E':
        case 'N': {
            const auto fields = protocol::decode_error(body);
            const auto position = protocol::error_field(fields, 'P');
            return text + " " + std::string(protocol::error_field(fields, 'C')) +
                   (position.empty() ? "" : " at " + std::string(position));
        }
        case 'Z':
            return text + " " + std::string(body);
        case 'S': {
            const std::string name(reader.string());
            return text + " " + name + "=" + std::string(reader.string());
        }
        case 'R':
            return text + " " + std::to_string(reader.int32());
        case 'K': {
            const auto id = reader.int32();
            return text + " " + std::to_string(id) + " " + std::to_string(reader.int32());
        }
        default:
            return text;
    }
}

/// The texts of whole messages at the front of `bytes`, which are taken off.
template <class Text>
Lines take_messages(std::string& bytes, Text text) {
    Lines lines;
    std::size_t at = 0;
    while (bytes.size() - at >= protocol::header_size) {
        const auto size = std::size_t{1} + protocol::get_int32(bytes.data() + at + 1);
        if (bytes.size() - at < size) {
            break;
        }
        const auto body =
            std::string_view(bytes).substr(at + protocol::header_size, size - protocol::header_size);
        lines.push_back(text(bytes[at], body));
        at += size;
    }
    bytes.erase(0, at);
    return lines;
}

// --- what a client sends ---

inline std::string startup(const std::string& database = "shop",
                           std::vector<std::pair<std::string, std::string>> more = {}) {
    protocol::Startup packet;
    packet.parameters = {{"user", "app"}, {"database", database}};
    packet.parameters.insert(packet.parameters.end(), more.begin(), more.end());
    std::string out;
    protocol::encode_startup(out, packet);
    return out;
}
inline std::string query(std::string_view sql) {
    std::string out;
    protocol::encode_query(out, sql);
    return out;
}
inline std::string parse(std::string_view name, std::string_view sql) {
    std::string out;
    protocol::encode_parse(out, name, sql);
    return out;
}
inline std::string bind_portal(std::string_view portal, std::string_view statement,
                               std::vector<std::optional<std::string_view>> parameters = {},
                               std::vector<std::uint16_t> result_formats = {}) {
    protocol::Bind message;
    message.portal = portal;
    message.statement = statement;
    message.parameters = std::move(parameters);
    message.result_formats = std::move(result_formats);
    std::string out;
    protocol::encode_bind(out, message);
    return out;
}
inline std::string describe(char kind, std::string_view name) {
    std::string out;
    protocol::encode_describe(out, kind, name);
    return out;
}
inline std::string close(char kind, std::string_view name) {
    std::string out;
    protocol::encode_close(out, kind, name);
    return out;
}
inline std::string execute(std::string_view portal = "", std::uint32_t max_rows = 0) {
    std::string out;
    protocol::encode_execute(out, portal, max_rows);
    return out;
}
/// A message of any type with any body.
inline std::string raw(char type, std::string_view body = {}) {
    std::string out;
    protocol::Message(out, type).bytes(body);
    return out;
}
inline std::string sync() { return raw('S'); }
inline std::string flush() { return raw('H'); }
/// Parse, Bind and Execute of an unnamed statement.
inline std::string run(std::string_view sql,
                       std::vector<std::optional<std::string_view>> parameters = {}) {
    return parse("", sql) + bind_portal("", "", std::move(parameters)) + execute();
}

}  // namespace banyan::test
