#include "router/migration/blocking.hpp"

#include <algorithm>

namespace banyan::router {
namespace {

constexpr std::size_t most_described = 5;

std::string joined(const std::vector<std::string>& things) {
    std::string text;
    for (const auto& thing : things) {
        text += (text.empty() ? "" : ", ") + thing;
    }
    return text;
}

}  // namespace

std::string_view to_string(OnBlocked choice) {
    return choice == OnBlocked::end ? "end" : "abort";
}

std::optional<OnBlocked> on_blocked_from_string(std::string_view text) {
    return text == "end"     ? std::optional(OnBlocked::end)
           : text == "abort" ? std::optional(OnBlocked::abort)
                             : std::nullopt;
}

boost::json::array to_json(const std::vector<BlockedSession>& sessions) {
    boost::json::array all;
    for (const auto& it : sessions) {
        boost::json::array things;
        for (const auto& thing : it.things) {
            things.emplace_back(thing);
        }
        all.push_back({{"id", it.id},
                       {"user", it.user},
                       {"application", it.application},
                       {"client", it.client},
                       {"things", std::move(things)},
                       {"ended", it.ended}});
    }
    return all;
}

bool conflict(const AdvisoryLock& a, const AdvisoryLock& b) {
    return a.two_keys == b.two_keys && a.key == b.key && !(a.shared && b.shared);
}

std::vector<BlockedSession> blocked_sessions(const std::vector<SessionInfo>& sessions,
                                             const std::vector<ForeignLock>& foreign,
                                             const std::vector<LockWait>& waits, Side primary) {
    std::vector<BlockedSession> blocked;
    for (const auto& session : sessions) {
        auto things = session.blocking;
        for (const auto& own : session.locks) {
            const auto held =
                std::find_if(foreign.begin(), foreign.end(),
                             [&](const ForeignLock& other) { return conflict(own, other.lock); });
            if (held != foreign.end()) {
                const std::string name = to_string(own);
                // The session itself, having tried, does not know by whom.
                std::erase_if(things, [&](const std::string& thing) {
                    return thing.starts_with(name + " (");
                });
                things.push_back(name + " (held on the other side by " + held->holder + ")");
            }
        }
        const auto process =
            primary == Side::source ? session.source_process_id : session.target_process_id;
        const auto wait = std::find_if(waits.begin(), waits.end(), [&](const LockWait& it) {
            return it.process_id == process;
        });
        if (wait != waits.end()) {
            things.push_back("a statement that waits for " + to_string(wait->lock) +
                             ", which an idle session holds");
        }
        if (!things.empty()) {
            blocked.push_back({session.id, session.user, session.application, session.client,
                               std::move(things), false, wait != waits.end()});
        }
    }
    std::sort(blocked.begin(), blocked.end(),
              [](const auto& a, const auto& b) { return a.id < b.id; });
    return blocked;
}

std::string describe(const std::vector<BlockedSession>& sessions) {
    std::string text;
    for (std::size_t i = 0; i < std::min(sessions.size(), most_described); ++i) {
        const auto& it = sessions[i];
        text += (i == 0 ? "" : "; ");
        text += "session " + std::to_string(it.id) + " (" + it.user + ", " +
                (it.application.empty() ? "no application name" : it.application) + ", " +
                it.client + "): " + joined(it.things);
    }
    if (sessions.size() > most_described) {
        text += "; and " + std::to_string(sessions.size() - most_described) + " more sessions";
    }
    return text;
}

std::chrono::steady_clock::time_point patience_end(OnBlocked choice,
                                                   std::chrono::steady_clock::time_point now,
                                                   std::chrono::steady_clock::time_point deadline) {
    return choice == OnBlocked::abort || deadline <= now ? deadline
                                                         : now + (deadline - now) / 3 * 2;
}

BlockedVerdict judge_blocked(bool blocked, bool asked, bool patient, OnBlocked choice) {
    if (!blocked) {
        return asked ? BlockedVerdict::go_on : BlockedVerdict::wait;
    }
    if (patient) {
        return BlockedVerdict::wait;
    }
    return choice == OnBlocked::end ? BlockedVerdict::end : BlockedVerdict::abort;
}

}  // namespace banyan::router
