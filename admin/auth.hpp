// Who may do what. Bearer tokens are compared as SHA-256 in constant time. Without any token
// configured, the machine itself may look and nobody may change anything. Against browsers' tricks:
// the Host header must name this server, and a change must not come from another site's page.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "admin/http.hpp"
#include "router/config/config.hpp"

namespace banyan::admin {

/// In order of power. `nobody` needs no token at all (health probes).
enum class Role : std::uint8_t { nobody, viewer, operator_, admin };

std::string_view to_string(Role role);
std::optional<Role> role_from_string(std::string_view text);

struct Identity {
    std::string name;  ///< of the token; "anonymous" for the loopback viewer
    Role role = Role::nobody;
};

/// 64 lower-case hexadecimal digits.
std::string sha256_hex(std::string_view text);

/// Takes as long wherever the two differ. (Their length is not secret.)
bool equal_constant_time(std::string_view a, std::string_view b);

/// Nothing if the request's Host names this server, else the problem to answer.
std::optional<Response> check_host(const Request& request, const router::Config::Admin& config);

/// Nothing unless a browser says the request comes from another site.
std::optional<Response> check_origin(const Request& request);

/// Sets `identity`, or returns the problem to answer (401, 403).
std::optional<Response> authenticate(const Request& request, const router::Config::Admin& config,
                                     Role needed, Identity& identity);

/// The problem for an identity that is known but may not.
Response forbidden(const Identity& identity, Role needed, std::string_view what);

}  // namespace banyan::admin
