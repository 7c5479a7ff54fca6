#include "router/sync/verify_session.hpp"

namespace banyan::router {
namespace {

constexpr const char* application = "banyan-verify";

// Ranges are read by the key's index and single keys by nested loops, whatever the statistics of
// a freshly filled table say.
constexpr const char* session_settings =
    "SET lock_timeout = '5s'; SET enable_seqscan = off; SET enable_sort = off;"
    "SET enable_hashjoin = off; SET enable_mergejoin = off;"
    "SET max_parallel_workers_per_gather = 0; SET jit = off";

}  // namespace

Result<void> ask(Connection& connection, const std::string& sql) {
    if (PQsendQuery(connection.raw(), sql.c_str()) != 1) {
        return Error{PQerrorMessage(connection.raw()), ""};
    }
    return {};
}

Result<Rows> answer(Connection& connection) {
    std::optional<Rows> last;
    std::optional<Error> failed;
    while (PGresult* result = PQgetResult(connection.raw())) {
        Rows rows(result);
        const ExecStatusType status = PQresultStatus(result);
        if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) {
            last = rows;
        } else if (!failed) {
            const char* state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
            const char* message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
            failed = Error{message != nullptr ? message : PQerrorMessage(connection.raw()),
                           state != nullptr ? state : ""};
        }
        if (!connection.alive()) {
            break;
        }
    }
    if (failed || !last) {
        return failed.value_or(Error{PQerrorMessage(connection.raw()), ""});
    }
    return *last;
}

Result<VerifySession> VerifySession::open(const Config& config, Side primary_side) {
    const bool source_first = primary_side == Side::source;
    auto primary = Connection::open(source_first ? config.source : config.target, application);
    if (!primary) {
        return std::move(primary).error();
    }
    auto mirror = Connection::open(source_first ? config.target : config.source, application);
    if (!mirror) {
        return std::move(mirror).error();
    }
    auto scout = Connection::open(source_first ? config.source : config.target, application);
    if (!scout) {
        return std::move(scout).error();
    }
    for (auto* connection : {&*primary, &*mirror, &*scout}) {
        BANYAN_TRY(connection->exec(session_settings));
    }
    return VerifySession{std::move(*primary), std::move(*mirror), std::move(*scout)};
}

Result<BothRows> ask_both(VerifySession& session, const std::string& of_primary,
                          const std::string& of_mirror) {
    BANYAN_TRY(ask(session.mirror, of_mirror));
    auto primary = session.primary.exec(of_primary);
    auto mirror = answer(session.mirror);
    if (!primary) {
        return std::move(primary).error();
    }
    if (!mirror) {
        return std::move(mirror).error();
    }
    return BothRows{*primary, *mirror};
}

}  // namespace banyan::router
