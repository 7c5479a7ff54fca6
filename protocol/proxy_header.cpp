#include "protocol/proxy_header.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>

namespace banyan::protocol {
namespace {

constexpr std::string_view signature("\r\n\r\n\0\r\nQUIT\n", 12);

unsigned byte(std::string_view bytes, std::size_t at) {
    return static_cast<unsigned char>(bytes[at]);
}

unsigned int16(std::string_view bytes, std::size_t at) {
    return byte(bytes, at) << 8U | byte(bytes, at + 1);
}

std::string printed(int family, std::string_view address, unsigned port) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (::inet_ntop(family, address.data(), text.data(), text.size()) == nullptr) {
        return {};
    }
    return std::string(text.data()) + ":" + std::to_string(port);
}

}  // namespace

std::optional<std::size_t> proxy_header_size(std::string_view begin) {
    const auto compared = std::min(begin.size(), signature.size());
    if (begin.substr(0, compared) != signature.substr(0, compared) ||
        (begin.size() > 12 && byte(begin, 12) >> 4U != 2)) {
        return std::nullopt;
    }
    if (begin.size() < proxy_header_fixed_size) {
        return proxy_header_fixed_size;
    }
    const std::size_t size = proxy_header_fixed_size + int16(begin, 14);
    return size <= max_proxy_header_size ? std::optional(size) : std::nullopt;
}

std::optional<std::string> decode_proxy_header(std::string_view whole) {
    if (whole.size() < proxy_header_fixed_size || proxy_header_size(whole) != whole.size()) {
        return std::nullopt;
    }
    const unsigned command = byte(whole, 12) & 0xFU;
    if (command > 1) {
        return std::nullopt;
    }
    const unsigned family = byte(whole, 13) >> 4U;
    const auto addresses = whole.substr(proxy_header_fixed_size);
    // Source address, destination address, source port, destination port.
    const std::size_t address_size = family == 1 ? 4 : family == 2 ? 16 : 0;
    if (command == 0 || address_size == 0) {
        return family <= 3 ? std::optional(std::string()) : std::nullopt;
    }
    if (addresses.size() < 2 * address_size + 4) {
        return std::nullopt;
    }
    return printed(family == 1 ? AF_INET : AF_INET6, addresses.substr(0, address_size),
                   int16(addresses, 2 * address_size));
}

}  // namespace banyan::protocol
