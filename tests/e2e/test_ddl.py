"""Changes of the schema while writes are mirrored: what follows them in Banyan, in each policy, and what hides."""
import pytest

from kit import SLOW, wait_until
from wire import SYNC, bind, execute, parse

SCHEMA = """
create table t (id int primary key, v text, n int);
create table audit (id bigserial primary key, what text, r float8 default random());
create function touch() returns int language sql volatile as $$ insert into audit (what) values ('touched'); select 1 $$;
create table p (id int primary key, v text) partition by range (id);
create table p1 partition of p for values from (0) to (100);
create table p2 partition of p for values from (100) to (200);
"""
ROWS = """
insert into t select g, 'row ' || g, g from generate_series(1, 500) g;
insert into p select g, 'p' from generate_series(1, 199) g;
"""


@pytest.fixture
def ready(migration):
    def make(schema="", rows="", **sections):
        banyan = migration(SCHEMA + schema, ROWS + rows, **sections)
        banyan.lead_to("DUAL_WRITE")
        banyan.admin.wait_backfill(60 * SLOW)
        banyan.admin.wait_clean(60 * SLOW)
        return banyan

    return make


def run(client, *statements):
    for sql in statements:
        client.query(sql).ok()


def both(banyan, sql):
    return [side.sql(sql, banyan.database) for side in (banyan.source, banyan.target)]


def events(banyan, event, reason):
    return sum(value for name, value in banyan.admin.metrics().items()
               if name.startswith("banyan_events_total") and f'event="{event}"' in name and f'reason="{reason}"' in name)


def wait_reasons(banyan, **reasons):
    """Until these tables are left out for these reasons; the catalogue is read again behind the client's answer."""
    def shown():
        tables = banyan.admin.tables()
        return {name: tables.get(f"public.{name}", {}).get("reason") for name in reasons}

    wait_until(lambda: shown() == reasons, shown, 15 * SLOW)


def wait_captured(banyan):
    wait_until(lambda: all(table["captured"] for table in banyan.admin.tables().values()), banyan.admin.tables, 15 * SLOW)


# Each in one transaction; afterwards both sides must be equal, in schema and rows.
IN_A_TRANSACTION = {
    "a new column is written at once": ["alter table t add column c int default 7", "insert into t values (1001, 'x', 1, 8)", "update t set c = 9 where id = 3",
                                        "delete from t where id = 4"],
    "a column is dropped": ["alter table t drop column n", "insert into t values (1001, 'x')", "update t set v = 'y' where id = 3 returning v"],
    "a column is renamed": ["alter table t rename column v to w", "insert into t (id, w) values (1001, 'x')", "update t set w = 'y' where id < 10"],
    "a column changes its type": ["alter table t alter column n type text using 'n' || n", "insert into t values (1001, 'x', 'n1')", "update t set n = 'z' where id = 5"],
    "a table is renamed": ["alter table t rename to u", "insert into u values (1001, 'x', 1)", "update u set v = 'y' where id = 3"],
    "a table is renamed and another takes its name": ["alter table t rename to u", "create table t (a text primary key)", "insert into t values ('new')",
                                                      "insert into u values (1001, 'x', 1)"],
    "a table is made and filled": ["create table made (id serial primary key, r float8 default random(), at timestamptz default clock_timestamp())",
                                   "insert into made select from generate_series(1, 20)", "update made set r = random() where id < 5"],
    "a table is made from a query": ["create table made as select id, random() as r from t", "alter table made add primary key (id)"],
    "a table is dropped": ["insert into t values (1001, 'x', 1)", "drop table t", "insert into audit (what) values ('dropped')"],
    "a table is made, filled and dropped": ["create table made (id int primary key)", "insert into made values (1)", "drop table made"],
    "a savepoint takes it back": ["savepoint s", "alter table t drop column n", "insert into t values (1001, 'x')", "rollback to s", "insert into t values (1001, 'x', 1)"],
    "a constraint comes": ["alter table t add constraint k check (n > 0) not valid", "alter table t validate constraint k", "insert into t values (1001, 'x', 1)"],
    "an index and a trigger come": ["create index on t (v)", "create function f() returns trigger language plpgsql as $$ begin new.n := random() * 100; return new; end $$",
                                    "create trigger g before insert on t for each row execute function f()", "insert into t values (1001, 'x', 1)"],
    "a partition comes and goes": ["create table p3 partition of p for values from (200) to (300)", "insert into p values (250, 'p3')",
                                   "alter table p detach partition p1", "insert into p1 values (0, 'alone')"],
    "a schema with elements": ["create schema more create table t (id int primary key) create view v as select * from t", "insert into more.t values (1)"],
}
COLUMNS = """select n.nspname, c.relname, a.attname, format_type(atttypid, atttypmod) from pg_attribute a join pg_class c on c.oid = attrelid
    join pg_namespace n on n.oid = relnamespace where attnum > 0 and not attisdropped and relkind in ('r', 'p', 'v', 'm')
    and nspname !~ '^pg_|banyan|information_schema' order by 1, 2, a.attname"""


@pytest.mark.parametrize("way", ["block", pytest.param("extended", marks=pytest.mark.short), "one query"])
@pytest.mark.parametrize("name", list(IN_A_TRANSACTION))
def test_ddl_and_writes_in_one_transaction(ready, name, way):
    banyan = ready()
    statements = IN_A_TRANSACTION[name]
    with banyan.wire() as client:
        # Prepared and used before, so that Banyan has decided and rewritten it already.
        client.send(parse("insert into t (id) values ($1)", name="before"), bind([900], name="before"), execute(), SYNC)
        client.reply().ok()
        if way == "one query":
            client.query("begin; " + "; ".join(statements) + "; commit").ok()
        else:
            run(client, "begin")
            for sql in statements:
                (client.query(sql) if way == "block" else client.extended(sql)).ok()
            run(client, "commit")
        if both(banyan, "select to_regclass('t') is not null and exists (select from pg_attribute where attrelid = to_regclass('t') and attname = 'id')")[0][0][0]:
            client.send(bind([901], name="before"), execute(), SYNC)
            client.reply().ok()
    source, target = both(banyan, COLUMNS)
    assert source == target
    banyan.settle_and_compare()


@pytest.mark.short
def test_ddl_that_is_rolled_back_leaves_nothing(ready):
    banyan = ready()
    before = both(banyan, COLUMNS)
    with banyan.wire() as client:
        run(client, "begin", "alter table t drop column n", "create table made (id int primary key)", "insert into made values (1)",
            "insert into t values (1001, 'x')", "rollback", "insert into t values (1002, 'x', 2)")
        client.query("begin; alter table t add x int; insert into t values (1, 'twice', 1, 1); commit")
        run(client, "rollback", "insert into t values (1003, 'x', 3)")
    assert both(banyan, COLUMNS) == before
    assert both(banyan, "select id from t where id > 1000 order by 1") == [[(1002,), (1003,)]] * 2
    banyan.settle_and_compare()


def test_ddl_during_the_backfill(migration):
    banyan = migration(SCHEMA, "insert into t select g, repeat('x', 200), g from generate_series(1, 60000) g", backfill={"max_chunk_rows": 1000, "max_rows_per_second": 20000})
    banyan.lead_to("DUAL_WRITE")
    with banyan.wire() as client:
        wait_until(lambda: banyan.admin.tables()["public.t"]["backfill"]["rows_copied"] > 0, lambda: banyan.admin.tables()["public.t"], 30 * SLOW)
        run(client, "alter table t add column c float8 default random()", "insert into t values (70001, 'x', 1, 2)", "update t set n = -1 where id % 1000 = 0",
            "create table made (id int primary key, v text)", "insert into made values (1, 'x')", "alter table t drop column v", "delete from t where id % 7000 = 1")
    wait_until(lambda: banyan.admin.get("/backfill")["state"] in ("done", "failed"), lambda: banyan.admin.get("/backfill"), 90 * SLOW)
    if banyan.admin.get("/backfill")["state"] == "failed":
        banyan.ctl("backfill", "start")
        banyan.admin.wait_backfill(90 * SLOW)
    banyan.settle_and_compare()


# --- what hides ---

def test_ddl_in_a_function_is_noticed_named_and_made_good_by_the_operator(ready):
    banyan = ready()
    with banyan.wire() as client:
        run(client, "do $$ begin alter table t add column c int default 5; create table made (id int primary key); insert into made values (1); end $$")
        wait_reasons(banyan, t="columns_differ", made="not_on_mirror")
        run(client, "insert into t values (1001, 'x', 1, 2)", "insert into made values (2)")
        assert events(banyan, "not_mirrored", "hidden_ddl") == 1
        banyan.target.sql("alter table t add column c int default 6; create table made (id int primary key)", banyan.database, "app")
        wait_captured(banyan)
        run(client, "insert into t values (1002, 'x', 1, 3)")
    banyan.settle_and_compare()
    assert both(banyan, "select count(*) from t where c = 5") == [[(500,)]] * 2


def test_a_temporary_table_in_a_function_costs_no_catalogue(ready):
    banyan = ready()
    version = banyan.admin.get("/status")["catalog"]["version"]
    with banyan.wire() as client:
        for _ in range(3):
            run(client, "do $$ begin create temp table scratch (id serial primary key, v text) on commit drop; insert into scratch (v) values ('x'); end $$")
    assert banyan.admin.get("/status")["catalog"]["version"] == version


def test_what_triggers_write_behind_ddl_and_truncate_is_measured(ready):
    banyan = ready("create table extra (id int primary key)", "insert into extra values (1)")
    banyan.sql("""create function on_ddl() returns event_trigger language plpgsql as $$ begin insert into public.audit (what) values (tg_tag); end $$;
                  create event trigger watch on ddl_command_end execute function on_ddl()""", user="postgres")
    banyan.sql("""create function on_truncate() returns trigger language plpgsql as $$ begin insert into public.audit (what) values (tg_op); return null; end $$;
                  create trigger watch after truncate on extra for each statement execute function on_truncate()""")
    banyan.admin.wait_clean(60 * SLOW)
    with banyan.wire() as client:
        run(client, "create table made (id int primary key)", "create index on t (n)", "truncate extra")
    banyan.settle_and_compare()
    assert both(banyan, "select what from audit where what in ('CREATE INDEX', 'TRUNCATE') order by 1") == [[("CREATE INDEX",), ("TRUNCATE",)]] * 2
    banyan.sql("drop event trigger watch", user="postgres")


HIDDEN_WRITES = {
    "a function made by a block": ["do $$ begin create function fresh() returns int language sql as 'insert into audit (what) values (null); select 1'; end $$",
                                   "select fresh()"],
    "cursor": ["begin", "declare c cursor for select touch()", "fetch all from c", "commit"],
    "cursor with hold": ["begin", "declare c cursor with hold for select touch()", "commit", "fetch all from c", "close c"],
    "create table as": ["create table made as select touch() as id"],
    "create temp table as": ["create temp table made as select touch() as id"],
    "select into": ["select touch() as id into made"],
    "create table as execute": ["prepare s as select touch() as id", "create table made as execute s"],
    "create table as with": ["create table made as with d as (delete from t where id < 5 returning id) select * from d"],
    "explain analyze": ["explain analyze create table made as select touch() as id"],
    "explain analyze execute": ["prepare s as update t set v = random()::text where id < 5", "explain analyze execute s"],
    "copy of a write": ["copy (update t set v = random()::text where id < 5 returning *) to stdout"],
    "prepared": ["prepare s (int) as insert into t values ($1, random()::text, 1)", "execute s(2001)", "execute s(2002)"],
    "call": ["create procedure proc() language plpgsql as $$ begin perform touch(); commit; perform touch(); end $$", "call proc()"],
}


@pytest.mark.parametrize("name", list(HIDDEN_WRITES))
def test_writes_inside_of_other_statements_are_found(ready, name):
    banyan = ready()
    with banyan.wire() as client:
        run(client, *HIDDEN_WRITES[name])
    banyan.sql("drop table if exists made")
    banyan.settle_and_compare()


def test_partitions_and_indexes_concurrently_are_the_primarys_alone_and_named(ready):
    banyan = ready()
    with banyan.wire() as client:
        run(client, "create index concurrently i on t (v)")
        assert events(banyan, "opaque", "concurrent_ddl") == 1
        assert both(banyan, "select to_regclass('i') is not null") == [[(True,)], [(False,)]]
        client.extended("drop index concurrently i").ok()
        run(client, "alter table p detach partition p2 concurrently")
        wait_reasons(banyan, p2="not_on_mirror")
        banyan.target.sql("alter table p detach partition p2", banyan.database, "app")
        wait_captured(banyan)
        run(client, "delete from p2 where id = 150", "insert into t values (1001, 'x', 1)")
        # Among other statements the server refuses it, and all of them.
        assert client.query("create index concurrently i on t (v); insert into t values (1002, 'x', 1)").errors[0]["C"] == "25001"
    banyan.settle_and_compare()


def test_roles_and_databases_are_no_part_of_the_schema(ready):
    banyan = ready()
    name = f"only_here_{banyan.database}"
    with banyan.wire("postgres") as client:
        run(client, f"create role {name}", f"comment on role {name} is 'x'", f"grant {name} to app", f"alter role {name} set work_mem = '1MB'")
        assert both(banyan, f"select count(*) from pg_roles where rolname = '{name}'") == [[(1,)], [(0,)]]
        assert events(banyan, "not_mirrored", "outside_schema") == 4
        run(client, f"drop role {name}", "insert into t values (1001, 'x', 1)")
    assert not [table for table in banyan.admin.tables().values() if table["suspect"]]
    banyan.assert_equal(settle=2)


def test_maintenance_suspects_nothing(ready):
    banyan = ready()
    with banyan.wire("postgres") as client:
        run(client, "vacuum t", "analyze", "reindex table t", "reindex table concurrently t", "cluster t using t_pkey", "cluster", "checkpoint")
        run(client, "begin", "lock table t in access exclusive mode", "insert into t values (1001, 'x', 1)", "commit")
    assert not [table for table in banyan.admin.tables().values() if table["suspect"]]
    banyan.assert_equal(settle=2)


# --- policies ---

CHANGES = ["alter table t add column c int", "create table made as select 1 as id", "select 1 as id into made", "drop table t cascade", "create index concurrently i on t (v)",
           "grant select on t to public", "comment on table t is 'x'", "alter table p detach partition p1 concurrently"]


@pytest.mark.short
def test_refused_changes_fail_like_the_servers_own_errors(ready):
    banyan = ready(mirror={"ddl": "refuse"})
    before = both(banyan, COLUMNS)
    with banyan.wire() as client:
        for sql in CHANGES:
            for reply in (client.query(sql), client.extended(sql)):
                assert [error["C"] for error in reply.errors] == ["55000"], sql
                assert reply.errors[0]["S"] == "ERROR" and "DUAL_WRITE" in reply.errors[0]["M"] and reply.status == "I"
        # The transaction has failed as with any error, and a savepoint takes it back.
        run(client, "begin", "insert into t values (1001, 'x', 1)", "savepoint s")
        assert client.query("alter table t add column c int").status == "E"
        assert client.query("select 1").errors[0]["C"] == "25P02"
        run(client, "rollback to s", "insert into t values (1002, 'x', 1)", "commit")
        run(client, "begin", "insert into t values (1003, 'x', 1)")
        assert client.extended("drop table t").status == "E"
        assert client.query("commit").tags == ["ROLLBACK"]
        reply = client.query("insert into t values (1004, 'x', 1); drop table t; insert into t values (1005, 'x', 1)")
        assert reply.errors[0]["C"] == "55000" and reply.tags == ["INSERT 0 1"] and reply.status == "I"
        client.send(parse("insert into t values (1006, 'x', 1)"), bind(), execute(), parse("drop table t"), bind(), execute(),
                    parse("insert into t values (1007, 'x', 1)"), bind(), execute(), SYNC)
        assert [error["C"] for error in client.reply().errors] == ["55000"]
        # What is nobody else's, or no change of the schema, goes on.
        run(client, "create temp table scratch (id int)", "alter table scratch add v int", "insert into scratch values (1, 2)", "drop table scratch",
            "truncate audit", "vacuum t", "reindex table t")
    assert both(banyan, COLUMNS) == before
    assert both(banyan, "select id from t where id > 1000") == [[(1001,), (1002,)]] * 2
    assert events(banyan, "refused", "ddl_refused") == 2 * len(CHANGES) + 4
    banyan.settle_and_compare()


def test_a_phase_may_have_a_policy_of_its_own(ready):
    banyan = ready(mirror={"ddl_in_dual_read": "refuse"})
    with banyan.wire() as client:
        run(client, "alter table t add column c int")
        banyan.lead_to("DUAL_READ")
        assert client.query("alter table t add column d int").errors[0]["M"] == "schema changes are refused in phase DUAL_READ"
        banyan.admin.transition("DUAL_WRITE")
        run(client, "alter table t add column d int", "insert into t values (1001, 'x', 1, 2, 3)")
    banyan.settle_and_compare()


@pytest.mark.short
def test_changes_of_the_primary_alone_are_the_operators_to_repeat(ready):
    banyan = ready(mirror={"ddl": "primary_only"})
    with banyan.wire() as client:
        run(client, "alter table t add column c int default 5", "insert into t values (1001, 'x', 1, 2)",
            "begin", "create table made (id int primary key, v text)", "insert into made values (1, 'x')", "commit", "insert into made values (2, 'y')")
        wait_reasons(banyan, t="columns_differ", made="not_on_mirror")
        assert events(banyan, "opaque", "ddl_primary_only") == 2
        assert both(banyan, COLUMNS)[1] != both(banyan, COLUMNS)[0]
        banyan.target.sql("alter table t add column c int default 5; create table made (id int primary key, v text)", banyan.database, "app")
        wait_captured(banyan)
        run(client, "insert into t values (1002, 'x', 1, 3)", "insert into made values (3, 'z')")
    banyan.settle_and_compare()


def test_a_change_that_takes_the_mirror_longer_than_a_commit_may_is_waited_for(ready):
    banyan = ready(mirror={"commit_timeout_ms": 400, "lock_timeout_ms": 300})
    banyan.target.sql("create function slow() returns event_trigger language plpgsql as $$ begin perform pg_sleep(1); end $$; "
                      "create event trigger slow on ddl_command_start execute function slow(); alter event trigger slow enable always", banyan.database)
    with banyan.wire() as client:
        run(client, "alter table t add column c int", "insert into t values (1001, 'x', 1, 2)")
    banyan.target.sql("alter event trigger slow disable; drop event trigger slow", banyan.database)
    source, target = both(banyan, COLUMNS)
    assert source == target
    banyan.settle_and_compare()
