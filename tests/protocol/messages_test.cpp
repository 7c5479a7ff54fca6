// What clients send: every message survives a round trip, and no truncation, count or tail of it is
// taken for a whole one.
#include "protocol/messages.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <string>

namespace banyan::protocol {
namespace {

using namespace std::literals;
using Bytes = std::string;

/// The body of the one message in `message`; checks type and length.
std::string_view body_of(const Bytes& message, char type) {
    EXPECT_GE(message.size(), header_size);
    EXPECT_EQ(message[0], type);
    EXPECT_EQ(get_int32(message.data() + 1), message.size() - 1);
    return std::string_view(message).substr(header_size);
}

template <class Encode>
Bytes encoded(Encode encode) {
    Bytes out;
    encode(out);
    return out;
}

Bytes parse_message() {
    return encoded([](Bytes& out) { encode_parse(out, "s1", "SELECT $1, $2", {23, 0, 25}); });
}

Bytes bind_message() {
    Bind bind;
    bind.portal = "p";
    bind.statement = "s1";
    bind.parameter_formats = {1, 0, 1};
    bind.parameters = {"\0\0\0\7"sv, std::nullopt, ""sv};
    bind.result_formats = {1, 0};
    return encoded([&](Bytes& out) { encode_bind(out, bind); });
}

TEST(Parse, SurvivesARoundTrip) {
    const Bytes message = parse_message();
    const auto parse = decode_parse(body_of(message, 'P'));
    ASSERT_TRUE(parse);
    EXPECT_EQ(parse->statement, "s1");
    EXPECT_EQ(parse->query, "SELECT $1, $2");
    EXPECT_EQ(parse->parameter_types, (std::vector<std::uint32_t>{23, 0, 25}));
}

TEST(Bind, SurvivesARoundTrip) {
    const Bytes message = bind_message();
    const auto bind = decode_bind(body_of(message, 'B'));
    ASSERT_TRUE(bind);
    EXPECT_EQ(bind->portal, "p");
    EXPECT_EQ(bind->statement, "s1");
    EXPECT_EQ(bind->parameter_formats, (std::vector<std::uint16_t>{1, 0, 1}));
    ASSERT_EQ(bind->parameters.size(), 3U);
    EXPECT_EQ(bind->parameters[0], "\0\0\0\7"sv);
    EXPECT_EQ(bind->parameters[1], std::nullopt);
    EXPECT_EQ(bind->parameters[2], ""sv);
    EXPECT_EQ(bind->result_formats, (std::vector<std::uint16_t>{1, 0}));
}

TEST(Bind, MayHaveAsManyParametersAsTheCountCanSay) {
    Bind bind;
    bind.parameters.assign(65535, "x"sv);
    const Bytes message = encoded([&](Bytes& out) { encode_bind(out, bind); });
    const auto again = decode_bind(body_of(message, 'B'));
    ASSERT_TRUE(again);
    EXPECT_EQ(again->parameters.size(), 65535U);
}

TEST(Bind, ShortFormatListsFollowTheProtocolsRules) {
    Bind bind;
    EXPECT_EQ(bind.parameter_format(0), 0);  // none: all text
    bind.parameter_formats = {1};
    EXPECT_EQ(bind.parameter_format(7), 1);  // one: for all
    bind.parameter_formats = {0, 1};
    EXPECT_EQ(bind.parameter_format(1), 1);
    EXPECT_EQ(bind.parameter_format(2), 0);  // the server will refuse it
}

TEST(ClientMessages, AreEncodedAsTheManualSays) {
    struct Case {
        const char* name;
        Bytes bytes;
        Bytes expected;
    };
    const Case cases[] = {
        {"Execute", encoded([](Bytes& o) { encode_execute(o, "p", 9); }), "E\0\0\0\12p\0\0\0\0\11"s},
        {"Describe", encoded([](Bytes& o) { encode_describe(o, 'P', ""); }), "D\0\0\0\6P\0"s},
        {"Close", encoded([](Bytes& o) { encode_close(o, 'S', "s"); }), "C\0\0\0\7Ss\0"s},
        {"Query", encoded([](Bytes& o) { encode_query(o, "x"); }), "Q\0\0\0\6x\0"s},
        {"Sync", encoded(encode_sync), "S\0\0\0\4"s},
        {"Flush", encoded(encode_flush), "H\0\0\0\4"s},
        {"Terminate", encoded(encode_terminate), "X\0\0\0\4"s},
        {"Password", encoded([](Bytes& o) { encode_password(o, "pw"); }), "p\0\0\0\7pw\0"s},
        {"CancelRequest", encoded([](Bytes& o) { encode_cancel_request(o, 1, 2); }),
         "\0\0\0\20\4\xD2\x16\x2E\0\0\0\1\0\0\0\2"s},
    };
    for (const auto& each : cases) {
        EXPECT_EQ(each.bytes, each.expected) << each.name;
    }
    const auto execute = decode_execute(std::string_view(cases[0].bytes).substr(5));
    ASSERT_TRUE(execute);
    EXPECT_EQ(execute->portal, "p");
    EXPECT_EQ(execute->max_rows, 9U);
    const auto named = decode_named(std::string_view(cases[2].bytes).substr(5));
    ASSERT_TRUE(named);
    EXPECT_EQ(named->kind, 'S');
    EXPECT_EQ(named->name, "s");
}

TEST(ClientMessages, NoTruncationAndNoTailIsTakenForAWholeMessage) {
    struct Case {
        const char* name;
        Bytes message;
        std::function<bool(std::string_view)> decodes;
    };
    const Case cases[] = {
        {"Parse", parse_message(), [](std::string_view b) { return decode_parse(b).has_value(); }},
        {"Bind", bind_message(), [](std::string_view b) { return decode_bind(b).has_value(); }},
        {"Execute", encoded([](Bytes& o) { encode_execute(o, "portal", 3); }),
         [](std::string_view b) { return decode_execute(b).has_value(); }},
        {"Describe", encoded([](Bytes& o) { encode_describe(o, 'S', "stmt"); }),
         [](std::string_view b) { return decode_named(b).has_value(); }},
    };
    for (const auto& each : cases) {
        const auto body = std::string_view(each.message).substr(header_size);
        ASSERT_TRUE(each.decodes(body)) << each.name;
        for (std::size_t size = 0; size < body.size(); ++size) {
            // A copy of its own, so that AddressSanitizer sees a read beyond the end.
            const std::vector<char> cut(body.begin(),
                                        body.begin() + static_cast<std::ptrdiff_t>(size));
            EXPECT_FALSE(each.decodes({cut.data(), cut.size()})) << each.name << " cut at " << size;
        }
        EXPECT_FALSE(each.decodes(Bytes(body) + "x")) << each.name << " with a byte too many";
        EXPECT_FALSE(each.decodes(Bytes(body) + '\0')) << each.name << " with a zero too many";
    }
}

TEST(ClientMessages, CountsBeyondTheBytesAreRefused) {
    struct Case {
        const char* name;
        char type;
        Bytes body;
    };
    const Case cases[] = {
        {"Parse: 65535 types, none there", 'P', "\0\0\xFF\xFF"s},
        {"Parse: a type too few", 'P', "\0\0\0\2\0\0\0\1"s},
        {"Parse: a negative count", 'P', "\0\0\x80\0"s + Bytes(8, '\0')},
        {"Bind: 65535 formats, none there", 'B', "\0\0\xFF\xFF"s},
        {"Bind: 65535 parameters, none there", 'B', "\0\0\0\0\xFF\xFF"s},
        {"Bind: a parameter of 2 GiB", 'B', "\0\0\0\0\0\1\x7F\xFF\xFF\xFF\0\0"s},
        {"Bind: a parameter of length -2", 'B', "\0\0\0\0\0\1\xFF\xFF\xFF\xFE\0\0"s},
        {"Bind: 65535 result formats, one there", 'B', "\0\0\0\0\0\0\xFF\xFF\0\1"s},
        {"Describe: neither statement nor portal", 'D', "Xname\0"s},
        {"Describe: no kind at all", 'D', ""},
        {"Execute: nothing behind the portal", 'E', "p\0"s},
    };
    for (const auto& each : cases) {
        const bool decoded = each.type == 'P'   ? decode_parse(each.body).has_value()
                             : each.type == 'B' ? decode_bind(each.body).has_value()
                             : each.type == 'D' ? decode_named(each.body).has_value()
                                                : decode_execute(each.body).has_value();
        EXPECT_FALSE(decoded) << each.name;
    }
}

TEST(Startup, SurvivesARoundTrip) {
    Startup startup;
    startup.parameters = {{"user", "app"}, {"database", "shop"}, {"options", "-c a=b"}};
    const Bytes bytes = encoded([&](Bytes& out) { encode_startup(out, startup); });
    ASSERT_GE(bytes.size(), 8U);
    EXPECT_EQ(get_int32(bytes.data()), bytes.size());
    EXPECT_EQ(get_int32(bytes.data() + 4), protocol_3_0);
    const auto again = decode_startup(protocol_3_0, std::string_view(bytes).substr(8));
    ASSERT_TRUE(again);
    EXPECT_EQ(again->parameters, startup.parameters);
    EXPECT_EQ(again->get("database"), "shop");
    EXPECT_EQ(again->get("absent"), "");
}

TEST(Startup, SetReplacesOrAdds) {
    Startup startup;
    startup.set("user", "a");
    startup.set("database", "d");
    startup.set("user", "b");
    ASSERT_EQ(startup.parameters.size(), 2U);
    EXPECT_EQ(startup.get("user"), "b");
}

TEST(Startup, TheTerminatorIsExactlyTheLastByte) {
    struct Case {
        const char* name;
        Bytes body;
        bool good;
    };
    const Case cases[] = {
        {"no parameters at all", "\0"s, true},
        {"one parameter", "user\0app\0\0"s, true},
        {"an empty value", "user\0\0\0"s, true},
        {"nothing", "", false},
        {"no terminator", "user\0app\0"s, false},
        {"a name without value", "user\0"s, false},
        {"a value without its end", "user\0app"s, false},
        {"bytes behind the terminator", "user\0app\0\0x"s, false},
        {"a second terminator", "user\0app\0\0\0"s, false},
        {"parameters behind the terminator", "user\0app\0\0database\0d\0\0"s, false},
    };
    for (const auto& each : cases) {
        EXPECT_EQ(decode_startup(protocol_3_0, each.body).has_value(), each.good) << each.name;
    }
}

TEST(Startup, NoTruncationIsTakenForAWholeOne) {
    const Bytes body = "user\0app\0database\0shop\0\0"s;
    for (std::size_t size = 0; size < body.size(); ++size) {
        EXPECT_FALSE(decode_startup(protocol_3_0, body.substr(0, size))) << "cut at " << size;
    }
}

}  // namespace
}  // namespace banyan::protocol
