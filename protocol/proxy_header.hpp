// The PROXY protocol, version 2: the header a load balancer puts in front of a connection to say
// whom it forwards. The format is HAProxy's (its document "The PROXY protocol", section 2.2).
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace banyan::protocol {

/// Bytes of the fixed part, from which the size of the whole is known.
inline constexpr std::size_t proxy_header_fixed_size = 16;
/// Longer ones are refused: addresses take 36 to 216 bytes, the rest is annotations.
inline constexpr std::size_t max_proxy_header_size = 4096;

/// Size of the whole header, at least 16, from its first 16 bytes. While fewer are there, 16 if
/// they can begin a header. nullopt: this is no version 2 header, or too long a one.
std::optional<std::size_t> proxy_header_size(std::string_view begin);

/// Of a whole header: "address:port" of the client, empty if the header names none (a health check
/// of the balancer's own, an unspecified or a Unix address). nullopt: malformed.
std::optional<std::string> decode_proxy_header(std::string_view whole);

}  // namespace banyan::protocol
