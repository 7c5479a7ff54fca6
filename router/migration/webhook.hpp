// A hook that is an address: the transition is posted there.
#pragma once

#include "router/migration/hook.hpp"

namespace banyan::router {

/// "http://..." or "https://..."
bool is_webhook(std::string_view command);

/// Posts `input` (JSON) to command[0], with the other elements as header lines and what
/// `environment` says as headers: BANYAN_TO as Banyan-To. Good: an answer of 2xx. Redirections are
/// not followed, and a server's certificate is verified by the system's authorities. `timeout` and
/// `give_up` as of run_hook().
HookResult call_webhook(const std::vector<std::string>& command, const std::string& input,
                        const std::vector<std::pair<std::string, std::string>>& environment,
                        std::chrono::milliseconds timeout, const std::function<bool()>& give_up);

}  // namespace banyan::router
