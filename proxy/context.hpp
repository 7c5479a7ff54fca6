// What every session of the data plane needs, owned by main().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "proxy/tls.hpp"
#include "proxy/admission.hpp"
#include "router/auth/key_deriver.hpp"
#include "router/auth/verifiers.hpp"
#include "router/breaker/breaker.hpp"
#include "router/config/config.hpp"
#include "router/lease/lease.hpp"
#include "router/shadow/discrepancy.hpp"
#include "router/state/ledger.hpp"
#include "router/state/prepared_transactions.hpp"
#include "router/state/recent_writes.hpp"

namespace banyan::proxy {

class EventLoop;
class Resolver;
class Session;

/// Finds the session a CancelRequest means. Thread-safe.
class CancelRegistry {
   public:
    struct Target {
        EventLoop* loop = nullptr;
        std::weak_ptr<Session> session;
    };
    void add(std::uint32_t process_id, std::uint32_t key, Target target);
    void remove(std::uint32_t process_id, std::uint32_t key);
    /// An empty target if nothing matches.
    Target find(std::uint32_t process_id, std::uint32_t key) const;

   private:
    struct Entry {
        std::uint32_t key = 0;
        Target target;
    };

    mutable std::mutex mutex_;
    /// By process id, which is no secret: two backends of two servers may have the same one.
    std::unordered_multimap<std::uint32_t, Entry> targets_;
};

struct Context {
    const router::Config& config;
    router::Ledger& ledger;
    router::Breaker& breaker;
    Tls& tls;
    Resolver* resolver = nullptr;  ///< the Proxy's
    Admission admission{config.limits};
    CancelRegistry cancels{};
    router::KeyDeriver key_deriver{};
    router::Verifiers verifiers{config};
    router::PreparedTransactions prepared{};
    router::RecentWrites recent_writes{};
    /// Longest time a client's message waited in a hold, in microseconds.
    std::atomic<std::int64_t> longest_hold_us{0};
    std::function<void(router::PendingDiscrepancy)> report_discrepancy{};
    std::function<void(router::PendingDiscrepancy)> offer_rerun{};
    std::function<void()> request_catalog_reload{};
    const router::Lease* lease = nullptr;  ///< null: none is kept
};

}  // namespace banyan::proxy
