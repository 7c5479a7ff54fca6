// Every statement of PostgreSQL 15's grammar has a decided kind.
#include <gtest/gtest.h>
#include <pg_query/pg_query.pb-c.h>

#include <set>
#include <string>

#include "router/sql/statement.hpp"

namespace banyan::router {
namespace {

using enum StatementKind;

struct Case {
    const char* sql;
    StatementKind kind;
};

constexpr Case cases[] = {
    {"SELECT 1", read},
    {"VALUES (1), (2)", read},
    {"TABLE t", read},
    {"SELECT * FROM t FOR UPDATE", read},
    {"(SELECT 1) UNION (SELECT 2)", read},
    {"WITH a AS (SELECT 1) SELECT * FROM a", read},
    {"SHOW search_path", read},
    {"SHOW ALL", read},
    {"COPY t TO STDOUT", read},
    {"COPY (SELECT 1) TO STDOUT", read},
    {"COPY (TABLE t) TO '/tmp/x'", read},
    {"EXPLAIN SELECT 1", read},
    {"EXPLAIN INSERT INTO t VALUES (1)", read},
    {"EXPLAIN ANALYZE SELECT 1", read},
    {"EXPLAIN (ANALYZE false) DELETE FROM t", read},
    {"EXPLAIN (ANALYZE 0) DELETE FROM t", read},
    {"EXPLAIN (ANALYZE off) DELETE FROM t", read},
    {"EXPLAIN (ANALYZE, ANALYZE off) DELETE FROM t", read},
    {"EXPLAIN EXECUTE p", read},
    {"EXPLAIN ANALYZE DECLARE c CURSOR FOR SELECT 1", read},
    {"INSERT INTO t VALUES (1)", insert},
    {"INSERT INTO t DEFAULT VALUES", insert},
    {"WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", insert},
    {"UPDATE t SET a = 1", update},
    {"UPDATE t SET a = 1 WHERE CURRENT OF c", update},
    {"DELETE FROM t", erase},
    {"MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE", write_opaque},
    {"WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a", write_opaque},
    {"WITH a AS (INSERT INTO t VALUES (1) RETURNING *) INSERT INTO u SELECT * FROM a",
     write_opaque},
    {"WITH a AS (UPDATE t SET a = 1 RETURNING *) UPDATE u SET a = 1", write_opaque},
    {"WITH a AS (UPDATE t SET a = 1 RETURNING *) DELETE FROM u", write_opaque},
    {"EXPLAIN ANALYZE INSERT INTO t VALUES (1)", write_opaque},
    {"EXPLAIN (ANALYZE on, BUFFERS) UPDATE t SET a = 1", write_opaque},
    {"EXPLAIN (ANALYZE 1) DELETE FROM t", write_opaque},
    {"EXPLAIN ANALYZE EXECUTE p", write_opaque},
    {"EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1", write_opaque},
    {"EXPLAIN ANALYZE WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a", write_opaque},
    {"COPY (INSERT INTO t VALUES (1) RETURNING *) TO STDOUT", write_opaque},
    {"COPY (DELETE FROM t RETURNING *) TO STDOUT", write_opaque},
    {"COPY t FROM STDIN", copy_from},
    {"COPY t (a, b) FROM '/tmp/x' WITH (FORMAT csv)", copy_from},
    {"COPY t FROM PROGRAM 'cat'", copy_from},
    {"TRUNCATE t", truncate},
    {"TRUNCATE TABLE a, b CASCADE", truncate},
    {"CALL p(1)", call},
    {"DO $$ BEGIN END $$", anonymous_block},
    {"SELECT 1 INTO t", ddl},
    {"SELECT 1 INTO TEMP t", ddl},
    {"CREATE TABLE t AS SELECT 1", ddl},
    {"CREATE TABLE t AS EXECUTE p", ddl},
    {"CREATE MATERIALIZED VIEW v AS SELECT 1", ddl},
    {"CREATE TABLE t (a int)", ddl},
    {"CREATE TEMP TABLE t (a int)", ddl},
    {"CREATE TABLE t PARTITION OF p FOR VALUES IN (1)", ddl},
    {"CREATE FOREIGN TABLE t (a int) SERVER s", ddl},
    {"ALTER TABLE t ADD b int", ddl},
    {"ALTER TABLE t DETACH PARTITION p", ddl},
    {"ALTER INDEX i SET TABLESPACE x", ddl},
    {"ALTER TABLE ALL IN TABLESPACE a SET TABLESPACE b", ddl},
    {"ALTER TABLE t REPLICA IDENTITY FULL", ddl},
    {"ALTER TABLE t RENAME TO u", ddl},
    {"ALTER TABLE t SET SCHEMA s", ddl},
    {"ALTER TABLE t OWNER TO r", ddl},
    {"ALTER FUNCTION f() OWNER TO r", ddl},
    {"ALTER FUNCTION f() DEPENDS ON EXTENSION e", ddl},
    {"DROP TABLE t", ddl},
    {"DROP INDEX i", ddl},
    {"CREATE INDEX ON t (a)", ddl},
    {"REINDEX TABLE t", ddl},
    {"REINDEX INDEX i", ddl},
    {"CLUSTER t USING i", ddl},
    {"COMMENT ON TABLE t IS 'x'", ddl},
    {"SECURITY LABEL ON TABLE t IS 'x'", ddl},
    {"GRANT SELECT ON t TO r", ddl},
    {"REVOKE SELECT ON t FROM r", ddl},
    {"GRANT a TO b", ddl},
    {"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO r", ddl},
    {"CREATE VIEW v AS SELECT 1", ddl},
    {"CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", ddl},
    {"CREATE FUNCTION f() RETURNS int BEGIN ATOMIC INSERT INTO t VALUES (1); SELECT 1; END", ddl},
    {"CREATE FUNCTION f() RETURNS int RETURN 1", ddl},
    {"CREATE PROCEDURE p() LANGUAGE sql AS ''", ddl},
    {"ALTER FUNCTION f() IMMUTABLE", ddl},
    {"CREATE RULE r AS ON INSERT TO t DO INSTEAD DELETE FROM u", ddl},
    {"CREATE TRIGGER g BEFORE INSERT ON t EXECUTE FUNCTION f()", ddl},
    {"CREATE EVENT TRIGGER g ON ddl_command_start EXECUTE FUNCTION f()", ddl},
    {"ALTER EVENT TRIGGER g DISABLE", ddl},
    {"CREATE LANGUAGE l HANDLER f", ddl},
    {"CREATE AGGREGATE a (int) (SFUNC = f, STYPE = int)", ddl},
    {"CREATE DOMAIN d AS int", ddl},
    {"ALTER DOMAIN d SET NOT NULL", ddl},
    {"CREATE TYPE y AS (a int)", ddl},
    {"CREATE TYPE y AS ENUM ('a')", ddl},
    {"CREATE TYPE y AS RANGE (SUBTYPE = int)", ddl},
    {"ALTER TYPE y ADD VALUE 'b'", ddl},
    {"ALTER TYPE y SET (STORAGE = plain)", ddl},
    {"CREATE SCHEMA s", ddl},
    {"CREATE SEQUENCE q", ddl},
    {"ALTER SEQUENCE q RESTART", ddl},
    {"CREATE ROLE r", ddl},
    {"ALTER ROLE r LOGIN", ddl},
    {"ALTER ROLE r SET a = 1", ddl},
    {"DROP ROLE r", ddl},
    {"DROP OWNED BY r", ddl},
    {"REASSIGN OWNED BY a TO b", ddl},
    {"CREATE CAST (a AS b) WITHOUT FUNCTION", ddl},
    {"CREATE CONVERSION c FOR 'a' TO 'b' FROM f", ddl},
    {"CREATE OPERATOR CLASS o FOR TYPE int USING btree AS STORAGE int", ddl},
    {"CREATE OPERATOR FAMILY o USING btree", ddl},
    {"ALTER OPERATOR FAMILY o USING btree DROP OPERATOR 1 (int, int)", ddl},
    {"ALTER OPERATOR + (int, int) SET (RESTRICT = NONE)", ddl},
    {"CREATE TEXT SEARCH DICTIONARY d (TEMPLATE = simple)", ddl},
    {"ALTER TEXT SEARCH DICTIONARY d (a = b)", ddl},
    {"ALTER TEXT SEARCH CONFIGURATION c DROP MAPPING FOR a", ddl},
    {"CREATE COLLATION c (LOCALE = 'C')", ddl},
    {"ALTER COLLATION c REFRESH VERSION", ddl},
    {"CREATE FOREIGN DATA WRAPPER w", ddl},
    {"ALTER FOREIGN DATA WRAPPER w NO HANDLER", ddl},
    {"CREATE SERVER s FOREIGN DATA WRAPPER w", ddl},
    {"ALTER SERVER s VERSION '1'", ddl},
    {"CREATE USER MAPPING FOR r SERVER s", ddl},
    {"ALTER USER MAPPING FOR r SERVER s OPTIONS (a 'b')", ddl},
    {"DROP USER MAPPING FOR r SERVER s", ddl},
    {"IMPORT FOREIGN SCHEMA a FROM SERVER s INTO b", ddl},
    {"CREATE EXTENSION e", ddl},
    {"ALTER EXTENSION e UPDATE", ddl},
    {"ALTER EXTENSION e ADD TABLE t", ddl},
    {"REFRESH MATERIALIZED VIEW v", ddl},
    {"REFRESH MATERIALIZED VIEW CONCURRENTLY v", ddl},
    {"CREATE POLICY p ON t", ddl},
    {"ALTER POLICY p ON t TO r", ddl},
    {"CREATE TRANSFORM FOR int LANGUAGE l (FROM SQL WITH FUNCTION f(internal))", ddl},
    {"CREATE ACCESS METHOD a TYPE INDEX HANDLER h", ddl},
    {"CREATE PUBLICATION p FOR TABLE t", ddl},
    {"ALTER PUBLICATION p ADD TABLE t", ddl},
    {"ALTER SUBSCRIPTION s DISABLE", ddl},
    {"CREATE STATISTICS s ON a, b FROM t", ddl},
    {"ALTER STATISTICS s SET STATISTICS 1", ddl},
    {"ALTER TABLESPACE x SET (seq_page_cost = 1)", ddl},
    {"ALTER DATABASE d CONNECTION LIMIT 1", ddl},
    {"ALTER DATABASE d REFRESH COLLATION VERSION", ddl},
    {"ALTER DATABASE d SET a = 1", ddl},
    {"VACUUM", self_committing},
    {"VACUUM (FULL) t", self_committing},
    {"VACUUM ANALYZE t", self_committing},
    {"CREATE INDEX CONCURRENTLY ON t (a)", self_committing},
    {"DROP INDEX CONCURRENTLY i", self_committing},
    {"REINDEX TABLE CONCURRENTLY t", self_committing},
    {"REINDEX (CONCURRENTLY) INDEX i", self_committing},
    {"REINDEX SCHEMA s", self_committing},
    {"REINDEX DATABASE d", self_committing},
    {"REINDEX SYSTEM d", self_committing},
    {"CLUSTER", self_committing},
    {"CREATE DATABASE d", self_committing},
    {"DROP DATABASE d", self_committing},
    {"ALTER DATABASE d SET TABLESPACE x", self_committing},
    {"CREATE TABLESPACE x LOCATION '/x'", self_committing},
    {"DROP TABLESPACE x", self_committing},
    {"ALTER SYSTEM SET a = 1", self_committing},
    {"ALTER TABLE t DETACH PARTITION p CONCURRENTLY", self_committing},
    {"CREATE SUBSCRIPTION s CONNECTION 'c' PUBLICATION p", self_committing},
    {"ALTER SUBSCRIPTION s REFRESH PUBLICATION", self_committing},
    {"DROP SUBSCRIPTION s", self_committing},
    {"BEGIN", begin},
    {"BEGIN ISOLATION LEVEL SERIALIZABLE", begin},
    {"START TRANSACTION READ ONLY", begin},
    {"COMMIT", commit},
    {"END AND CHAIN", commit},
    {"ROLLBACK", rollback},
    {"ABORT", rollback},
    {"SAVEPOINT s", savepoint},
    {"RELEASE s", release},
    {"ROLLBACK TO s", rollback_to},
    {"PREPARE TRANSACTION 'g'", prepare_transaction},
    {"COMMIT PREPARED 'g'", commit_prepared},
    {"ROLLBACK PREPARED 'g'", rollback_prepared},
    {"SET a = 1", set},
    {"SET LOCAL a = 1", set},
    {"SET TIME ZONE 'UTC'", set},
    {"SET ROLE r", set},
    {"SET SESSION AUTHORIZATION r", set},
    {"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", set},
    {"RESET ALL", set},
    {"RESET a", set},
    {"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", primary_only},
    {"SET TRANSACTION SNAPSHOT 'x'", primary_only},
    {"SET transaction_isolation = 'serializable'", primary_only},
    {"SET CONSTRAINTS ALL DEFERRED", primary_only},
    {"PREPARE p AS INSERT INTO t VALUES ($1)", prepare},
    {"EXECUTE p(1)", execute},
    {"DEALLOCATE p", deallocate},
    {"DEALLOCATE ALL", deallocate},
    {"DISCARD ALL", discard},
    {"DISCARD TEMP", discard},
    {"DECLARE c CURSOR FOR SELECT 1", primary_only},
    {"FETCH 1 FROM c", primary_only},
    {"MOVE 1 FROM c", primary_only},
    {"CLOSE c", primary_only},
    {"LISTEN x", primary_only},
    {"UNLISTEN *", primary_only},
    {"NOTIFY x", primary_only},
    {"LOCK TABLE t", primary_only},
    {"ANALYZE t", primary_only},
    {"CHECKPOINT", primary_only},
    {"LOAD 'x'", primary_only},
};

TEST(StatementKinds, each_example_has_the_kind_decided_for_it) {
    for (const Case& each : cases) {
        SCOPED_TRACE(each.sql);
        const auto query = parse_query(each.sql);
        ASSERT_TRUE(query->parsed) << query->error;
        ASSERT_EQ(query->statements.size(), 1U);
        EXPECT_EQ(to_string(query->statements[0].kind), to_string(each.kind));
        EXPECT_EQ(query->statements[0].begin, 0U);
        EXPECT_EQ(query->statements[0].end, query->sql.size());
    }
}

TEST(StatementKinds, every_statement_node_of_the_grammar_has_an_example) {
    std::set<std::string> seen;
    for (const Case& each : cases) {
        const auto query = parse_query(each.sql);
        if (!query->statements.empty()) {
            seen.insert(query->statements[0].tag);
        }
    }
    // Nodes that no client's text can make: parts of others, or made by the analyser or PL/pgSQL.
    const std::set<std::string> inner = {"RawStmt", "SetOperationStmt", "ReturnStmt",
                                         "PLAssignStmt", "ReplicaIdentityStmt"};
    std::size_t statements = 0;
    for (unsigned i = 0; i < pg_query__node__descriptor.n_fields; ++i) {
        const auto* kind = static_cast<const ProtobufCMessageDescriptor*>(
            pg_query__node__descriptor.fields[i].descriptor);
        const std::string name = kind->short_name;
        if (name.size() < 4 || name.substr(name.size() - 4) != "Stmt" || inner.contains(name)) {
            continue;
        }
        ++statements;
        EXPECT_TRUE(seen.contains(name)) << name << " has no example";
    }
    EXPECT_GT(statements, 100U);
}

}  // namespace
}  // namespace banyan::router
