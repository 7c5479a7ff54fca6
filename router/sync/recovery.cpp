#include "router/sync/recovery.hpp"

#include <algorithm>
#include <string>
#include <thread>

namespace banyan::router {
namespace {

// Long enough for a backend to wake up and read what its client left in the socket.
constexpr std::chrono::milliseconds grace{200};
constexpr std::chrono::milliseconds poll_interval{50};

// $1: when the wait began, by this server's clock; $2: that plus the grace. Nothing may be taken
// for idle before $2.
constexpr const char* in_the_way = R"(
SELECT pid, coalesce(application_name, ''), coalesce(state, 'hidden')
  FROM pg_stat_activity
 WHERE backend_type = 'client backend' AND datname = current_database() AND pid <> pg_backend_pid()
   AND (backend_start IS NULL OR backend_start <= $1::timestamptz)
   AND (xact_start IS NULL OR xact_start <= $1::timestamptz)
   AND (state IS DISTINCT FROM 'idle' OR wait_event IS DISTINCT FROM 'ClientRead'
        OR clock_timestamp() < $2::timestamptz)
 ORDER BY pid)";

// backend_type itself is hidden from a role that may not see the others, and would hide them all.
constexpr const char* hidden = R"(
SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND backend_start IS NULL)";

}  // namespace

Result<void> wait_for_older_transactions(Connection& connection,
                                         std::chrono::milliseconds timeout, std::string& since) {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    auto clock = connection.exec("SELECT t, t + interval '" + std::to_string(grace.count()) +
                                 " milliseconds' FROM clock_timestamp() AS c(t)");
    if (!clock) {
        return std::move(clock).error();
    }
    if (since.empty()) {
        since = clock->text(0, 0);
    }
    auto unseen = connection.exec(hidden);
    if (!unseen) {
        return std::move(unseen).error();
    }
    if (unseen->size() > 0) {
        return Error{
            "Banyan's role cannot see the other sessions in pg_stat_activity; "
            "GRANT pg_monitor to it",
            "42501"};
    }
    const std::vector<Param> params = {Param::text(since),
                                       Param::text(clock->text(0, 1))};
    for (;;) {
        auto rows = connection.exec(in_the_way, params);
        if (!rows) {
            return std::move(rows).error();
        }
        if (rows->size() == 0) {
            return {};
        }
        if (std::chrono::steady_clock::now() >= deadline) {
            std::string who;
            for (int row = 0; row < std::min(rows->size(), 5); ++row) {
                who += (row == 0 ? "" : ", ") + rows->text(row, 0) + " (" + rows->text(row, 1) +
                       ", " + rows->text(row, 2) + ")";
            }
            return Error{"still in a transaction begun before Banyan started: process " + who, ""};
        }
        std::this_thread::sleep_for(poll_interval);
    }
}

}  // namespace banyan::router
