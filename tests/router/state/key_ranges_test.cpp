// Ranges of keys: what they hold, how they stay few, and what of them is journaled. That their
// order is the server's is tests/router/sync/ranges_pgtest.cpp.

#include "router/model/key_ranges.hpp"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "router/model/types.hpp"
#include "router/state/journal_entry.hpp"

namespace banyan::router {
namespace {

constexpr std::uint32_t int4 = 23;
constexpr std::uint32_t int8 = 20;
constexpr std::uint32_t bytea = 17;
constexpr std::uint32_t uuid = 2950;
constexpr std::uint32_t text = 25;

std::string big_endian(std::uint64_t value, unsigned size) {
    std::string bytes;
    for (unsigned i = size; i > 0; --i) {
        bytes.push_back(static_cast<char>(value >> ((i - 1) * 8)));
    }
    return bytes;
}

std::string key_of(std::string_view value) {
    std::string key;
    append_key_column(key, value);
    append_key_column(key, "a further column");
    return key;
}
std::string number(std::int64_t value, unsigned size = 4) {
    return key_of(big_endian(static_cast<std::uint64_t>(value), size));
}

TEST(KeyRangesTest, EveryRowIsWhatItSaysWithoutAType) {
    KeyRanges rows;
    EXPECT_TRUE(rows.all());
    EXPECT_TRUE(rows.contains(number(1)));
    EXPECT_TRUE(KeyRanges::none(text).all());
    rows.add(number(1));
    EXPECT_TRUE(rows.all());
}

TEST(KeyRangesTest, NeighboursAreOneRangeAcrossZero) {
    KeyRanges rows = KeyRanges::none(int4);
    EXPECT_FALSE(rows.contains(number(0)));
    for (const int value : {3, -2, 0, 1, -1, 2, 9}) {
        rows.add(number(value));
    }
    EXPECT_EQ(rows.ranges().size(), 2U);
    for (const int value : {-2, -1, 0, 1, 2, 3, 9}) {
        EXPECT_TRUE(rows.contains(number(value))) << value;
    }
    for (const int value : {-3, 4, 8, 10, -2147483647, 2147483647}) {
        EXPECT_FALSE(rows.contains(number(value))) << value;
    }
    EXPECT_EQ(rows.binary(rows.ranges()[0].low), big_endian(0xFFFFFFFEU, 4));
    EXPECT_EQ(rows.binary(rows.ranges()[1].high), big_endian(9, 4));
}

TEST(KeyRangesTest, TheEndsOfTheTypeAreNoNeighbours) {
    KeyRanges rows = KeyRanges::none(int8);
    rows.add(number(std::numeric_limits<std::int64_t>::max(), 8));
    rows.add(number(std::numeric_limits<std::int64_t>::min(), 8));
    EXPECT_EQ(rows.ranges().size(), 2U);
    EXPECT_FALSE(rows.contains(number(0, 8)));
}

TEST(KeyRangesTest, AKeyOfAnotherTypeMakesItEveryRowAndIsNeverOutside) {
    KeyRanges rows = KeyRanges::none(int4);
    rows.add(number(1));
    EXPECT_TRUE(rows.contains(number(1, 8))) << "the column's type has changed";
    EXPECT_TRUE(rows.contains("")) << "damaged";
    KeyRanges other = rows;
    other.add(number(1, 8));
    EXPECT_TRUE(other.all());
    KeyRanges mixed = rows;
    mixed.add(KeyRanges::none(int8));
    EXPECT_TRUE(mixed.all());
    rows.add(KeyRanges());
    EXPECT_TRUE(rows.all());
    KeyRanges long_ones = KeyRanges::none(bytea);
    long_ones.add(key_of(std::string(300, 'x')));
    EXPECT_TRUE(long_ones.all());
}

// Whatever is added is inside, in whatever order, and the number stays within its bound.
TEST(KeyRangesTest, NothingThatWasAddedIsEverOutside) {
    std::mt19937_64 random(5);
    for (const auto type : {int4, int8, bytea, uuid}) {
        for (int round = 0; round < 20; ++round) {
            KeyRanges rows = KeyRanges::none(type);
            KeyRanges halves[] = {rows, rows};
            std::vector<std::string> keys;
            for (int i = 0; i < 500; ++i) {
                std::string value = big_endian(random() >> (random() % 60), 8);
                value = type == int4    ? value.substr(4)
                        : type == uuid  ? std::string(8, '\1') + value
                        : type == bytea ? "same" + value.substr(random() % 8)
                                        : value;
                keys.push_back(key_of(value));
                rows.add(keys.back());
                halves[i % 2].add(keys.back());
                ASSERT_LE(rows.ranges().size(), KeyRanges::most);
            }
            halves[0].add(halves[1]);
            ASSERT_LE(halves[0].ranges().size(), KeyRanges::most);
            for (const std::string& key : keys) {
                ASSERT_TRUE(rows.contains(key));
                ASSERT_TRUE(halves[0].contains(key));
            }
            const auto back = decode_key_ranges(encode_key_ranges(rows));
            ASSERT_TRUE(back);
            ASSERT_EQ(*back, rows) << "also: in order and apart";
        }
    }
}

TEST(KeyRangesTest, TheNearestAreMergedAndTheWideGapsStay) {
    KeyRanges rows = KeyRanges::none(int4);
    for (int cluster = 0; cluster < 10; ++cluster) {
        for (int i = 0; i < 1000; ++i) {
            rows.add(number(cluster * 1'000'000 + i * 7));
        }
    }
    for (int cluster = 0; cluster < 9; ++cluster) {
        EXPECT_FALSE(rows.contains(number(cluster * 1'000'000 + 500'000))) << cluster;
    }
}

TEST(KeyRangesTest, AMillionKeysTakeAFewKilobytes) {
    KeyRanges rows = KeyRanges::none(int8);
    for (std::int64_t i = 0; i < 1'000'000; ++i) {
        rows.add(number(i * 3, 8));
    }
    EXPECT_LT(rows.bytes(), 16384U);
    EXPECT_LT(encode_key_ranges(rows).size(), 4096U);
    EXPECT_TRUE(rows.contains(number(2'999'997, 8)));
    EXPECT_FALSE(rows.contains(number(2'999'998, 8)));
}

TEST(KeyRangesTest, RandomAndTruncatedBytesAreErrorsOrRangesInOrder) {
    KeyRanges rows = KeyRanges::none(int4);
    for (int i = 0; i < 5; ++i) {
        rows.add(number(i * 100));
    }
    const std::string whole = encode_key_ranges(rows);
    for (std::size_t size = 1; size < whole.size(); ++size) {
        EXPECT_FALSE(decode_key_ranges(whole.substr(0, size))) << size;
    }
    EXPECT_FALSE(decode_key_ranges(whole + "x"));
    std::mt19937 random(7);
    for (int i = 0; i < 20'000; ++i) {
        std::string bytes = whole;
        for (int flips = 0; flips < 3; ++flips) {
            bytes[random() % bytes.size()] = static_cast<char>(random());
        }
        const auto decoded = decode_key_ranges(bytes);
        for (std::size_t r = 1; decoded && r < decoded->ranges().size(); ++r) {
            ASSERT_LT(decoded->ranges()[r - 1].high, decoded->ranges()[r].low);
        }
    }
}

}  // namespace
}  // namespace banyan::router
