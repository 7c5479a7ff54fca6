#include "router/shadow/replay.hpp"

#include <array>
#include <memory>

namespace banyan::router {
namespace {

constexpr std::size_t kept_bytes = 4U << 20U;

using ResultPointer = std::unique_ptr<PGresult, void (*)(PGresult*)>;

std::string quoted(PGconn* conn, const std::string& name) {
    char* text = PQescapeIdentifier(conn, name.data(), name.size());
    std::string copy = text == nullptr ? "" : text;
    PQfreemem(text);
    return copy;
}

Result<void> set_locally(Connection& connection, const std::string& name,
                         const std::string& value) {
    // A name with a dot is the application's own and need not be known; of the others only those a
    // client may set (server_version and the like are reported as settings, too).
    const std::string sql =
        name.find('.') != std::string::npos
            ? "SELECT pg_catalog.set_config($1, $2, true)"
            : "SELECT pg_catalog.set_config(name, $2, true) FROM pg_catalog.pg_settings WHERE "
              "pg_catalog.lower(name) = pg_catalog.lower($1) AND context IN ('user', 'superuser') "
              "AND name NOT IN ('transaction_isolation', 'transaction_read_only', "
              "'transaction_deferrable', 'role', 'session_authorization')";
    BANYAN_TRY(connection.exec(sql, {Param::text(name), Param::text(value)}));
    return {};
}

Result<void> prepare(Connection& connection, const PendingDiscrepancy& read,
                     std::chrono::milliseconds timeout) {
    BANYAN_TRY(connection.exec("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"));
    if (!read.user.empty()) {
        BANYAN_TRY(connection.exec("SET LOCAL SESSION AUTHORIZATION " +
                                   quoted(connection.raw(), read.user)));
    }
    BANYAN_TRY(connection.exec("SET LOCAL row_security TO on; SET LOCAL search_path TO DEFAULT"));
    for (const auto& [name, value] : read.settings) {
        BANYAN_TRY(set_locally(connection, name, value));
    }
    BANYAN_TRY(connection.exec("SET LOCAL statement_timeout = " + std::to_string(timeout.count())));
    return {};
}

// As DataRow's body has it: the number of columns, then length and bytes of each.
std::string row_bytes(const Cells& cells) {
    std::string bytes;
    const auto number = [&](std::uint32_t value) {
        for (const unsigned shift : {24U, 16U, 8U, 0U}) {
            bytes += static_cast<char>((value >> shift) & 255U);
        }
    };
    number(static_cast<std::uint32_t>(cells.size()));
    for (const auto& cell : cells) {
        number(cell ? static_cast<std::uint32_t>(cell->size()) : 0xFFFFFFFFU);
        bytes += cell.value_or("");
    }
    return bytes;
}

void take_row(const PGresult* result, Replay& replay, std::size_t& kept) {
    Cells cells;
    for (int column = 0; column < PQnfields(result); ++column) {
        if (PQgetisnull(result, 0, column) != 0) {
            cells.emplace_back();
        } else {
            cells.emplace_back(
                std::string(PQgetvalue(result, 0, column),
                            static_cast<std::size_t>(PQgetlength(result, 0, column))));
        }
    }
    const std::string bytes = row_bytes(cells);
    replay.digest.add_row(bytes);
    kept += bytes.size();
    if (kept > kept_bytes) {
        replay.complete = false;
        replay.rows.clear();
    } else {
        replay.rows.push_back(std::move(cells));
    }
}

bool send(PGconn* conn, const PendingDiscrepancy& read) {
    std::vector<const char*> values;
    std::vector<int> lengths;
    std::vector<int> formats;
    for (const Param& param : read.parameters) {
        values.push_back(param.value ? param.value->data() : nullptr);
        lengths.push_back(param.value ? static_cast<int>(param.value->size()) : 0);
        formats.push_back(param.binary ? 1 : 0);
    }
    std::vector<Oid> types(read.parameter_types.begin(), read.parameter_types.end());
    types.resize(values.size());
    return PQsendQueryParams(conn, read.sql.c_str(), static_cast<int>(values.size()), types.data(),
                             values.data(), lengths.data(), formats.data(), 0) == 1 &&
           PQsetSingleRowMode(conn) == 1;
}

// Errors that speak of the moment rather than of the data: connection, resources, conflicts,
// cancellation and shutdown.
bool of_the_moment(const std::string& sqlstate) {
    static constexpr std::array<std::string_view, 5> classes{"08", "40", "53", "55", "57"};
    if (sqlstate.empty()) {
        return true;
    }
    for (const std::string_view it : classes) {
        if (sqlstate.starts_with(it)) {
            return true;
        }
    }
    return false;
}

Result<Replay> run(PGconn* conn, const PendingDiscrepancy& read) {
    Replay replay;
    std::size_t kept = 0;
    if (!send(conn, read)) {
        return Error{PQerrorMessage(conn), ""};
    }
    Error error;
    bool failed = false;
    for (;;) {
        const ResultPointer result(PQgetResult(conn), &PQclear);
        if (result == nullptr) {
            break;
        }
        switch (PQresultStatus(result.get())) {
            case PGRES_SINGLE_TUPLE:
                take_row(result.get(), replay, kept);
                break;
            case PGRES_TUPLES_OK:
                for (int column = 0; column < PQnfields(result.get()); ++column) {
                    replay.columns.emplace_back(PQfname(result.get(), column));
                    replay.types.push_back(PQftype(result.get(), column));
                }
                break;
            default: {
                failed = true;
                const char* sqlstate = PQresultErrorField(result.get(), PG_DIAG_SQLSTATE);
                const char* message = PQresultErrorField(result.get(), PG_DIAG_MESSAGE_PRIMARY);
                error = Error{message == nullptr ? PQresultErrorMessage(result.get()) : message,
                              sqlstate == nullptr ? "" : sqlstate};
                if (PQstatus(conn) == CONNECTION_BAD) {
                    return error;
                }
            }
        }
    }
    if (failed) {
        if (of_the_moment(error.sqlstate)) {
            return error;
        }
        replay = Replay();
        replay.sqlstate = error.sqlstate;
        replay.message = error.message;
    }
    return replay;
}

}  // namespace

bool same_answer(const Replay& a, const Replay& b, bool ordered) {
    if (!a.sqlstate.empty() || !b.sqlstate.empty()) {
        return a.sqlstate == b.sqlstate;
    }
    return Digest::compare(a.digest, b.digest, ordered) == Digest::Verdict::equal;
}

Result<Replay> replay(Connection& connection, const PendingDiscrepancy& read,
                      std::chrono::milliseconds timeout) {
    auto ready = prepare(connection, read, timeout);
    const auto begun = std::chrono::steady_clock::now();
    Result<Replay> answer = ready ? run(connection.raw(), read) : Result<Replay>(ready.error());
    if (answer) {
        answer->took = std::chrono::duration_cast<std::chrono::microseconds>(
            std::chrono::steady_clock::now() - begun);
    }
    connection.rollback();
    return answer;
}

RecheckVerdict judge(const Replay& before, const Replay& mirror, const Replay& after,
                     bool ordered) {
    if (same_answer(mirror, before, ordered) || same_answer(mirror, after, ordered)) {
        return RecheckVerdict::raced;
    }
    if (!before.sqlstate.empty() || !after.sqlstate.empty()) {
        return RecheckVerdict::unfit;
    }
    return same_answer(before, after, ordered) ? RecheckVerdict::confirmed : RecheckVerdict::unstable;
}

std::string difference_kind(const Replay& primary, const Replay& mirror, bool ordered) {
    if (primary.sqlstate != mirror.sqlstate) {
        return "error";
    }
    switch (Digest::compare(primary.digest, mirror.digest, ordered)) {
        case Digest::Verdict::count_differs:
            return "row_count";
        case Digest::Verdict::order_differs:
            return "order";
        case Digest::Verdict::rows_differ:
        case Digest::Verdict::equal:
            break;
    }
    return "rows";
}

}  // namespace banyan::router
