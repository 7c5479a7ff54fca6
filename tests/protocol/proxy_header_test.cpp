#include "protocol/proxy_header.hpp"

#include <gtest/gtest.h>

namespace banyan::protocol {
namespace {

using namespace std::literals;

constexpr auto signature = "\r\n\r\n\0\r\nQUIT\n"sv;

std::string header(char version_and_command, char family, const std::string& rest) {
    std::string out(signature);
    out += version_and_command;
    out += family;
    out += static_cast<char>(rest.size() >> 8U);
    out += static_cast<char>(rest.size() & 0xFFU);
    return out + rest;
}

const std::string ipv4 = header('\x21', '\x11', "\x0a\x01\x02\x03\x7f\0\0\x01\x30\x39\x15\x38"s);

TEST(ProxyHeader, TheClientsAddressIsTheSource) {
    EXPECT_EQ(decode_proxy_header(ipv4), "10.1.2.3:12345");
    const std::string source = "\x20\x01\x0d\xb8"s + std::string(11, '\0') + "\x01";
    EXPECT_EQ(decode_proxy_header(
                  header('\x21', '\x21', source + std::string(16, '\1') + "\xff\xff\0\1"s)),
              "2001:db8::1:65535");
}

TEST(ProxyHeader, WhatFollowsTheAddressesIsSkipped) {
    auto rest = ipv4.substr(16) + "\x03\0\x04wxyz"s;
    EXPECT_EQ(decode_proxy_header(header('\x21', '\x11', rest)), "10.1.2.3:12345");
}

TEST(ProxyHeader, AHealthCheckAndOtherFamiliesNameNobody) {
    EXPECT_EQ(decode_proxy_header(header('\x20', '\0', "")), "");
    EXPECT_EQ(decode_proxy_header(header('\x20', '\x11', "anything")), "");
    EXPECT_EQ(decode_proxy_header(header('\x21', '\0', "")), "");
    EXPECT_EQ(decode_proxy_header(header('\x21', '\x31', std::string(216, 'u'))), "");
}

TEST(ProxyHeader, MalformedOnesAreNone) {
    EXPECT_EQ(decode_proxy_header(header('\x22', '\x11', ipv4.substr(16))), std::nullopt);
    EXPECT_EQ(decode_proxy_header(header('\x11', '\x11', ipv4.substr(16))), std::nullopt);
    EXPECT_EQ(decode_proxy_header(header('\x21', '\x41', ipv4.substr(16))), std::nullopt);
    EXPECT_EQ(decode_proxy_header(header('\x21', '\x11', ipv4.substr(16, 11))), std::nullopt);
    EXPECT_EQ(decode_proxy_header(header('\x21', '\x21', ipv4.substr(16))), std::nullopt);
    EXPECT_EQ(decode_proxy_header(ipv4 + "x"), std::nullopt);
}

TEST(ProxyHeader, TheSizeIsKnownFromTheFixedPartAndOthersAreRefusedAtTheFirstWrongByte) {
    for (std::size_t cut = 0; cut < ipv4.size(); ++cut) {
        EXPECT_EQ(decode_proxy_header(std::string_view(ipv4).substr(0, cut)), std::nullopt);
        EXPECT_EQ(proxy_header_size(std::string_view(ipv4).substr(0, cut)),
                  cut < 16 ? 16U : ipv4.size());
    }
    EXPECT_EQ(proxy_header_size("PROXY TCP4 "), std::nullopt);  // version 1
    for (std::size_t at = 0; at < signature.size(); ++at) {
        auto wrong = ipv4;
        wrong[at] = static_cast<char>(wrong[at] + 1);
        EXPECT_EQ(proxy_header_size(std::string_view(wrong).substr(0, at + 1)), std::nullopt) << at;
    }
    EXPECT_EQ(proxy_header_size(header('\x21', '\x11', std::string(4080, 'x'))), 4096U);
    EXPECT_EQ(proxy_header_size(header('\x21', '\x11', std::string(4081, 'x'))), std::nullopt);
}

}  // namespace
}  // namespace banyan::protocol
