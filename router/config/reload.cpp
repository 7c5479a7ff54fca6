#include "router/config/reload.hpp"

#include <algorithm>
#include <array>

namespace banyan::router {
namespace {

/// A key, or with a dot at its end all those that begin so, and how it is taken over.
struct Live {
    std::string_view key;
    void (*copy)(Config& to, const Config& from);
};

// [mirror] logins and synchronous_commit, the two databases, addresses and threads are what everything
// was started with.
constexpr std::array live_keys{
    Live{"listen.ssl_cert_file",
         [](Config& to, const Config& from) {
             to.listen.ssl_cert_file = from.listen.ssl_cert_file;
         }},
    Live{"listen.ssl_key_file",
         [](Config& to, const Config& from) { to.listen.ssl_key_file = from.listen.ssl_key_file; }},
    Live{"listen.ssl_ca_file",
         [](Config& to, const Config& from) { to.listen.ssl_ca_file = from.listen.ssl_ca_file; }},
    Live{"listen.ssl_min_protocol_version",
         [](Config& to, const Config& from) {
             to.listen.ssl_min_protocol_version = from.listen.ssl_min_protocol_version;
         }},
    Live{"users[].", [](Config& to, const Config& from) { to.users = from.users; }},
    Live{"mirror.commit_timeout_ms",
         [](Config& to, const Config& from) {
             to.mirror.commit_timeout = from.mirror.commit_timeout;
         }},
    Live{"mirror.lock_timeout_ms",
         [](Config& to, const Config& from) { to.mirror.lock_timeout = from.mirror.lock_timeout; }},
    Live{"mirror.connect_timeout_ms",
         [](Config& to, const Config& from) {
             to.mirror.connect_timeout = from.mirror.connect_timeout;
         }},
    Live{"mirror.on_mirror_failure",
         [](Config& to, const Config& from) { to.mirror.on_failure = from.mirror.on_failure; }},
    Live{"mirror.ddl_timeout_ms",
         [](Config& to, const Config& from) { to.mirror.ddl_timeout = from.mirror.ddl_timeout; }},
    Live{"mirror.failures_to_open",
         [](Config& to, const Config& from) {
             to.mirror.failures_to_open = from.mirror.failures_to_open;
         }},
    Live{"mirror.probe_interval_ms",
         [](Config& to, const Config& from) {
             to.mirror.probe_interval = from.mirror.probe_interval;
         }},
    Live{"mirror.longest_probe_interval_ms",
         [](Config& to, const Config& from) {
             to.mirror.longest_probe_interval = from.mirror.longest_probe_interval;
         }},
    Live{"mirror.ddl", [](Config& to, const Config& from) { to.mirror.ddl = from.mirror.ddl; }},
    Live{"mirror.ddl_in_dual_write",
         [](Config& to, const Config& from) {
             to.mirror.ddl_in_dual_write = from.mirror.ddl_in_dual_write;
         }},
    Live{"mirror.ddl_in_dual_read",
         [](Config& to, const Config& from) {
             to.mirror.ddl_in_dual_read = from.mirror.ddl_in_dual_read;
         }},
    Live{"mirror.ddl_in_switchover",
         [](Config& to, const Config& from) {
             to.mirror.ddl_in_switchover = from.mirror.ddl_in_switchover;
         }},
    Live{"mirror.allow_md5",
         [](Config& to, const Config& from) { to.mirror.allow_md5 = from.mirror.allow_md5; }},
    Live{"mirror.allow_cleartext",
         [](Config& to, const Config& from) {
             to.mirror.allow_cleartext = from.mirror.allow_cleartext;
         }},
    Live{"backfill.chunk_time_ms",
         [](Config& to, const Config& from) { to.backfill.chunk_time = from.backfill.chunk_time; }},
    Live{"backfill.max_chunk_rows",
         [](Config& to, const Config& from) {
             to.backfill.max_chunk_rows = from.backfill.max_chunk_rows;
         }},
    Live{"backfill.max_rows_per_second",
         [](Config& to, const Config& from) {
             to.backfill.max_rows_per_second = from.backfill.max_rows_per_second;
         }},
    Live{"shadow.share",
         [](Config& to, const Config& from) { to.shadow.share = from.shadow.share; }},
    Live{"shadow.recheck_attempts",
         [](Config& to, const Config& from) {
             to.shadow.recheck_attempts = from.shadow.recheck_attempts;
         }},
    Live{"shadow.redact",
         [](Config& to, const Config& from) { to.shadow.redact = from.shadow.redact; }},
    Live{"shadow.min_samples",
         [](Config& to, const Config& from) { to.shadow.min_samples = from.shadow.min_samples; }},
    Live{"shadow.rerun_share",
         [](Config& to, const Config& from) { to.shadow.rerun_share = from.shadow.rerun_share; }},
    Live{"shadow.rerun_duty",
         [](Config& to, const Config& from) { to.shadow.rerun_duty = from.shadow.rerun_duty; }},
    Live{"shadow.slower_factor",
         [](Config& to, const Config& from) {
             to.shadow.slower_factor = from.shadow.slower_factor;
         }},
    Live{"shadow.slower_by_ms",
         [](Config& to, const Config& from) { to.shadow.slower_by = from.shadow.slower_by; }},
    Live{"switchover.", [](Config& to, const Config& from) { to.switchover = from.switchover; }},
    Live{"admin.allowed_hosts",
         [](Config& to, const Config& from) { to.admin.allowed_hosts = from.admin.allowed_hosts; }},
    Live{"admin.tokens[].",
         [](Config& to, const Config& from) { to.admin.tokens = from.admin.tokens; }},
    Live{"hooks.", [](Config& to, const Config& from) { to.hooks = from.hooks; }},
    Live{"limits.", [](Config& to, const Config& from) { to.limits = from.limits; }},
    Live{"shutdown.", [](Config& to, const Config& from) { to.shutdown = from.shutdown; }},
    Live{"log.", [](Config& to, const Config& from) { to.log = from.log; }},
};

const Live* live(std::string_view key) {
    const auto* found = std::find_if(live_keys.begin(), live_keys.end(), [&](const Live& each) {
        return each.key.ends_with('.') ? key.starts_with(each.key) : key == each.key;
    });
    return found == live_keys.end() ? nullptr : found;
}

const std::string& value_of(const Config& config, const std::string& key) {
    static const std::string none;
    const auto found = config.values.find(key);
    return found == config.values.end() ? none : found->second;
}

// Without the zero bytes that end each value.
std::string shown(const std::string& key, const std::string& value) {
    if (key.find("password") != std::string::npos || key.find("sha256") != std::string::npos) {
        return "";
    }
    std::string text;
    for (const char c : value.substr(0, value.empty() ? 0 : value.size() - 1)) {
        text += c == '\0' ? std::string(", ") : std::string(1, c);
    }
    return text;
}

}  // namespace

std::string shown_value(const Config& config, const std::string& key) {
    const auto& value = value_of(config, key);
    const auto text = shown(key, value);
    const bool hidden = text.empty() && value.find_first_not_of('\0') != std::string::npos;
    return hidden ? "(hidden)" : text;
}

std::vector<std::string> changed_keys(const Config& running, const Config& fresh) {
    std::vector<std::string> keys;
    for (const auto* from : {&running, &fresh}) {
        for (const auto& [key, value] : from->values) {
            if (value_of(running, key) != value_of(fresh, key)) {
                keys.push_back(key);
            }
        }
    }
    std::sort(keys.begin(), keys.end());
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
    return keys;
}

bool is_live(std::string_view key) {
    return live(key) != nullptr;
}

Reload plan_reload(const Config& running, const Config& fresh) {
    Reload reload{running, {}, {}};
    for (const auto& key : changed_keys(running, fresh)) {
        if (const auto* found = live(key)) {
            found->copy(reload.config, fresh);
            reload.config.values[key] = value_of(fresh, key);
            reload.applied.push_back(key);
        } else {
            reload.kept.push_back({key, shown(key, value_of(running, key))});
        }
    }
    reload.config.reloads.reset();
    return reload;
}

}  // namespace banyan::router
