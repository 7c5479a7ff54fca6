// What the two servers keep of one role's password. Plain data; read by Verifiers.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "protocol/scram.hpp"
#include "router/model/types.hpp"

namespace banyan::router {

struct RoleVerifiers {
    struct OneSide {
        bool readable = false;
        std::string error;  ///< why not
        std::optional<protocol::Secret>
            text;  ///< rolpassword; nullopt: no such role, or no password
    };
    std::array<OneSide, 2> sides;

    const OneSide& of(Side side) const { return sides.at(static_cast<std::size_t>(side)); }
    OneSide& of(Side side) { return sides.at(static_cast<std::size_t>(side)); }

    /// The side's SCRAM verifier; nullopt if there is none (not readable, no such role, md5).
    std::optional<protocol::ScramVerifier> scram(Side side) const {
        const auto& text = of(side).text;
        return text ? protocol::parse_scram_verifier(text->reveal()) : std::nullopt;
    }
    /// Both sides have the same one, to the byte.
    bool identical() const {
        const auto& source = of(Side::source).text;
        const auto& target = of(Side::target).text;
        return source && target && source->same(*target);
    }
};

}  // namespace banyan::router
