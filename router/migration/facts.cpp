#include "router/migration/facts.hpp"

#include <algorithm>

#include "router/migration/lineage.hpp"

namespace banyan::router {
namespace {

// Since PostgreSQL 15 the right can be granted; before, only superusers have it.
Result<std::vector<std::string>> roles_lacking(Connection& connection,
                                               const std::vector<std::string>& roles) {
    auto version = connection.exec("SELECT current_setting('server_version_num')");
    if (!version) {
        return version.error();
    }
    const std::string sql =
        version->number(0, 0) >= 150000
            ? "SELECT coalesce(bool_or(rolsuper OR has_parameter_privilege(oid, "
              "'session_replication_role', 'SET')), false) FROM pg_roles WHERE rolname = $1"
            : "SELECT coalesce(bool_or(rolsuper), false) FROM pg_roles WHERE rolname = $1";
    std::vector<std::string> lacking;
    for (const std::string& role : roles) {
        auto rows = connection.exec(sql, {Param::text(role)});
        if (!rows) {
            return rows.error();
        }
        if (!rows->truth(0, 0)) {
            lacking.push_back(role);
        }
    }
    return lacking;
}

Result<std::vector<std::string>> sequences_of(Connection& connection) {
    auto rows = connection.exec(
        "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = "
        "c.relnamespace "
        "WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname <> 'banyan' ORDER BY 1");
    if (!rows) {
        return rows.error();
    }
    std::vector<std::string> names;
    for (int row = 0; row < rows->size(); ++row) {
        names.push_back(rows->text(row, 0));
    }
    return names;
}

// A scan of each table, while clients work.
constexpr const char* reverse_check_settings =
    "SET default_transaction_read_only = on; SET statement_timeout = '60s'; SET lock_timeout = '5s'";

}  // namespace

std::vector<ReverseFacts> measure_reverse(const Endpoint& source, const Catalog& catalog,
                                          bool scan) {
    std::vector<ReverseFacts> all;
    std::optional<Connection> connection;
    for (const auto& table : catalog.tables()) {
        if (!table->mapped()) {
            continue;
        }
        const Mapping& mapping = *table->mapping;
        ReverseFacts& it = all.emplace_back();
        it.name = mapping.name;
        it.missing = mapping.no_reverse;
        if (!it.missing.empty() || mapping.reverse_check.empty()) {
            continue;
        }
        if (!scan) {
            it.error = "it is tried when the gates are asked for";
            continue;
        }
        if (!connection) {
            auto opened = Connection::open(source, "banyan-gates");
            if (!opened) {
                it.error = opened.error().message;
                continue;
            }
            connection.emplace(std::move(*opened));
            if (auto set = connection->exec(reverse_check_settings); !set) {
                it.error = set.error().message;
                continue;
            }
        }
        if (auto rows = connection->exec(mapping.reverse_check); rows) {
            it.rows_changed = rows->number(0, 0);
            it.example_key = rows->text(0, 1);
        } else {
            it.error = rows.error().message;
        }
    }
    return all;
}

SideFacts measure_side(const Endpoint& endpoint, const std::vector<std::string>& roles) {
    SideFacts facts;
    facts.database = endpoint.database;
    auto connection = Connection::open(endpoint, "banyan-gates");
    if (!connection) {
        facts.error = connection.error().message;
        return facts;
    }
    if (auto alive = connection->exec("SELECT current_database()"); alive) {
        facts.reachable = true;
        facts.database = alive->text(0, 0);
    } else {
        facts.error = alive.error().message;
        return facts;
    }
    if (auto rows = connection->exec(identity_sql); rows) {
        const ServerIdentity identity = read_identity(*rows);
        facts.system_identifier = identity.system;
        facts.in_recovery = identity.in_recovery;
        facts.read_only = identity.read_only;
    } else {
        facts.error = rows.error().message;
    }
    if (auto lacking = roles_lacking(*connection, roles); lacking) {
        facts.roles_without_replication_role = std::move(*lacking);
    } else {
        facts.error = lacking.error().message;
    }
    if (auto sequences = sequences_of(*connection); sequences) {
        facts.sequences = std::move(*sequences);
    } else {
        facts.error = sequences.error().message;
    }
    if (auto rows = connection->exec("SELECT count(*) FROM pg_largeobject_metadata"); rows) {
        facts.large_objects = rows->number(0, 0);
    } else {
        facts.error = rows.error().message;
    }
    if (auto rows = connection->exec(
            "SELECT current_setting('max_connections')::int - "
            "current_setting('superuser_reserved_connections')::int, "
            "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')");
        rows) {
        facts.max_connections = rows->number(0, 0);
        facts.used_connections = rows->number(0, 1);
    }
    return facts;
}

namespace {

/// classid, objid, objsubid and whether it is shared, from `column` on.
AdvisoryLock read_lock(const Rows& rows, int row, int column) {
    AdvisoryLock lock;
    lock.key = (static_cast<std::uint64_t>(rows.number(row, column)) << 32U) |
               static_cast<std::uint64_t>(rows.number(row, column + 1));
    lock.two_keys = rows.number(row, column + 2) == 2;
    lock.shared = rows.truth(row, column + 3);
    return lock;
}

}  // namespace

Result<std::vector<ForeignBackend>> foreign_backends(Connection& connection,
                                                     const std::vector<std::int32_t>& ours) {
    auto rows = connection.exec(
        "SELECT pid, coalesce(usename, ''), coalesce(application_name, ''), backend_xid IS NOT "
        "NULL, false "
        "FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client "
        "backend' "
        "AND pid <> pg_backend_pid() AND application_name NOT LIKE 'banyan-%' "
        "UNION ALL SELECT 0, owner, gid, true, true FROM pg_prepared_xacts WHERE database = "
        "current_database()");
    if (!rows) {
        return rows.error();
    }
    std::vector<ForeignBackend> foreign;
    for (int row = 0; row < rows->size(); ++row) {
        ForeignBackend it;
        it.process_id = static_cast<std::int32_t>(rows->number(row, 0));
        it.user = rows->text(row, 1);
        it.application = rows->text(row, 2);
        it.writing = rows->truth(row, 3);
        it.prepared = rows->truth(row, 4);
        if (it.prepared || std::find(ours.begin(), ours.end(), it.process_id) == ours.end()) {
            foreign.push_back(std::move(it));
        }
    }
    return foreign;
}

Result<std::vector<ForeignLock>> foreign_locks(Connection& connection,
                                               const std::vector<std::int32_t>& ours) {
    auto rows = connection.exec(
        "SELECT coalesce(l.pid, 0), coalesce(usename, ''), coalesce(application_name, ''), "
        "classid::int8, objid::int8, objsubid, mode = 'ShareLock' "
        "FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid "
        "WHERE locktype = 'advisory' AND granted AND database = "
        "(SELECT oid FROM pg_database WHERE datname = current_database())");
    if (!rows) {
        return rows.error();
    }
    std::vector<ForeignLock> foreign;
    for (int row = 0; row < rows->size(); ++row) {
        const auto process = static_cast<std::int32_t>(rows->number(row, 0));
        if (std::find(ours.begin(), ours.end(), process) != ours.end()) {
            continue;
        }
        ForeignLock it;
        it.holder = process == 0 ? std::string("a prepared transaction")
                                 : "process " + std::to_string(process) + " (" + rows->text(row, 1) +
                                       ", " + rows->text(row, 2) + ")";
        it.lock = read_lock(*rows, row, 3);
        foreign.push_back(std::move(it));
    }
    return foreign;
}

Result<std::vector<LockWait>> lock_waits(Connection& connection) {
    auto rows = connection.exec(
        "SELECT w.pid, classid::int8, objid::int8, objsubid, mode = 'ShareLock' FROM pg_locks w "
        "WHERE locktype = 'advisory' AND NOT granted AND database = "
        "(SELECT oid FROM pg_database WHERE datname = current_database()) AND EXISTS "
        "(SELECT FROM pg_stat_activity a WHERE a.state = 'idle' AND "
        "a.pid = ANY (pg_blocking_pids(w.pid)))");
    if (!rows) {
        return rows.error();
    }
    std::vector<LockWait> waits;
    for (int row = 0; row < rows->size(); ++row) {
        waits.push_back(
            {static_cast<std::int32_t>(rows->number(row, 0)), read_lock(*rows, row, 1)});
    }
    return waits;
}

}  // namespace banyan::router
