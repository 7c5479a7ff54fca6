#include "router/sync/start_barrier.hpp"

#include "router/model/mutant.hpp"

namespace banyan::router {

// txid_* rather than pg_current_xact_*: the same functions under the name that older sources know.
// A snapshot's xmin counts the transactions of every database and prepared ones: cautious.
// The bound is an id of our own. A snapshot's xmax will not do: it is one past the last id that has
// *ended*, so it lies at or below the ids of the youngest transactions still running.
Result<bool> wait_for_older_transactions(Connection& source,
                                         const std::function<bool(const std::string&)>& wait) {
    auto start = source.exec("SELECT pg_catalog.txid_current()");
    if (!start) {
        return std::move(start).error();
    }
    const std::int64_t own = start->number(0, 0);
    if (mutant("no_start_barrier")) {
        return true;
    }
    for (;;) {
        auto now = source.exec(
            "SELECT pg_catalog.txid_snapshot_xmin(pg_catalog.txid_current_snapshot())");
        if (!now) {
            return std::move(now).error();
        }
        if (now->number(0, 0) > own) {
            return true;
        }
        auto oldest = source.exec(
            "(SELECT 'transaction of process ' || a.pid || ' (' ||"
            "        coalesce(nullif(a.application_name, ''), a.usename, 'unknown') || '), open for '"
            "        || extract(epoch FROM clock_timestamp() - a.xact_start)::int8 || ' s',"
            "        age(a.backend_xid) AS age"
            "   FROM pg_catalog.pg_stat_activity a WHERE a.backend_xid IS NOT NULL"
            " UNION ALL"
            " SELECT 'prepared transaction ' || quote_literal(p.gid) || ', open for ' ||"
            "        extract(epoch FROM clock_timestamp() - p.prepared)::int8 || ' s',"
            "        age(p.transaction)"
            "   FROM pg_catalog.pg_prepared_xacts p)"
            " ORDER BY age DESC LIMIT 1");
        if (!oldest) {
            return std::move(oldest).error();
        }
        const std::string what = oldest->size() == 0 ? "an older transaction on the source"
                                                     : oldest->text(0, 0) + " on the source";
        if (!wait(what)) {
            return false;
        }
    }
}

Result<bool> end_backends(Connection& target, std::int32_t process_id,
                          const std::function<bool(const std::string&)>& wait) {
    const std::string where =
        " FROM pg_catalog.pg_stat_activity a WHERE a.application_name = '" +
        std::string(backfill_application) +
        "' AND a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid()" +
        (process_id == 0 ? std::string() : " AND a.pid = " + std::to_string(process_id));
    for (;;) {
        auto ended = target.exec("SELECT pg_catalog.pg_terminate_backend(a.pid)" + where);
        if (!ended) {
            return std::move(ended).error();
        }
        if (ended->size() == 0) {
            return true;
        }
        if (!wait("an earlier backfill backend on the target to end")) {
            return false;
        }
    }
}

}  // namespace banyan::router
