// Replication connections (the startup parameter `replication`): relayed to the primary in the
// phases that only relay, refused by name in between. Pure.
#pragma once

#include <cstdint>
#include <string_view>

namespace banyan::router {

enum class Replication : std::uint8_t {
    none,      ///< an ordinary session
    physical,  ///< replication=true: belongs to no database
    logical,   ///< replication=database
};

/// What the parameter asks for, read as PostgreSQL does (ProcessStartupPacket, parse_bool). What is
/// no Boolean counts as physical: the server then refuses it in its own words.
Replication replication_of(std::string_view value);

}  // namespace banyan::router
