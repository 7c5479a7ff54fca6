#include "router/migration/heartbeat.hpp"

#include "router/pg/answer.hpp"

namespace banyan::router {
namespace {

using Clock = std::chrono::steady_clock;

// Half a megabyte in a file of its own: what is there already may have room for a row or two.
constexpr const char* ballast =
    "CREATE TEMPORARY TABLE banyan_ballast ON COMMIT DROP AS SELECT pg_catalog.md5("
    "i::pg_catalog.text) AS filling FROM pg_catalog.generate_series(1, 8192) AS i; ";

std::string proof_sql(std::optional<MirrorFault> before) {
    return std::string("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; ") +
           "INSERT INTO banyan.heartbeat VALUES (1, pg_catalog.now(), 'probe') "
           "ON CONFLICT (id) DO UPDATE SET at = excluded.at, transition = excluded.transition; " +
           (before == MirrorFault::disk_full ? ballast : "") + "COMMIT";
}

// Where Banyan's role may not make the table: a write of the write-ahead log alone.
constexpr const char* proof_without_table =
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; "
    "SELECT pg_catalog.pg_logical_emit_message(true, 'banyan', ''); COMMIT";

WriteProof judged(const Error& error, MirrorDoing doing) {
    if (error.sqlstate == no_answer) {
        return {MirrorFault::timed_out, error.message};
    }
    // An error that says nothing about the mirror is one of the probe's own making: still no proof.
    return {fault_of(doing, error.sqlstate).value_or(MirrorFault::broken),
            error.sqlstate.empty() ? error.message : error.sqlstate + ": " + error.message};
}

}  // namespace

Result<void> create_heartbeat(Connection& connection) {
    BANYAN_TRY(connection.exec(
        "CREATE SCHEMA IF NOT EXISTS banyan; CREATE TABLE IF NOT EXISTS banyan.heartbeat "
        "(id integer PRIMARY KEY, at timestamptz NOT NULL, transition text NOT NULL)"));
    return {};
}

Result<void> write_heartbeat(Connection& connection, const std::string& transition) {
    BANYAN_TRY(connection.exec(
        "INSERT INTO banyan.heartbeat VALUES (1, pg_catalog.now(), $1) ON CONFLICT (id) DO UPDATE "
        "SET at = excluded.at, "
        "transition = excluded.transition",
        {Param::text(transition)}));
    return {};
}

WriteProof prove_writes(const Endpoint& endpoint, std::optional<MirrorFault> before,
                        std::chrono::milliseconds limit, std::chrono::milliseconds prompt) {
    auto connection = Connection::open(endpoint, "banyan-probe");
    if (!connection) {
        const Error& error = connection.error();  // without an answer it was not connected either
        return judged({error.message, error.sqlstate == no_answer ? "" : error.sqlstate},
                      MirrorDoing::connection);
    }
    // Given up here, it must not go on there: it holds the row that the next probe needs.
    const std::string limits = "SET statement_timeout = " + std::to_string(limit.count());
    if (const auto set = exec_within(*connection, limits, limit); !set) {
        return judged(set.error(), MirrorDoing::connection);
    }
    auto began = Clock::now();
    auto written = exec_within(*connection, proof_sql(before), limit);
    if (!written && (written.error().sqlstate == "42P01" || written.error().sqlstate == "3F000")) {
        connection->rollback();
        const auto made = create_heartbeat(*connection);
        if (!made && made.error().sqlstate != "42501") {
            return judged(made.error(), MirrorDoing::commit);
        }
        began = Clock::now();
        written = exec_within(*connection, made ? proof_sql(before) : proof_without_table, limit);
    } else if (!written && written.error().sqlstate == "42501") {
        connection->rollback();
        written = exec_within(*connection, proof_without_table, limit);
    }
    if (!written) {
        const bool begin = written.error().sqlstate == "0A000";
        return judged(written.error(), begin ? MirrorDoing::begin : MirrorDoing::commit);
    }
    const auto took = std::chrono::ceil<std::chrono::milliseconds>(Clock::now() - began);
    const bool was_late = before == MirrorFault::slow || before == MirrorFault::timed_out;
    if (was_late && took > prompt) {
        return {MirrorFault::slow, "a row took " + std::to_string(took.count()) + " ms"};
    }
    return {};
}

}  // namespace banyan::router
