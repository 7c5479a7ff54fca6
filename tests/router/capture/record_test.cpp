#include "router/capture/record.hpp"

#include <gtest/gtest.h>

#include <string>

namespace banyan::router {
namespace {

std::string number(std::uint32_t value) {
    std::string bytes;
    for (int shift = 24; shift >= 0; shift -= 8) {
        bytes += static_cast<char>(value >> static_cast<unsigned>(shift));
    }
    return bytes;
}

std::string column(Oid type, const std::string& value) {
    return number(type) + number(static_cast<std::uint32_t>(value.size())) + value;
}

constexpr std::uint32_t null_length = 0xFFFFFFFFU;

const std::string row = number(3) + column(23, number(7)) + number(25) + number(null_length) +
                        column(25, "");

TEST(CapturedRecord, HasItsColumnsInOrder) {
    CapturedRecord record;
    ASSERT_TRUE(decode_record(row, record));
    EXPECT_EQ(record.types, (std::vector<Oid>{23, 25, 25}));
    ASSERT_EQ(record.values.size(), 3U);
    EXPECT_EQ(record.values[0], number(7));
    EXPECT_EQ(record.values[1], std::nullopt);
    EXPECT_EQ(record.values[2], "");
}

TEST(CapturedRecord, AnyOtherLengthIsRefused) {
    CapturedRecord record;
    for (std::size_t size = 0; size < row.size(); ++size) {
        EXPECT_FALSE(decode_record(row.substr(0, size), record)) << size;
    }
    EXPECT_FALSE(decode_record(row + "x", record));
    EXPECT_FALSE(decode_record(number(1) + number(23) + number(0x80000000U), record));
    EXPECT_FALSE(decode_record(number(0xFFFFFFFFU), record));
}

TEST(CapturedRecord, FitsATableOfTheSameTypesOnly) {
    Table table;
    for (const Oid type : {23U, 25U, 25U}) {
        table.columns.emplace_back().type = type;
    }
    CapturedRecord record;
    ASSERT_TRUE(decode_record(row, record));
    EXPECT_TRUE(fits(record, table));
    table.columns[1].type = 1043;
    EXPECT_FALSE(fits(record, table));
    table.columns[1].type = 25;
    table.columns.emplace_back().type = 23;
    EXPECT_FALSE(fits(record, table));
}

}  // namespace
}  // namespace banyan::router
