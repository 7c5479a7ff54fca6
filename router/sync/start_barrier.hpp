// What must be over before the first chunk is read: transactions that may have written before
// mirroring was on (R5), and backends that an earlier process of ours left behind.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "router/pg/connection.hpp"

namespace banyan::router {

constexpr const char* backfill_application = "banyan-backfill";

/// Returns true once every transaction that had an id at the call has ended, prepared ones too;
/// false if `wait` says to give up. `wait(what)` is called between looks.
Result<bool> wait_for_older_transactions(Connection& source,
                                         const std::function<bool(const std::string&)>& wait);

/// Ends backfill's other backends on this database (`process_id` 0: all of them) and returns true
/// once they are gone: until then a COMMIT sent by one of them may still take effect.
Result<bool> end_backends(Connection& target, std::int32_t process_id,
                          const std::function<bool(const std::string&)>& wait);

}  // namespace banyan::router
