#include "proxy/reload.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "proxy/log.hpp"

namespace banyan::proxy {

Reloader::Reloader(const router::Config& config, Parts parts)
    : config_(config), parts_(std::move(parts)) {}

router::Answer<boost::json::object> Reloader::reload() {
    const std::lock_guard lock(mutex_);
    const auto refuse = [](const std::string& why) {
        spdlog::error("reload: the configuration, certificates and keys stay as they were: {}",
                      why);
        return router::Refusal{422,
                               "bad-configuration",
                               "The configuration cannot be used; everything stays as it was.",
                               {{"detail", why}}};
    };
    const auto fresh = router::load_config(config_.file);
    if (!fresh) {
        return refuse(fresh.error().message);
    }
    const auto running = config_.latest();
    auto plan = router::plan_reload(*running, *fresh);
    if (auto loaded = parts_.tls.reload(plan.config); !loaded) {
        return refuse(config_.file.string() + ": " + loaded.error().message);
    }
    spdlog::info("reload: the configuration, certificates and keys were read again");
    boost::json::array applied;
    boost::json::array restart;
    for (const auto& key : plan.applied) {
        spdlog::info("reload: {} takes effect", key);
        applied.emplace_back(key);
    }
    for (const auto& kept : plan.kept) {
        spdlog::warn("reload: {} needs a restart{}", kept.key,
                     kept.value.empty() ? "" : "; it keeps " + kept.value);
        restart.push_back({{"key", kept.key}, {"keeps", kept.value}});
    }
    apply(plan.config, plan.applied);
    spdlog::default_logger()->flush();
    return boost::json::object{{"applied", std::move(applied)}, {"restart", std::move(restart)}};
}

void Reloader::apply(const router::Config& now, const std::vector<std::string>& changed) {
    {
        const std::lock_guard lock(config_.reloads->mutex);
        config_.reloads->config = std::make_shared<const router::Config>(now);
    }
    set_up_log(now.log);
    parts_.breaker.set_pace(breaker_pace(now));
    parts_.proxy.reconfigure(now);
    parts_.set_admin(now.admin);
    // Kept over restarts, as the admin API's own changes of it are.
    if (std::find(changed.begin(), changed.end(), "shadow.share") != changed.end()) {
        (void)parts_.control.set_shadow(now.shadow.share, {"banyan", ""});
    }
}

}  // namespace banyan::proxy
