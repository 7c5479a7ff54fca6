// What an error of the mirror's says about the mirror: that it is unwell, so that every session would
// meet the same, or only that one transaction did not work out there. Pure; the whole policy is here.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace banyan::router {

/// Why the mirror counts as unwell; in the order of fault_names.
enum class MirrorFault : std::uint8_t {
    unreachable,  ///< no connection, or one that broke without a word
    timed_out,    ///< no answer within a commit's time
    slow,         ///< answers, but each takes so long that waiting adds up to a commit's time
    unavailable,  ///< 57P01 to 57P04: shutting down, crashed, starting up, in recovery
    read_only,    ///< a hot standby, or transactions that cannot be made to write
    disk_full,    ///< 53100
    connections,  ///< 53300: of the server, the database or the role
    resources,    ///< the rest of class 53
    broken,       ///< classes 58 and XX, or it does not speak the protocol
    count_        ///< not a fault
};

inline constexpr std::array<std::string_view, static_cast<std::size_t>(MirrorFault::count_)>
    fault_names = {"unreachable", "timed_out", "slow", "unavailable", "read_only", "disk_full",
                   "connections", "resources", "broken"};

inline std::string_view to_string(MirrorFault fault) {
    return fault_names.at(static_cast<std::size_t>(fault));
}

/// What was being done when the error came.
enum class MirrorDoing : std::uint8_t {
    connection,  ///< logging in, or nothing: the server ended the connection
    begin,       ///< BEGIN READ WRITE: nothing of the client's is in it yet
    statement,
    commit,
};

/// nullopt: it is the transaction's, or the role's, and says nothing about the mirror.
/// `sqlstate` is empty if the connection broke without an ErrorResponse.
std::optional<MirrorFault> fault_of(MirrorDoing doing, std::string_view sqlstate);

}  // namespace banyan::router
