// What a changed configuration file changes while Banyan runs. Pure: compares two configurations,
// says which keys take effect at once and which need a restart, and makes the configuration that is
// in force from then on.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "router/config/config.hpp"

namespace banyan::router {

struct KeptKey {
    std::string key;
    std::string value;  ///< what it keeps, as text; empty for a secret
};

struct Reload {
    Config config;                     ///< the running one with the live keys of the fresh one
    std::vector<std::string> applied;  ///< changed keys that take effect, by name
    std::vector<KeptKey> kept;         ///< changed keys that need a restart
};

/// The names of what `fresh` has other than `running`, as config_keys() has them.
std::vector<std::string> changed_keys(const Config& running, const Config& fresh);
/// True if the key takes effect without a restart.
bool is_live(std::string_view key);
Reload plan_reload(const Config& running, const Config& fresh);
/// A key's value as an operator may see it: several are separated by commas, a secret is "(hidden)".
std::string shown_value(const Config& config, const std::string& key);

}  // namespace banyan::router
