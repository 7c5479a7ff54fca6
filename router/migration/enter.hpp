// How a Banyan takes its place at start: what the leases in the two databases say is held against
// this state directory; then the lease is acquired, the start refused, or, if the operator says so,
// the migration of a holder that is lost taken over.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "router/config/config.hpp"
#include "router/lease/lease.hpp"
#include "router/state/ledger.hpp"
#include "router/state/state_db.hpp"

namespace banyan::router {

/// Settings of the state database.
inline constexpr const char* lease_migration_setting = "lease_migration";
inline constexpr const char* lease_epoch_setting = "lease_epoch";

/// Before Control is made, which reads the phase. `seize`: nullopt, or the operator's --seize-lease
/// with the holder that is to lose a live lease, if any. May wait for as long as a lease lasts;
/// `interrupted` ends that. An Error is a sentence for the operator. All arguments outlive the answer.
Result<std::unique_ptr<Lease>> enter_migration(const Config& config, StateDb& db, Ledger& ledger,
                                               const std::optional<std::string>& seize,
                                               const std::function<bool()>& interrupted);

/// 16 random hexadecimal digits.
std::string random_id();

}  // namespace banyan::router
