// How long a message may be, by type and state, so that a length alone never commits us to memory.
// Body sizes in bytes, without the header. Pure.
#pragma once

#include <cstdint>
#include <string_view>

namespace banyan::protocol {

/// PG_MAX_AUTH_TOKEN_LENGTH: a password or GSS token during authentication.
inline constexpr std::uint64_t max_authentication_body = 65'535;
/// PG_MAX_SASL_MESSAGE_LENGTH.
inline constexpr std::uint64_t max_sasl_body = 1'024;

/// The types a client may send once logged in.
constexpr bool is_client_message(char type) {
    return std::string_view("QPBDECSHFdcfX").find(type) != std::string_view::npos;
}

/// A client's message once logged in: as backend/tcop/postgres.c, SocketBackend. `large` is what a
/// query, its parameters or copy data may have.
constexpr std::uint64_t max_client_body(char type, std::uint64_t large) {
    switch (type) {
        case 'Q':
        case 'P':
        case 'B':
        case 'F':
        case 'd':
            return large;
        default:
            return 10'000 - 4;  // PQ_SMALL_MESSAGE_LIMIT
    }
}

/// A server's message: rows, texts and what describes them may be long (libpq's
/// VALID_LONG_MESSAGE_TYPE); before the login is done nothing is.
constexpr std::uint64_t max_server_body(char type, bool logged_in) {
    switch (type) {
        case 'T':
        case 'D':
        case 'd':
        case 'V':
        case 'A':
        case 't':
        case 'E':
        case 'N':
            return logged_in ? std::uint64_t{1} << 30U : max_authentication_body;
        case 'S':
            return std::uint64_t{1} << 20U;  // a ParameterStatus: a setting's value
        default:
            return max_authentication_body;
    }
}

}  // namespace banyan::protocol
