#include "admin/auth.hpp"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>

namespace banyan::admin {
namespace {

std::string lower(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return out;
}

/// "Name:8432" -> "name", "[::1]:8432" -> "::1".
std::string host_name(std::string_view host) {
    if (host.starts_with("[")) {
        const auto end = host.find(']');
        return end == host.npos ? std::string() : lower(host.substr(1, end - 1));
    }
    std::string name = lower(host.substr(0, host.find(':')));
    if (name.ends_with(".")) {
        name.pop_back();
    }
    return name;
}

Response no_token_configured(const Request& request) {
    return problem(
        403, "no-tokens-configured",
        request.peer_is_loopback ? "Changes need a token, and none is configured."
                                 : "No token is configured, so only this machine itself may look.",
        {{"detail",
          "Make a token: TOKEN=$(openssl rand -hex 32); printf %s \"$TOKEN\" | sha256sum. "
          "Then add [[admin.tokens]] with name, sha256 and role = \"operator\" to the "
          "configuration file, restart Banyan, and send the header Authorization: Bearer "
          "$TOKEN (banyanctl: BANYAN_TOKEN)."}});
}

Response unauthorized(std::string_view type, std::string_view title) {
    Response response = problem(401, type, title);
    response.headers.emplace_back("WWW-Authenticate", "Bearer realm=\"banyan\"");
    return response;
}

/// The token whose hash this is. Looks at every one, so that time tells nothing.
const router::AdminToken* find_token(const std::vector<router::AdminToken>& tokens,
                                     const std::string& hash) {
    const router::AdminToken* found = nullptr;
    for (const auto& token : tokens) {
        if (equal_constant_time(token.sha256, hash)) {
            found = &token;
        }
    }
    return found;
}

std::int64_t unix_ms() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

}  // namespace

std::string_view to_string(Role role) {
    switch (role) {
        case Role::nobody:
            return "nobody";
        case Role::viewer:
            return "viewer";
        case Role::operator_:
            return "operator";
        case Role::admin:
            return "admin";
    }
    return "";
}

std::optional<Role> role_from_string(std::string_view text) {
    for (const Role role : {Role::viewer, Role::operator_, Role::admin}) {
        if (to_string(role) == text) {
            return role;
        }
    }
    return std::nullopt;
}

std::string sha256_hex(std::string_view text) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned size = 0;
    if (EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1) {
        return {};  // equals no configured hash: those have 64 digits
    }
    constexpr std::string_view digits = "0123456789abcdef";
    std::string out;
    for (std::size_t i = 0; i < size; ++i) {
        out.push_back(digits[digest.at(i) >> 4U]);
        out.push_back(digits[digest.at(i) & 15U]);
    }
    return out;
}

bool equal_constant_time(std::string_view a, std::string_view b) {
    return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::optional<Response> check_host(const Request& request, const router::Config::Admin& config) {
    const std::string name = host_name(request.host);
    const auto same = [&](const std::string& allowed) {
        return !allowed.empty() && host_name(allowed) == name;
    };
    const bool literal = request.local_address.find(':') != std::string::npos
                             ? name == lower(request.local_address)
                             : same(request.local_address);
    if (!name.empty() &&
        (router::is_loopback_host(name) || literal || same(config.host) ||
         lower(config.host) == name ||
         std::any_of(config.allowed_hosts.begin(), config.allowed_hosts.end(), same))) {
        return std::nullopt;
    }
    return problem(421, "host-not-allowed", "The Host header does not name this server.",
                   {{"host", request.host},
                    {"detail", "Add the name to admin.allowed_hosts in the configuration file."}});
}

std::optional<Response> check_origin(const Request& request) {
    const bool same_site = request.sec_fetch_site.empty() ||
                           request.sec_fetch_site == "same-origin" ||
                           request.sec_fetch_site == "none";
    const std::string origin = lower(request.origin);
    const bool same_origin = request.origin.empty() || origin == "http://" + lower(request.host) ||
                             origin == "https://" + lower(request.host);
    if (same_site && same_origin) {
        return std::nullopt;
    }
    return problem(403, "cross-site", "A page of another site may not change anything here.",
                   {{"origin", request.origin}, {"sec_fetch_site", request.sec_fetch_site}});
}

std::optional<Response> authenticate(const Request& request, const router::Config::Admin& config,
                                     Role needed, Identity& identity) {
    identity = {"anonymous", Role::nobody};
    if (config.tokens.empty() && needed != Role::nobody) {
        if (!request.peer_is_loopback || needed > Role::viewer) {
            return no_token_configured(request);
        }
        identity.role = Role::viewer;
        return std::nullopt;
    }
    if (needed == Role::nobody) {
        return std::nullopt;
    }
    if (request.authorization.empty()) {
        return unauthorized("token-missing", "This needs a token: Authorization: Bearer <token>.");
    }
    const auto blank = request.authorization.find(' ');
    if (blank == std::string::npos || lower(request.authorization.substr(0, blank)) != "bearer") {
        return unauthorized("token-missing", "Only the scheme Bearer is known here.");
    }
    const auto start = request.authorization.find_first_not_of(' ', blank);
    const std::string token = start == std::string::npos ? "" : request.authorization.substr(start);
    const auto* known = find_token(config.tokens, sha256_hex(token));
    const auto role = known == nullptr ? std::nullopt : role_from_string(known->role);
    if (!role) {
        return unauthorized("token-unknown", "This token is not one of those configured.");
    }
    if (known->expires_unix_ms != 0 && unix_ms() >= known->expires_unix_ms) {
        return unauthorized("token-expired", "This token has expired; ask for a new one.");
    }
    identity = {known->name, *role};
    if (identity.role < needed) {
        return forbidden(identity, needed, "This");
    }
    return std::nullopt;
}

Response forbidden(const Identity& identity, Role needed, std::string_view what) {
    return problem(403, "role-too-low",
                   std::string(what) + " needs the role " + std::string(to_string(needed)) +
                       "; the token \"" + identity.name + "\" has " +
                       std::string(to_string(identity.role)) + ".",
                   {{"role", to_string(identity.role)}, {"needed", to_string(needed)}});
}

}  // namespace banyan::admin
