#include "router/capture/deep_capture.hpp"

#include <algorithm>
#include <thread>

#include "router/catalog/catalog.hpp"

namespace banyan::router {
namespace {

// No sequence numbers the rows: nextval() would change the client's lastval(). cmin does, since
// every row is a command of its own. Unlogged: what a crash of the server undoes, it forgets.
// search_path may hold anything when these run: every name and operator is qualified.
constexpr const char* create_sql = R"(
CREATE SCHEMA IF NOT EXISTS banyan;
GRANT USAGE ON SCHEMA banyan TO PUBLIC;
CREATE UNLOGGED TABLE IF NOT EXISTS banyan.captured_rows (
    session pg_catalog.text NOT NULL,
    xact pg_catalog.xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    relation pg_catalog.oid NOT NULL,
    old pg_catalog.bytea,
    new pg_catalog.bytea);
CREATE INDEX IF NOT EXISTS captured_rows_session ON banyan.captured_rows (session);
COMMENT ON TABLE banyan.captured_rows IS
    'Rows written by statements whose effect Banyan could not see otherwise; empty at rest';
CREATE OR REPLACE FUNCTION banyan.record_row() RETURNS pg_catalog.trigger
LANGUAGE plpgsql SECURITY DEFINER AS $body$
BEGIN
    INSERT INTO banyan.captured_rows (session, relation, old, new)
    VALUES (pg_catalog.current_setting('banyan.capture'), TG_RELID,
            pg_catalog.record_send(OLD), pg_catalog.record_send(NEW));
    RETURN NULL;
END $body$;
CREATE OR REPLACE FUNCTION banyan.record_truncate() RETURNS pg_catalog.trigger
LANGUAGE plpgsql SECURITY DEFINER AS $body$
BEGIN
    INSERT INTO banyan.captured_rows (session, relation)
    VALUES (pg_catalog.current_setting('banyan.capture'), TG_RELID);
    RETURN NULL;
END $body$;
CREATE OR REPLACE FUNCTION banyan.take_rows(asking pg_catalog.text,
    OUT relation pg_catalog.oid, OUT ended pg_catalog.bool,
    OUT old pg_catalog.bytea, OUT new pg_catalog.bytea)
RETURNS SETOF pg_catalog.record LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    PERFORM set_config('banyan.capture', '', false);
    RETURN QUERY SELECT c.relation, c.xact <> pg_current_xact_id(), c.old, c.new
                   FROM banyan.captured_rows c WHERE c.session = asking
                  ORDER BY c.xact, c.cmin::text::int8;
    IF FOUND THEN
        DELETE FROM banyan.captured_rows c WHERE c.session = asking;
    END IF;
END $body$;
)";

constexpr const char* read_sql =
    "SELECT c.oid, n.nspname, c.relname,"
    " (SELECT count(*) = 2 FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid"
    "    AND g.tgname IN ('!banyan_capture', '!banyan_truncate') AND g.tgenabled IN ('O', 'A')),"
    " EXISTS (SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid"
    "   LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typlen = -1"
    "   WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
    "   AND (t.typsend = 0 OR e.typsend = 0))"
    " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'"
    " AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'banyan')"
    " ORDER BY n.nspname, c.relname";

std::string triggers_sql(const std::string& table) {
    constexpr const char* condition =
        " WHEN (pg_catalog.current_setting('banyan.capture', true) OPERATOR(pg_catalog.<>) '')";
    return std::string("CREATE OR REPLACE TRIGGER \"") + capture_trigger +
           "\" AFTER INSERT OR UPDATE OR DELETE ON " + table + " FOR EACH ROW" + condition +
           " EXECUTE FUNCTION banyan.record_row(); CREATE OR REPLACE TRIGGER \"" +
           capture_truncate_trigger + "\" AFTER TRUNCATE ON " + table + " FOR EACH STATEMENT" +
           condition + " EXECUTE FUNCTION banyan.record_truncate()";
}

std::string qualified(const Rows& rows, int row, int schema) {
    return quote_identifier(rows.view(row, schema)) + "." +
           quote_identifier(rows.view(row, schema + 1));
}

/// Runs `sql` in a transaction that waits for locks only briefly, several times if need be.
Result<void> with_short_locks(Connection& connection, const CaptureOptions& options,
                              const std::string& sql) {
    const std::string all = "BEGIN; SET LOCAL lock_timeout = " +
                            std::to_string(options.lock_timeout.count()) + "; " + sql +
                            "; COMMIT";
    for (int attempt = 1;; ++attempt) {
        auto done = connection.exec(all);
        if (done) {
            return {};
        }
        connection.rollback();
        const bool busy = done.error().sqlstate == "55P03" || done.error().sqlstate == "40P01";
        if (!busy || attempt >= options.attempts) {
            return done.error();
        }
        // Writers that queued behind the attempt have their turn first.
        std::this_thread::sleep_for(options.lock_timeout * attempt);
    }
}

Result<bool> is_present(Connection& connection) {
    auto rows = connection.exec(
        "SELECT pg_catalog.to_regprocedure('banyan.take_rows(text)') IS NOT NULL"
        " AND pg_catalog.to_regclass('banyan.captured_rows') IS NOT NULL");
    BANYAN_TRY(rows);
    return rows->truth(0, 0);
}

Result<CaptureState> list_tables(Connection& connection, const CaptureOptions& options,
                                 bool install) {
    CaptureState state;
    auto present = is_present(connection);
    BANYAN_TRY(present);
    state.present = *present;
    auto rows = connection.exec(read_sql);
    BANYAN_TRY(rows);
    for (int row = 0; row < rows->size(); ++row) {
        CaptureTable table;
        table.name = rows->text(row, 1) + "." + rows->text(row, 2);
        if (std::find(options.exclude.begin(), options.exclude.end(), table.name) !=
            options.exclude.end()) {
            continue;
        }
        table.installed = rows->truth(row, 3);
        if (rows->truth(row, 4)) {
            table.installed = false;
            table.reason = "type_without_binary_form";
        } else if (!table.installed && install) {
            auto done = with_short_locks(connection, options, triggers_sql(qualified(*rows, row, 1)));
            table.installed = done.has_value();
            table.reason = done ? "" : done.error().message;
        }
        state.tables.push_back(std::move(table));
    }
    if (state.present) {
        auto left = connection.exec(
            "SELECT pg_catalog.count(*) FROM banyan.captured_rows WHERE xact <"
            " pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())");
        BANYAN_TRY(left);
        state.rows_left = left->number(0, 0);
    }
    return state;
}

}  // namespace

Result<CaptureState> read_capture(Connection& connection, const CaptureOptions& options) {
    return list_tables(connection, options, false);
}

Result<CaptureState> install_capture(Connection& connection, const CaptureOptions& options) {
    // Also where it is present: the functions are this version's then.
    BANYAN_TRY(with_short_locks(connection, options, create_sql));
    return list_tables(connection, options, true);
}

Result<void> remove_capture(Connection& connection, const CaptureOptions& options) {
    // Triggers that partitions have of their root go with the root's.
    auto rows = connection.exec(
        "SELECT DISTINCT n.nspname, c.relname FROM pg_catalog.pg_trigger g"
        " JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE g.tgparentid = 0 AND NOT g.tgisinternal"
        " AND g.tgname IN ('!banyan_capture', '!banyan_truncate')");
    BANYAN_TRY(rows);
    for (int row = 0; row < rows->size(); ++row) {
        const std::string table = qualified(*rows, row, 0);
        BANYAN_TRY(with_short_locks(connection, options,
                                    std::string("DROP TRIGGER IF EXISTS \"") + capture_trigger +
                                        "\" ON " + table + "; DROP TRIGGER IF EXISTS \"" +
                                        capture_truncate_trigger + "\" ON " + table));
    }
    BANYAN_TRY(with_short_locks(connection, options,
                                "DROP FUNCTION IF EXISTS banyan.record_row();"
                                "DROP FUNCTION IF EXISTS banyan.record_truncate();"
                                "DROP FUNCTION IF EXISTS banyan.take_rows(text);"
                                "DROP TABLE IF EXISTS banyan.captured_rows"));
    auto others = connection.exec(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = 'banyan')"
        " AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d"
        "   WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.refobjid ="
        "   (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'banyan'))");
    BANYAN_TRY(others);
    if (others->truth(0, 0)) {
        BANYAN_TRY(with_short_locks(connection, options, "DROP SCHEMA banyan"));
    }
    return {};
}

Result<std::vector<std::uint32_t>> forget_left_rows(Connection& connection) {
    std::vector<std::uint32_t> relations;
    auto present = is_present(connection);
    BANYAN_TRY(present);
    if (!*present) {
        return relations;
    }
    auto rows = connection.exec(
        "WITH gone AS (DELETE FROM banyan.captured_rows RETURNING relation)"
        " SELECT DISTINCT relation FROM gone");
    BANYAN_TRY(rows);
    for (int row = 0; row < rows->size(); ++row) {
        relations.push_back(static_cast<std::uint32_t>(rows->number(row, 0)));
    }
    return relations;
}

}  // namespace banyan::router
