#include "router/sync/backfill_store.hpp"

namespace banyan::router {
namespace {

// The key that last_key belongs to: after a change of key the old position means nothing.
std::string key_signature(const Table& table) { return column_list(table, table.key); }

Result<bool> store_exists(Connection& target) {
    auto rows = target.exec("SELECT pg_catalog.to_regclass('banyan.backfill') IS NOT NULL");
    if (!rows) {
        return std::move(rows).error();
    }
    return rows->truth(0, 0);
}

}  // namespace

Result<void> create_progress_store(Connection& target) {
    // Looked up first: IF NOT EXISTS asks for the CREATE privilege even where nothing is to be done.
    auto exists = store_exists(target);
    if (!exists) {
        return std::move(exists).error();
    }
    if (*exists) {
        return {};
    }
    BANYAN_TRY(target.exec(
        "CREATE SCHEMA IF NOT EXISTS banyan;"
        "CREATE TABLE IF NOT EXISTS banyan.backfill ("
        " table_name pg_catalog.text PRIMARY KEY,"
        " state pg_catalog.text NOT NULL,"
        " key_columns pg_catalog.text NOT NULL,"
        " last_key pg_catalog.text[] NOT NULL,"
        " rows pg_catalog.int8 NOT NULL,"
        " chunks pg_catalog.int8 NOT NULL,"
        " updated_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now())"));
    return {};
}

Result<std::optional<StoredProgress>> load_progress(Connection& target, const Table& table) {
    auto rows = target.exec(
        "SELECT b.state, b.key_columns, b.rows, b.chunks, k.value"
        " FROM banyan.backfill b"
        " LEFT JOIN LATERAL pg_catalog.unnest(b.last_key) WITH ORDINALITY AS k(value, position)"
        "   ON true"
        " WHERE b.table_name = $1 ORDER BY k.position",
        {Param::text(table.sql_name())});
    if (!rows) {
        return std::move(rows).error();
    }
    if (rows->size() == 0 || rows->view(0, 1) != key_signature(table)) {
        return std::optional<StoredProgress>();
    }
    StoredProgress progress;
    progress.done = rows->view(0, 0) == "done";
    progress.rows = static_cast<std::uint64_t>(rows->number(0, 2));
    progress.chunks = static_cast<std::uint64_t>(rows->number(0, 3));
    for (int row = 0; row < rows->size() && !rows->null(row, 4); ++row) {
        progress.last_key.push_back(rows->text(row, 4));
    }
    return std::optional(std::move(progress));
}

Result<void> save_progress(Connection& target, const Table& table, const StoredProgress& progress) {
    std::vector<Param> params = {
        Param::text(table.sql_name()), Param::text(progress.done ? "done" : "copying"),
        Param::text(key_signature(table)), Param::number(static_cast<std::int64_t>(progress.rows)),
        Param::number(static_cast<std::int64_t>(progress.chunks))};
    std::string key = "ARRAY[";
    for (const std::string& value : progress.last_key) {
        params.push_back(Param::text(value));
        key += (key.back() == '[' ? "$" : ", $") + std::to_string(params.size());
    }
    key += "]::pg_catalog.text[]";
    BANYAN_TRY(target.exec(
        "INSERT INTO banyan.backfill AS b"
        " (table_name, state, key_columns, rows, chunks, last_key, updated_at)"
        " VALUES ($1, $2, $3, $4, $5, " + key + ", pg_catalog.clock_timestamp())"
        " ON CONFLICT (table_name) DO UPDATE SET state = EXCLUDED.state,"
        " key_columns = EXCLUDED.key_columns, rows = EXCLUDED.rows, chunks = EXCLUDED.chunks,"
        " last_key = EXCLUDED.last_key, updated_at = EXCLUDED.updated_at",
        params));
    return {};
}

Result<void> drop_progress_store(Connection& target) {
    auto exists = store_exists(target);
    if (!exists) {
        return std::move(exists).error();
    }
    if (!*exists) {
        return {};
    }
    BANYAN_TRY(target.exec("DELETE FROM banyan.backfill"));
    auto others = target.exec(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_depend d"
        " JOIN pg_catalog.pg_namespace n ON n.oid = d.refobjid"
        " WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass"
        " AND n.nspname = 'banyan'"
        " AND NOT (d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
        "          AND d.objid = 'banyan.backfill'::pg_catalog.regclass))");
    if (!others) {
        return std::move(others).error();
    }
    BANYAN_TRY(target.exec(others->truth(0, 0) ? "DROP TABLE banyan.backfill"
                                               : "DROP TABLE banyan.backfill; DROP SCHEMA banyan"));
    return {};
}

}  // namespace banyan::router
