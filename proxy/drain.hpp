// When a session ends while Banyan is ending or handing over. Pure.
#pragma once

#include <algorithm>
#include <chrono>

namespace banyan::proxy {

struct Drain {
    std::chrono::milliseconds elapsed{0};  ///< since it began
    std::chrono::milliseconds timeout{0};  ///< from then on nothing is waited for
    /// Another process takes over: who has just come in may run a first transaction.
    bool handover = false;
};

struct DrainFacts {
    bool logged_in = false;
    bool at_boundary = false;  ///< no transaction and nothing asked that is not answered
    bool served = false;       ///< has run a transaction
};

/// A client that has connected to run one transaction gets this long to begin it.
inline constexpr std::chrono::milliseconds first_transaction_grace{1000};

inline bool ends_now(const DrainFacts& session, const Drain& drain) {
    if (drain.elapsed >= drain.timeout) {
        return true;
    }
    if (session.logged_in && !session.at_boundary) {
        return false;
    }
    return !drain.handover || session.served || drain.elapsed >= first_transaction_grace;
}

}  // namespace banyan::proxy
