#include "router/lease/table.hpp"

#include <poll.h>

#include <cerrno>

namespace banyan::router {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* create_sql =
    "CREATE SCHEMA IF NOT EXISTS banyan;"
    "CREATE TABLE IF NOT EXISTS banyan.lease ("
    " id int4 PRIMARY KEY CHECK (id = 1), migration text NOT NULL, side text NOT NULL,"
    " holder text NOT NULL, host text NOT NULL, lock text NOT NULL, process_id int8 NOT NULL,"
    " started_at timestamptz NOT NULL, epoch int8 NOT NULL, phase text NOT NULL,"
    " phase_epoch int8 NOT NULL, renewed_at timestamptz NOT NULL, ttl_ms int8 NOT NULL,"
    " released bool NOT NULL, backends int4[] NOT NULL)";

// clock_timestamp(): the row may have been waited for. The phase of the same holder never goes back:
// a phase change may be recorded while a renewal with the former one is on its way.
constexpr const char* write_sql =
    "INSERT INTO banyan.lease AS l (id, migration, side, holder, host, lock, process_id, started_at,"
    " epoch, phase, phase_epoch, ttl_ms, backends, renewed_at, released)"
    " VALUES (1, $1, $2, $3, $4, $5, $6::int8, $7::timestamptz, $8::int8, $9, $10::int8, $11::int8,"
    " $12::int4[], clock_timestamp(), false)"
    " ON CONFLICT (id) DO UPDATE SET migration = EXCLUDED.migration, side = EXCLUDED.side,"
    " holder = EXCLUDED.holder, host = EXCLUDED.host, lock = EXCLUDED.lock,"
    " process_id = EXCLUDED.process_id, started_at = EXCLUDED.started_at, epoch = EXCLUDED.epoch,"
    " phase = CASE WHEN l.epoch = EXCLUDED.epoch AND l.phase_epoch > EXCLUDED.phase_epoch"
    "  THEN l.phase ELSE EXCLUDED.phase END,"
    " phase_epoch = CASE WHEN l.epoch = EXCLUDED.epoch AND l.phase_epoch > EXCLUDED.phase_epoch"
    "  THEN l.phase_epoch ELSE EXCLUDED.phase_epoch END,"
    " ttl_ms = EXCLUDED.ttl_ms, backends = EXCLUDED.backends, renewed_at = EXCLUDED.renewed_at,"
    " released = false"
    " WHERE (l.holder = EXCLUDED.holder AND l.epoch = EXCLUDED.epoch)"
    " OR (l.epoch < EXCLUDED.epoch AND (NOT $13::bool OR l.released"
    "  OR l.renewed_at + l.ttl_ms * interval '1 millisecond' <= clock_timestamp()))"
    " RETURNING phase_epoch";

std::vector<Param> holder_of(const LeaseRow& row) {
    return {Param::text(row.holder), Param::number(row.epoch)};
}

}  // namespace

Result<Rows> exec_within(Connection& connection, const std::string& sql,
                         const std::vector<Param>& params, std::chrono::milliseconds timeout) {
    PGconn* conn = connection.raw();
    std::vector<const char*> values;
    for (const Param& param : params) {
        values.push_back(param.value ? param.value->c_str() : nullptr);
    }
    const auto failed = [&] { return Error{PQerrorMessage(conn), ""}; };
    if (PQsendQueryParams(conn, sql.c_str(), static_cast<int>(values.size()), nullptr,
                          values.data(), nullptr, nullptr, 0) != 1) {
        return failed();
    }
    const auto deadline = Clock::now() + timeout;
    std::optional<Result<Rows>> answer;
    for (;;) {
        while (PQisBusy(conn) == 0) {
            PGresult* result = PQgetResult(conn);
            if (result == nullptr) {
                return answer ? *answer : Result<Rows>(failed());
            }
            Rows rows(result);
            const auto status = PQresultStatus(result);
            if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) {
                answer.emplace(std::move(rows));
                continue;
            }
            const char* state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
            const char* primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
            answer.emplace(Error{primary != nullptr ? primary : PQerrorMessage(conn),
                                 state != nullptr ? state : ""});
        }
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
        pollfd waiting{PQsocket(conn), POLLIN, 0};
        if (left <= 0 || (::poll(&waiting, 1, static_cast<int>(left)) < 0 && errno != EINTR)) {
            return Error{"no answer within " + std::to_string(timeout.count()) + " ms", ""};
        }
        if (PQconsumeInput(conn) != 1) {
            return failed();
        }
    }
}

Result<Rows> LeaseTable::exec(const std::string& sql, const std::vector<Param>& params) {
    return exec_within(connection_, sql, params, timeout_);
}

Result<bool> LeaseTable::exists() {
    auto rows = exec("SELECT to_regclass('banyan.lease') IS NOT NULL");
    BANYAN_TRY(rows);
    return rows->truth(0, 0);
}

Result<std::optional<LeaseRow>> LeaseTable::read() {
    auto there = exists();
    BANYAN_TRY(there);
    if (!*there) {
        return std::optional<LeaseRow>();
    }
    auto rows = exec(
        "SELECT migration, side, holder, host, lock, process_id, started_at, epoch, phase,"
        " phase_epoch, renewed_at, greatest(0, floor(extract(epoch FROM clock_timestamp() -"
        " renewed_at) * 1000))::int8, ttl_ms, released, backends FROM banyan.lease");
    if (!rows && rows.error().sqlstate == "42P01") {
        return std::optional<LeaseRow>();  // dropped in between
    }
    BANYAN_TRY(rows);
    if (rows->size() == 0) {
        return std::optional<LeaseRow>();
    }
    LeaseRow row;
    row.migration = rows->text(0, 0);
    row.side = rows->view(0, 1) == to_string(Side::target) ? Side::target : Side::source;
    row.holder = rows->text(0, 2);
    row.host = rows->text(0, 3);
    row.lock = rows->text(0, 4);
    row.process_id = rows->number(0, 5);
    row.started_at = rows->text(0, 6);
    row.epoch = rows->number(0, 7);
    const auto phase = phase_from_string(rows->view(0, 8));
    if (!phase) {
        return Error{"banyan.lease names a phase that this version does not know: " +
                         rows->text(0, 8),
                     ""};
    }
    row.phase = *phase;
    row.phase_epoch = rows->number(0, 9);
    row.renewed_at = rows->text(0, 10);
    row.age_ms = rows->number(0, 11);
    row.ttl_ms = rows->number(0, 12);
    row.released = rows->truth(0, 13);
    row.backends = rows->text(0, 14);
    return std::optional(std::move(row));
}

Result<std::optional<std::int64_t>> LeaseTable::write(const LeaseRow& row, bool if_expired) {
    const std::vector<Param> params = {Param::text(row.migration),
                                       Param::text(std::string(to_string(row.side))),
                                       Param::text(row.holder),
                                       Param::text(row.host),
                                       Param::text(row.lock),
                                       Param::number(row.process_id),
                                       Param::text(row.started_at),
                                       Param::number(row.epoch),
                                       Param::text(std::string(to_string(row.phase))),
                                       Param::number(row.phase_epoch),
                                       Param::number(row.ttl_ms),
                                       Param::text(row.backends.empty() ? "{}" : row.backends),
                                       Param::text(if_expired ? "t" : "f")};
    auto rows = exec(write_sql, params);
    if (!rows && (rows.error().sqlstate == "42P01" || rows.error().sqlstate == "3F000")) {
        // Each by itself: the extended protocol takes one statement at a time.
        const std::string sql = create_sql;
        const auto middle = sql.find(';');
        BANYAN_TRY(exec(sql.substr(0, middle)));
        BANYAN_TRY(exec(sql.substr(middle + 1)));
        rows = exec(write_sql, params);
    }
    BANYAN_TRY(rows);
    return rows->size() == 0 ? std::optional<std::int64_t>() : std::optional(rows->number(0, 0));
}

Result<bool> LeaseTable::record(const LeaseRow& row) {
    auto params = holder_of(row);
    params.push_back(Param::text(std::string(to_string(row.phase))));
    params.push_back(Param::number(row.phase_epoch));
    auto rows = exec(
        "UPDATE banyan.lease SET phase = $3, phase_epoch = $4::int8, renewed_at = clock_timestamp()"
        " WHERE holder = $1 AND epoch = $2::int8 AND phase_epoch <= $4::int8",
        params);
    BANYAN_TRY(rows);
    return rows->affected() == 1;
}

Result<void> LeaseTable::release(const LeaseRow& row) {
    BANYAN_TRY(exec(
        "UPDATE banyan.lease SET released = true WHERE holder = $1 AND epoch = $2::int8",
        holder_of(row)));
    return {};
}

Result<void> LeaseTable::remove(const LeaseRow& row) {
    auto there = exists();
    BANYAN_TRY(there);
    if (!*there) {
        return {};
    }
    BANYAN_TRY(exec("DELETE FROM banyan.lease WHERE holder = $1 AND epoch <= $2::int8",
                    holder_of(row)));
    auto left = exec("SELECT 1 FROM banyan.lease");
    BANYAN_TRY(left);
    if (left->size() > 0) {
        return {};  // another holder's by now
    }
    BANYAN_TRY(exec("DROP TABLE banyan.lease"));
    auto others = exec(
        "SELECT 1 FROM pg_depend d JOIN pg_namespace n ON n.oid = d.refobjid"
        " WHERE d.refclassid = 'pg_namespace'::regclass AND n.nspname = 'banyan'");
    BANYAN_TRY(others);
    if (others->size() == 0) {
        BANYAN_TRY(exec("DROP SCHEMA banyan"));
    }
    return {};
}

Result<std::int64_t> LeaseTable::end_backends(const LeaseRow& row) {
    // A process id that was given anew belongs to a backend that began after the renewal.
    auto rows = exec(
        "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
        " AND ((pid = ANY ($1::int4[]) AND backend_start <= $2::timestamptz)"
        "  OR (application_name LIKE 'banyan-%' AND usename = current_user))",
        {Param::text(row.backends.empty() ? "{}" : row.backends), Param::text(row.renewed_at)});
    BANYAN_TRY(rows);
    return rows->number(0, 0);
}

}  // namespace banyan::router
