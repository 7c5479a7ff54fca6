// What servers send, read and rewritten by Banyan: the server is input too.
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "protocol/messages.hpp"

namespace banyan::protocol {
namespace {

using namespace std::string_literals;
using Bytes = std::string;

Bytes row_description(const std::vector<std::string>& names) {
    Bytes body;
    put_int16(body, static_cast<std::uint16_t>(names.size()));
    std::uint32_t i = 0;
    for (const auto& name : names) {
        ++i;
        put_string(body, name);
        put_int32(body, 1000 + i);
        put_int16(body, static_cast<std::uint16_t>(i));
        put_int32(body, 23);
        put_int16(body, 4);
        put_int32(body, 0xFFFFFFFFU);
        put_int16(body, 1);
    }
    return body;
}

Bytes data_row(const std::vector<std::optional<std::string>>& values) {
    Bytes body;
    put_int16(body, static_cast<std::uint16_t>(values.size()));
    for (const auto& value : values) {
        put_int32(body, value ? static_cast<std::uint32_t>(value->size()) : 0xFFFFFFFFU);
        body += value.value_or("");
    }
    return body;
}

TEST(RowDescription, IsDecodedFieldByField) {
    const Bytes body = row_description({"a", ""});
    const auto fields = decode_row_description(body);
    ASSERT_TRUE(fields);
    ASSERT_EQ(fields->size(), 2U);
    EXPECT_EQ((*fields)[0].name, "a");
    EXPECT_EQ((*fields)[1].table, 1002U);
    EXPECT_EQ((*fields)[1].column, 2);
    EXPECT_EQ((*fields)[0].type, 23U);
    EXPECT_EQ((*fields)[0].size, 4);
    EXPECT_EQ((*fields)[0].modifier, 0xFFFFFFFFU);
    EXPECT_EQ((*fields)[0].format, 1);
}

TEST(RowDescription, LosesItsLastFieldsAndNothingElse) {
    const Bytes body = row_description({"a", "b", "c"});
    struct Case {
        const char* name;
        std::size_t dropped;
        std::vector<std::string> left;
    };
    const Case cases[] = {
        {"none", 0, {"a", "b", "c"}}, {"one", 1, {"a", "b"}}, {"all", 3, {}}};
    for (const auto& each : cases) {
        const auto message = strip_row_description(body, each.dropped);
        ASSERT_TRUE(message) << each.name;
        Bytes expected;
        Message(expected, 'T').bytes(row_description(each.left));
        EXPECT_EQ(*message, expected) << each.name;
    }
    EXPECT_FALSE(strip_row_description(body, 4));
}

TEST(DataRow, IsSplitIntoTheClientsColumnsAndTheCapturedOnes) {
    const Bytes body = data_row({"one", std::nullopt, "three", "", std::nullopt});
    SplitRow row;
    ASSERT_TRUE(split_data_row(body, 3, row));
    EXPECT_EQ(row.kept_count, 2);
    EXPECT_EQ(row.kept, data_row({"one", std::nullopt}).substr(2));
    ASSERT_EQ(row.captured.size(), 3U);
    EXPECT_EQ(row.captured[0], "three");
    EXPECT_EQ(row.captured[1], "");
    EXPECT_EQ(row.captured[2], std::nullopt);
    ASSERT_TRUE(split_data_row(body, 5, row));
    EXPECT_EQ(row.kept_count, 0);
    EXPECT_EQ(row.kept, "");
    ASSERT_EQ(row.captured.size(), 5U);
    EXPECT_FALSE(split_data_row(body, 6, row));
}

TEST(DataRow, IsDecodedWhole) {
    std::vector<std::optional<std::string_view>> columns = {"left over"};
    const Bytes body = data_row({"x", std::nullopt});
    ASSERT_TRUE(decode_data_row(body, columns));
    ASSERT_EQ(columns.size(), 2U);
    EXPECT_EQ(columns[0], "x");
    EXPECT_EQ(columns[1], std::nullopt);
}

TEST(ServerMessages, NoTruncationAndNoTailIsTakenForAWholeMessage) {
    struct Case {
        const char* name;
        Bytes body;
        std::function<bool(std::string_view)> decodes;
    };
    const Bytes description = row_description({"first", "second", "third"});
    const Bytes row = data_row({"value", std::nullopt, "", "last"});
    const Case cases[] = {
        {"RowDescription", description,
         [](std::string_view b) { return decode_row_description(b).has_value(); }},
        {"RowDescription stripped", description,
         [](std::string_view b) { return strip_row_description(b, 2).has_value(); }},
        {"DataRow", row,
         [](std::string_view b) {
             std::vector<std::optional<std::string_view>> columns;
             return decode_data_row(b, columns);
         }},
        {"DataRow split", row,
         [](std::string_view b) {
             SplitRow split;
             return split_data_row(b, 2, split);
         }},
    };
    for (const auto& each : cases) {
        ASSERT_TRUE(each.decodes(each.body)) << each.name;
        for (std::size_t size = 0; size < each.body.size(); ++size) {
            const std::vector<char> cut(each.body.begin(),
                                        each.body.begin() + static_cast<std::ptrdiff_t>(size));
            EXPECT_FALSE(each.decodes({cut.data(), cut.size()})) << each.name << " cut at " << size;
        }
        EXPECT_FALSE(each.decodes(each.body + "x")) << each.name << " with a byte too many";
    }
}

TEST(ServerMessages, CountsBeyondTheBytesAreRefused) {
    SplitRow split;
    std::vector<std::optional<std::string_view>> columns;
    EXPECT_FALSE(decode_row_description("\xFF\xFF"));
    EXPECT_FALSE(strip_row_description("\xFF\xFF", 0));
    EXPECT_FALSE(strip_row_description("\xFF\xFF", 65535));
    EXPECT_FALSE(split_data_row("\xFF\xFF", 65535, split));
    EXPECT_FALSE(split_data_row("\xFF\xFF", 1, split));
    EXPECT_FALSE(decode_data_row("\xFF\xFF", columns));
    EXPECT_FALSE(decode_data_row("\0\1\x7F\xFF\xFF\xFFxyz"s, columns));
    EXPECT_FALSE(decode_data_row("\0\1\xFF\xFF\xFF\xFE"s, columns));
}

TEST(ErrorResponse, OptionalFieldsAreOptionalAndDamagedOnesEndTheList) {
    struct Case {
        const char* name;
        Bytes body;
        std::size_t fields;
        const char* sqlstate;
        const char* message;
    };
    const Case cases[] = {
        {"an ordinary one", "SERROR\0C42601\0Msyntax error\0P15\0\0"s, 4, "42601", "syntax error"},
        {"without SQLSTATE", "SERROR\0Mwho knows\0\0"s, 2, "", "who knows"},
        {"no field at all", "\0"s, 0, "", ""},
        {"an empty body", "", 0, "", ""},
        {"without its terminator", "C42601\0Mcut\0"s, 2, "42601", "cut"},
        {"cut in a field", "C42601\0Mcut"s, 1, "42601", ""},
        {"fields of the future", "C42601\0!?\0Mkept\0\0"s, 3, "42601", "kept"},
    };
    for (const auto& each : cases) {
        const auto fields = decode_error(each.body);
        EXPECT_EQ(fields.size(), each.fields) << each.name;
        EXPECT_EQ(error_field(fields, 'C'), each.sqlstate) << each.name;
        EXPECT_EQ(error_field(fields, 'M'), each.message) << each.name;
    }
}

TEST(ErrorResponse, OfBanyansOwnHasSeverityInBothForms) {
    Bytes out;
    encode_error(out, "FATAL", "3D000", "no such database", "try another");
    EXPECT_EQ(out.substr(header_size),
              "SFATAL\0VFATAL\0C3D000\0Mno such database\0Htry another\0\0"s);
    EXPECT_EQ(get_int32(out.data() + 1), out.size() - 1);
    out.clear();
    encode_error(out, "ERROR", "08P01", "no hint");
    EXPECT_EQ(error_field(decode_error(std::string_view(out).substr(header_size)), 'H'), "");
}

TEST(ErrorResponse, ItsPositionMovesAndNothingElse) {
    struct Case {
        const char* name;
        Bytes body;
        std::size_t by;
        Bytes expected;
    };
    const Case cases[] = {
        {"moved", "C42601\0P15\0Mx\0\0"s, 10, "C42601\0P25\0Mx\0\0"s},
        {"by nothing", "C42601\0P15\0\0"s, 0, "C42601\0P15\0\0"s},
        {"no position", "C23505\0Mx\0\0"s, 10, "C23505\0Mx\0\0"s},
        {"no number", "P?\0\0"s, 10, "P?\0\0"s},
        {"the internal position is not the client's", "p3\0P4\0\0"s, 10, "p3\0P14\0\0"s},
        {"a digit more", "P9\0\0"s, 991, "P1000\0\0"s},
    };
    for (const auto& each : cases) {
        Bytes out;
        encode_error_shifted(out, 'E', each.body, each.by);
        Bytes expected;
        Message(expected, 'E').bytes(each.expected);
        EXPECT_EQ(out, expected) << each.name;
    }
}

TEST(CommandTag, RowsAndFirstWord) {
    struct Case {
        const char* tag;
        std::uint64_t rows;
        const char* word;
    };
    const Case cases[] = {
        {"INSERT 0 5", 5, "INSERT"},     {"DELETE 0", 0, "DELETE"},
        {"UPDATE 4294967296", 4294967296ULL, "UPDATE"},
        {"CREATE TABLE", 0, "CREATE"},   {"COMMIT", 0, "COMMIT"},
        {"", 0, ""},                     {"SELECT ", 0, "SELECT"},
        {"INSERT 0 99999999999999999999", 0, "INSERT"},
    };
    for (const auto& each : cases) {
        EXPECT_EQ(rows_of_tag(each.tag), each.rows) << each.tag;
        EXPECT_EQ(word_of_tag(each.tag), each.word) << each.tag;
    }
}

TEST(ServerMessages, OfBanyansOwnAreEncodedAsTheManualSays) {
    Bytes out;
    encode_ready_for_query(out, 'T');
    encode_backend_key_data(out, 1, 0xFFFFFFFFU);
    encode_no_data(out);
    EXPECT_EQ(out, "Z\0\0\0\5T"s + "K\0\0\0\14\0\0\0\1\xFF\xFF\xFF\xFF"s + "n\0\0\0\4"s);
}

}  // namespace
}  // namespace banyan::protocol
