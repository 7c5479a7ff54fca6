// What a statement means, read by PostgreSQL's own grammar (libpg_query): never by regular
// expression. Purely syntactic: names are not resolved here (see capture.hpp for that).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "router/catalog/catalog.hpp"

namespace banyan::router {

enum class StatementKind : std::uint8_t {
    read,                 ///< SELECT, VALUES, TABLE, SHOW, EXPLAIN without ANALYZE, COPY ... TO
    insert,               ///< INSERT without data-modifying WITH
    update,               ///< UPDATE without data-modifying WITH
    erase,                ///< DELETE without data-modifying WITH
    write_opaque,         ///< MERGE, data-modifying WITH, EXPLAIN ANALYZE or COPY of a write
    copy_from,            ///< COPY ... FROM STDIN or file
    truncate,             ///<
    ddl,                  ///< CREATE, ALTER, DROP, GRANT, COMMENT, SELECT INTO, CTAS, REFRESH, ...
    concurrent_ddl,       ///< refuses a transaction block: CREATE, DROP INDEX and DETACH CONCURRENTLY
    outside_schema,       ///< no part of this database's schema: roles, databases, tablespaces,
                          ///< subscriptions, large objects
    call,                 ///< CALL
    anonymous_block,      ///< DO
    self_committing,      ///< refuses a transaction block: VACUUM, CREATE DATABASE, ALTER SYSTEM, ...
    begin,                ///< BEGIN, START TRANSACTION
    commit,               ///< COMMIT, END
    rollback,             ///< ROLLBACK, ABORT
    savepoint,            ///<
    release,              ///< RELEASE SAVEPOINT
    rollback_to,          ///< ROLLBACK TO SAVEPOINT
    prepare_transaction,  ///<
    commit_prepared,      ///<
    rollback_prepared,    ///<
    set,                  ///< SET, RESET, SET ROLE, SET SESSION AUTHORIZATION (not SET TRANSACTION)
    prepare,              ///< SQL-level PREPARE
    execute,              ///< SQL-level EXECUTE
    deallocate,           ///< SQL-level DEALLOCATE
    discard,              ///< DISCARD
    primary_only,  ///< LISTEN, NOTIFY, LOCK, cursors, SET TRANSACTION, SET CONSTRAINTS, ANALYZE,
                   ///< REINDEX, CLUSTER, ...
};

std::string_view to_string(StatementKind kind);

/// One statement of a query string. Views and offsets refer to ParsedQuery::sql.
struct Statement {
    StatementKind kind = StatementKind::read;
    std::size_t begin = 0;  ///< byte offset of the first character
    std::size_t end = 0;    ///< byte offset behind the last character, before any semicolon
    std::string tag;        ///< the grammar's node name, e.g. "InsertStmt"

    RangeName target;                            ///< the table written, where there is exactly one
    std::vector<RangeName> tables;               ///< every relation named, the target included
    std::vector<std::string> functions;          ///< every function called; lower case, unqualified
    std::vector<std::string> assigned;           ///< UPDATE: columns in SET, unquoted
    bool returning = false;                      ///< has a RETURNING list of its own
    bool order_by = false;                       ///< top-level ORDER BY
    bool limit = false;                          ///< top-level LIMIT, OFFSET or FETCH FIRST
    bool locks_rows = false;                     ///< FOR UPDATE / SHARE anywhere
    bool on_conflict_update = false;             ///< INSERT ... ON CONFLICT DO UPDATE
    std::vector<std::string> conflict_assigned;  ///< columns set by ON CONFLICT DO UPDATE
    bool chain = false;                          ///< COMMIT/ROLLBACK AND CHAIN
    bool local = false;                          ///< SET LOCAL
    bool temporary = false;                      ///< creates a temporary relation
    bool from_stdin = false;                     ///< COPY FROM STDIN
    bool from_client = false;                    ///< COPY in either direction with the client
    bool hold = false;                           ///< DECLARE ... WITH HOLD
    bool volatile_syntax = false;  ///< uses CURRENT_TIMESTAMP-like or other per-call syntax that
                                   ///< two servers answer differently
    /// LIMIT or DISTINCT ON without ORDER BY, at any level: which rows is the server's choice.
    bool unordered_choice = false;
    bool unordered_aggregate = false;  ///< array_agg(x) and its like without ORDER BY
    /// What EXPLAIN, PREPARE, DECLARE CURSOR, COPY (query) hold; otherwise equal to `kind`.
    StatementKind inner = StatementKind::read;
    /// Savepoint, prepared statement, cursor, gid, setting (lower case; "all" for RESET ALL),
    /// channel, or what to discard ("all", "plans", "sequences", "temp").
    std::string name;
};

struct ParsedQuery {
    std::string sql;
    std::vector<Statement> statements;  ///< empty for an empty query (or one of comments only)
    bool parsed = true;                 ///< false: the grammar could not read it
    std::string error;                  ///< why, if not parsed
    bool has_parameters = false;        ///< contains $1, $2, ...
};

/// Parses a query string. Never fails: what cannot be read has parsed == false. Input over
/// max_sql_bytes, or nested too deep for the parser's stack, is not read at all.
std::shared_ptr<const ParsedQuery> parse_query(std::string_view sql);

/// Longest query string that is parsed, in bytes.
inline constexpr std::size_t max_sql_bytes = 1U << 20U;

/// A stable hexadecimal fingerprint of a query with its constants taken out (libpg_query's).
/// Empty if the query cannot be read.
std::string fingerprint(std::string_view sql);
/// Longest query string that is normalized: libpg_query takes the square of the constants' number.
inline constexpr std::size_t max_normalized_bytes = 32U << 10U;

/// The query text with constants replaced by $n, for display without data. Empty if unreadable or
/// too long.
std::string normalize(std::string_view sql);

}  // namespace banyan::router
