#include "router/shadow/redact.hpp"

#include <xxhash.h>

#include <array>
#include <cstdio>
#include <map>
#include <random>

namespace banyan::router {
namespace {

// OIDs of pg_type.dat; they are the same in every database.
std::string type_name(std::uint32_t type) {
    static const std::map<std::uint32_t, const char*> names{
        {16, "bool"},      {17, "bytea"},       {20, "int8"},          {21, "int2"},
        {23, "int4"},      {25, "text"},        {114, "json"},         {700, "float4"},
        {701, "float8"},   {1042, "bpchar"},    {1043, "varchar"},     {1082, "date"},
        {1083, "time"},    {1114, "timestamp"}, {1184, "timestamptz"}, {1186, "interval"},
        {1700, "numeric"}, {2950, "uuid"},      {3802, "jsonb"}};
    const auto it = names.find(type);
    return it == names.end() ? "type " + std::to_string(type) : it->second;
}

// The length of the UTF-8 sequence that begins here, or 0 if it is none.
std::size_t sequence(std::string_view text, std::size_t at) {
    const auto byte = [&](std::size_t i) {
        return i < text.size() ? static_cast<unsigned char>(text[i])
                               : static_cast<unsigned char>(0);
    };
    const unsigned char first = byte(at);
    const std::size_t length = first < 0x80                    ? 1
                               : first >= 0xC2 && first < 0xE0 ? 2
                               : first >= 0xE0 && first < 0xF0 ? 3
                               : first >= 0xF0 && first < 0xF5 ? 4
                                                               : 0;
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(at + i) & 0xC0U) != 0x80U) {
            return 0;
        }
    }
    const unsigned char second = byte(at + 1);
    const bool bad = (first == 0xE0 && second < 0xA0) || (first == 0xED && second >= 0xA0) ||
                     (first == 0xF0 && second < 0x90) || (first == 0xF4 && second >= 0x90);
    return bad ? 0 : length;
}

}  // namespace

std::string redacted(std::string_view value, std::uint32_t type) {
    static const std::uint64_t seed =
        (static_cast<std::uint64_t>(std::random_device{}()) << 32U) | std::random_device{}();
    const std::uint64_t hash = XXH3_64bits_withSeed(value.data(), value.size(), seed);
    std::array<char, 8> text{};
    std::snprintf(text.data(), text.size(), "%06x", static_cast<unsigned>(hash & 0xFFFFFFU));
    return "<" + type_name(type) + " " + std::to_string(value.size()) + " " + text.data() + ">";
}

std::string printable(std::string_view bytes, std::size_t at_most) {
    std::string text;
    for (std::size_t at = 0; at < bytes.size();) {
        const std::size_t length = sequence(bytes, at);
        if (text.size() + length > at_most) {
            return text + "...";
        }
        if (length == 0) {
            text += '?';
            ++at;
        } else {
            text += bytes.substr(at, length);
            at += length;
        }
    }
    return text;
}

std::pair<std::vector<Cells>, std::vector<Cells>> differing_rows(const Replay& primary,
                                                                 const Replay& mirror,
                                                                 std::size_t at_most) {
    std::pair<std::vector<Cells>, std::vector<Cells>> found;
    if (!primary.complete || !mirror.complete) {
        return found;
    }
    std::map<Cells, std::int64_t> surplus;
    for (const Cells& row : primary.rows) {
        ++surplus[row];
    }
    for (const Cells& row : mirror.rows) {
        --surplus[row];
    }
    for (const auto& [row, count] : surplus) {
        auto& side = count > 0 ? found.first : found.second;
        if (count != 0 && side.size() < at_most) {
            side.push_back(row);
        }
    }
    return found;
}

boost::json::array rows_json(const std::vector<Cells>& rows,
                             const std::vector<std::uint32_t>& types, bool redact) {
    boost::json::array array;
    for (const Cells& row : rows) {
        boost::json::array cells;
        for (std::size_t column = 0; column < row.size(); ++column) {
            const auto& cell = row[column];
            if (!cell) {
                cells.push_back(nullptr);
            } else {
                cells.push_back(boost::json::string(
                    redact ? redacted(*cell, column < types.size() ? types[column] : 0)
                           : printable(*cell)));
            }
        }
        array.push_back(std::move(cells));
    }
    return array;
}

}  // namespace banyan::router
