#include "protocol/wire.hpp"

#include <gtest/gtest.h>

#include <string>

namespace banyan::protocol {
namespace {

using namespace std::string_literals;
using namespace std::string_view_literals;

TEST(Wire, IntegersAreBigEndianWhateverTheSignBits) {
    struct Case {
        const char* name;
        std::uint32_t value;
        std::string bytes;
    };
    const Case cases[] = {
        {"zero", 0, "\0\0\0\0"s},
        {"one", 1, "\0\0\0\1"s},
        {"each byte its own", 0x01020304U, "\1\2\3\4"s},
        {"high bits everywhere", 0xFFFEFDFCU, "\xFF\xFE\xFD\xFC"s},
        {"only the sign bit", 0x80000000U, "\x80\0\0\0"s},
    };
    for (const auto& each : cases) {
        std::string out;
        put_int32(out, each.value);
        EXPECT_EQ(out, each.bytes) << each.name;
        EXPECT_EQ(get_int32(out.data()), each.value) << each.name;
        EXPECT_EQ(get_int16(out.data() + 2), each.value & 0xFFFFU) << each.name;
        std::string small;
        put_int16(small, static_cast<std::uint16_t>(each.value));
        EXPECT_EQ(small, each.bytes.substr(2)) << each.name;
    }
}

TEST(Reader, ReadsFieldsInOrderAndKnowsWhenItIsDone) {
    const std::string body = "\7\0\1\0\0\0\2abc\0xy"s;
    Reader reader(body);
    EXPECT_EQ(reader.byte(), 7);
    EXPECT_EQ(reader.int16(), 1);
    EXPECT_EQ(reader.int32(), 2U);
    EXPECT_EQ(reader.string(), "abc");
    EXPECT_FALSE(reader.done());
    EXPECT_EQ(reader.rest(), "xy");
    EXPECT_EQ(reader.bytes(2), "xy");
    EXPECT_TRUE(reader.done());
}

TEST(Reader, AShortReadFailsForGood) {
    struct Case {
        const char* name;
        std::string body;
        void (*read)(Reader&);
    };
    const Case cases[] = {
        {"a byte of nothing", "", [](Reader& r) { r.byte(); }},
        {"half an int16", "\1", [](Reader& r) { r.int16(); }},
        {"three quarters of an int32", "\1\2\3", [](Reader& r) { r.int32(); }},
        {"a string without its end", "abc", [](Reader& r) { r.string(); }},
        {"more bytes than there are", "abc", [](Reader& r) { r.bytes(4); }},
        {"a value without its length", "\0\0\0"s, [](Reader& r) { r.value(); }},
        {"a value longer than the rest", "\0\0\0\3ab"s, [](Reader& r) { r.value(); }},
        {"a value of length -2", "\xFF\xFF\xFF\xFE"s + "abc", [](Reader& r) { r.value(); }},
        {"a value of the largest length", "\x7F\xFF\xFF\xFF"s + "abc", [](Reader& r) { r.value(); }},
    };
    for (const auto& each : cases) {
        Reader reader(each.body);
        each.read(reader);
        EXPECT_FALSE(reader.ok()) << each.name;
        EXPECT_FALSE(reader.done()) << each.name;
        EXPECT_EQ(reader.byte(), 0) << each.name;
        EXPECT_EQ(reader.int16(), 0) << each.name;
        EXPECT_EQ(reader.int32(), 0U) << each.name;
        EXPECT_EQ(reader.string(), "") << each.name;
        EXPECT_EQ(reader.bytes(0), "") << each.name;
        EXPECT_EQ(reader.value(), std::nullopt) << each.name;
        EXPECT_FALSE(reader.ok()) << each.name;
    }
}

TEST(Reader, OnlyMinusOneIsNull) {
    Reader null("\xFF\xFF\xFF\xFF"sv);
    EXPECT_EQ(null.value(), std::nullopt);
    EXPECT_TRUE(null.done());
    Reader empty("\0\0\0\0"sv);
    EXPECT_EQ(empty.value(), "");
    EXPECT_TRUE(empty.done());
    Reader one("\0\0\0\1x"sv);
    EXPECT_EQ(one.value(), "x");
    EXPECT_TRUE(one.done());
}

TEST(Message, FillsItsLengthInWhenItEnds) {
    std::string out = "before";
    Message(out, 'C').string("tag");
    EXPECT_EQ(out, "beforeC\0\0\0\10tag\0"s);
    out.clear();
    Message(out, 'X');
    EXPECT_EQ(out, "X\0\0\0\4"s);
    out.clear();
    Message(out, 'q').int16(1).int32(2).byte('z').bytes("y\0"s);
    EXPECT_EQ(out, "q\0\0\0\15\0\1\0\0\0\2zy\0"s);
    out.clear();
    Message(out, 'd').bytes(std::string(70000, 'x'));
    EXPECT_EQ(get_int32(out.data() + 1), 70004U);
}

TEST(Header, LengthsAreUnsignedAndBounded) {
    struct Case {
        const char* name;
        std::string bytes;
        std::uint64_t limit;
        std::optional<std::uint32_t> body;
    };
    const Case cases[] = {
        {"an empty body", "S\0\0\0\4"s, 10, 0},
        {"exactly the limit", "Q\0\0\0\16"s, 10, 10},
        {"one over the limit", "Q\0\0\0\17"s, 10, std::nullopt},
        {"a length of three", "Q\0\0\0\3"s, 10, std::nullopt},
        {"a length of zero", "Q\0\0\0\0"s, 10, std::nullopt},
        {"a negative length", "Q\xFF\xFF\xFF\xFF"s, 1ULL << 30U, std::nullopt},
        {"the sign bit alone", "Q\x80\0\0\0"s, 1ULL << 30U, std::nullopt},
        {"no limit but the wire's", "D\xFF\xFF\xFF\xFF"s, ~0ULL, 0xFFFFFFFBU},
    };
    for (const auto& each : cases) {
        const auto header = read_header(each.bytes.data(), each.limit);
        ASSERT_EQ(header.has_value(), each.body.has_value()) << each.name;
        if (header) {
            EXPECT_EQ(header->body_size, *each.body) << each.name;
            EXPECT_EQ(header->type, each.bytes[0]) << each.name;
        }
    }
}

}  // namespace
}  // namespace banyan::protocol
