"""Deep capture: what RETURNING cannot show (functions, triggers, cascades, MERGE, rules, procedures) is mirrored by row."""
import subprocess
import threading

import pytest

from kit import SLOW, wait_until
from wire import COPY_DONE, FLUSH, SYNC, Wire, bind, copy_data, execute, parse, query

SCHEMA = """
create table acc (id int primary key, v text, n int not null default 0);
create table log (id bigserial primary key, what text, at timestamptz default clock_timestamp());
create table parent (id int primary key, v text);
create table kid_cascade (id int primary key, p int references parent on delete cascade on update cascade, v text);
create table kid_null (id int primary key, p int references parent on delete set null on update set null);
create table kid_default (id int primary key, p int default 0 references parent on delete set default on update set default);
create table tree (id int primary key, up int references tree on delete cascade on update cascade);
create table part (id int, region text, v text, primary key (id, region)) partition by list (region);
create table part_eu partition of part for values in ('eu');
create table part_us partition of part for values in ('us');
create table base (id int primary key, v text);
create table derived (extra text, primary key (id)) inherits (base);
create table ruled (id int primary key, v text);
create rule ruled_log as on insert to ruled do also insert into log (what) values ('rule ' || new.id);
create table guarded (id int primary key, owner text);
alter table guarded enable row level security;
create policy mine on guarded using (owner = current_user) with check (owner = current_user);
create table typed (id int primary key, m text[], j jsonb, b bytea, d numeric, at timestamptz, span int4range);
create view acc_view as select id, v from acc where id >= 0;
create view joined as select a.id, a.v, l.what from acc a left join log l on l.id = a.id;
create function joined_write() returns trigger language plpgsql as
  $$ begin insert into acc values (new.id, new.v); insert into log (what) values (new.what); return new; end $$;
create trigger joined_write instead of insert on joined for each row execute function joined_write();
create table watched (id int primary key, v text);
create function watched_write() returns trigger language plpgsql as
  $$ begin insert into log (what) values (tg_op || ' ' || coalesce(new.id, old.id)); return null; end $$;
create trigger watched_write after insert or update or delete on watched for each row execute function watched_write();
create table late (id int primary key, v text);
create function late_write() returns trigger language plpgsql as
  $$ begin if new.v = 'bad' then raise exception 'late refusal'; end if; insert into log (what) values ('late ' || new.v); return null; end $$;
create constraint trigger late_write after insert or update on late deferrable initially deferred for each row execute function late_write();
create table own (id int primary key, v text, times int default 0);
create function own_write() returns trigger language plpgsql as
  $$ begin if new.times < 2 then update own set times = times + 1 where id = new.id; end if; return null; end $$;
create trigger a_own_write after insert or update on own for each row execute function own_write();
create function busy(k int) returns int language plpgsql as $$ begin
  insert into acc values (k, 'f', (random() * 1000)::int), (k + 1, 'g', 1);
  update parent set v = md5(random()::text) where id = 1;
  insert into log (what) values ('busy ' || k);
  return k; end $$;
create view busy_view as select busy(2100 + 2 * g) from generate_series(1, 2) g;
create function upsert(k int) returns void language plpgsql as $$ begin
  begin insert into acc values (k, 'new'); exception when unique_violation then update acc set v = 'old', n = n + 1 where id = k; end; end $$;
create procedure steps(k int) language plpgsql as $$ begin
  for i in 1..3 loop insert into acc values (k + i, 'step', i); insert into log (what) values ('step ' || i); commit; end loop;
  insert into acc values (k + 9, 'last', 9); end $$;
create procedure failing(k int) language plpgsql as $$ begin
  insert into acc values (k, 'kept'); commit; raise exception 'after the commit'; end $$;
create procedure quiet() language sql as $$ insert into acc values (1400, null) $$;
create function emptied() returns void language sql as $$ truncate typed $$;
"""
ROWS = """
insert into acc select g, 'seed', g from generate_series(1, 200) g;
insert into parent select g, 'p' from generate_series(0, 40) g;
insert into kid_cascade select g, g % 40, 'k' from generate_series(1, 120) g;
insert into kid_null select g, g % 40 from generate_series(1, 120) g;
insert into kid_default select g, g % 40 from generate_series(1, 120) g;
insert into tree select g, nullif(g / 2, 0) from generate_series(1, 31) g;
insert into base select g, 'b' from generate_series(1, 10) g;
insert into derived select g, 'd', 'x' from generate_series(11, 20) g;
insert into typed select g, array['a', null], '{"a": 1.0}', '\\x00ff', g / 7.0, now(), int4range(g, g + 5) from generate_series(1, 20) g;
"""
# Every statement's rows are known by row: nothing is suspect afterwards.
STATEMENTS = {
    "function in SELECT": ["select busy(1000)", "select busy(1010 + 2 * g) from generate_series(1, 5) g"],
    "function in WHERE": ["select count(*) from generate_series(1, 3) g where busy(1100 + 2 * g) > 0"],
    "function in a view": ["select * from busy_view"],
    "EXCEPTION block": ["select upsert(1200)", "select upsert(1200)", "select upsert(g) from generate_series(1, 20) g"],
    "DO": ["do $$ begin perform busy(1300); delete from acc where id between 11 and 15; end $$"],
    "CALL of what does not commit": ["call quiet()"],
    "MERGE": ["merge into acc using (values (20, 'm'), (1500, 'n'), (21, null)) s(i, w) on id = i when matched and w is null then delete "
              "when matched then update set v = w, n = n + 1 when not matched then insert values (i, w)"],
    "data-modifying WITH": ["with gone as (delete from acc where id between 30 and 34 returning *), again as (insert into acc select id + 1600, v, n from gone "
                            "returning id) select count(*) from again",
                            "with up as (update acc set n = n + 1 where id between 40 and 44 returning id) insert into log (what) select id::text from up"],
    "a trigger that writes elsewhere": ["insert into watched values (1, 'a'), (2, 'b')", "update watched set v = 'c', id = id + 10", "delete from watched where id = 11"],
    "cascades": ["delete from parent where id in (3, 4)", "update parent set id = 1003 where id = 5"],
    "a tree that moves": ["delete from tree where id = 3", "update tree set id = 102 where id = 2"],
    "simple view": ["insert into acc_view values (1700, 'view')", "update acc_view set v = 'seen' where id = 1700", "delete from acc_view where id = 50"],
    "INSTEAD OF view": ["insert into joined (id, v, what) values (1800, 'i', 'o')"],
    "rule": ["insert into ruled values (1, 'r'), (2, 's')", "update ruled set v = 't' where id = 1", "delete from ruled where id = 2"],
    "inheritance": ["update base set v = 'up' where id in (1, 11)", "insert into derived values (30, 'n', 'm')", "delete from base where id in (2, 12)",
                    "update derived set id = 99 where id = 13", "insert into base values (11, 'twin')"],
    "row security": ["insert into guarded values (1, 'app'), (2, 'app')", "update guarded set id = 3 where id = 2", "delete from guarded where id = 1"],
    "rows that move between partitions": ["do $$ begin insert into part values (1, 'eu', 'x'), (2, 'eu', 'y'); update part set region = 'us' where id = 1; end $$"],
    "types": ["do $$ begin update typed set j = j || '{\"b\": [null, 1e400]}', b = b || '\\x27', d = d * 3, at = at + '1 microsecond', span = '[1,)', m = m || array['b'] "
              "where id < 10; end $$"],
    "SQL EXECUTE": ["prepare w as insert into acc values ($1, $2)", "execute w(1900, 'x')"],
    "EXPLAIN ANALYZE": ["explain analyze insert into acc values (2000, 'explained')"],
}
# Kinds in which one statement writes the same row more than once.
WRITTEN_TWICE = ("EXCEPTION block", "function in a view", "a tree that moves", "function in SELECT", "function in WHERE", "rows that move between partitions")


def reinstall(banyan):
    result = banyan.ctl("capture", "install")
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture
def deep(migration):
    banyan = migration(SCHEMA, ROWS)
    reinstall(banyan)
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill()
    banyan.admin.wait_clean()
    return banyan


def direct(banyan):
    """A client of the source itself."""
    return Wire(banyan.source.port, "app", banyan.database, timeout=30 * SLOW)


def suspects(banyan):
    return {name: table["suspect"]["reason"] for name, table in banyan.admin.tables().items() if table["suspect"]}


def run(client, way, statements):
    if way == "block":
        client.query("begin").ok()
    for sql in statements:
        (client.extended if way == "extended" else client.query)(sql).ok()
    if way == "block":
        client.query("commit").ok()


@pytest.mark.short
@pytest.mark.parametrize("way", ["simple", "extended", "block"])
def test_each_opaque_write_is_on_the_mirror_by_row(deep, way):
    with deep.wire() as client:
        for kind, statements in STATEMENTS.items():
            repaired = deep.admin.get("/journal")["repaired_total"]
            run(client, way, statements)
            assert suspects(deep) == {}, kind
            # What one statement wrote twice is known by key only, and re-read.
            deep.admin.wait_no_dirty()
            deep.assert_equal(settle=2)
            if kind not in WRITTEN_TWICE:
                assert deep.admin.get("/journal")["repaired_total"] == repaired, kind


def test_after_the_switch_the_targets_triggers_do_the_same(deep):
    deep.lead_to("SWITCHOVER")
    with deep.wire() as client:
        for statements in STATEMENTS.values():
            run(client, "block", statements)
        client.query("call steps(5000)").ok()
        client.query("insert into late values (1, 'good')").ok()
        assert suspects(deep) == {}
        deep.admin.wait_no_dirty()
    deep.assert_equal(settle=2)
    deep.admin.wait_clean()
    deep.admin.transition("DUAL_READ")
    deep.sql("select busy(9000)")
    assert suspects(deep) == {}
    deep.admin.wait_no_dirty()
    deep.assert_equal(settle=2)


@pytest.mark.short
def test_without_it_the_same_writes_make_their_tables_suspect(migration):
    banyan = migration(SCHEMA, ROWS)
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill()
    banyan.admin.wait_clean()
    banyan.admin.post("/backfill/pause")
    before = banyan.admin.metrics()
    with banyan.wire() as client:
        client.query("select busy(1000)").ok()
        client.query("insert into late values (1, 'deferred')").ok()
    banyan.admin.wait_clean()
    banyan.assert_equal(settle=2)
    after = banyan.admin.metrics()
    found = {key: after[key] - before.get(key, 0) for key in after if "suspect" in key and "volatile_function" in key}
    assert found and max(found.values()) >= 3, found


@pytest.mark.short
def test_one_statement_that_writes_a_row_twice_is_settled_by_key(deep):
    with deep.wire() as client:
        client.query("insert into own values (1, 'a'), (2, 'b')").ok()
        client.query("update own set v = v || 'x'").ok()
        client.query("do $$ begin insert into acc values (3000, 'one'); update acc set v = 'two' where id = 3000; update acc set v = 'three' where id = 3000; end $$").ok()
    assert suspects(deep) == {}
    deep.admin.wait_no_dirty()
    deep.assert_equal(settle=2)


@pytest.mark.short
def test_what_a_savepoint_undoes_is_undone_on_the_mirror(deep):
    with deep.wire() as client:
        client.query("begin; savepoint a").ok()
        client.query("select busy(4000)").ok()
        client.query("rollback to a").ok()
        client.query("select busy(4010)").ok()
        client.query("savepoint b").ok()
        client.query("do $$ begin update acc set v = 'inside'; raise exception 'no'; end $$")
        client.query("rollback to b").ok()
        client.query("update acc set v = 'after' where id = 4010").ok()
        client.query("commit").ok()
    deep.admin.wait_no_dirty()
    assert suspects(deep) == {}
    deep.assert_equal(settle=2)
    assert deep.target.sql("select v from acc where id in (4000, 4010)", deep.database) == [("after",)]


@pytest.mark.short
def test_deferred_triggers_are_captured_and_their_error_is_the_answer_to_commit(deep):
    direct_answers, answers = [], []
    for through, into in ((False, direct_answers), (True, answers)):
        with deep.wire() if through else direct(deep) as client:
            k = 1 if through else 101
            for way in ("query", "extended"):
                ask = getattr(client, way)
                ask("begin").ok()
                ask(f"insert into late values ({k}, 'bad')").ok()
                reply = ask("commit")
                into.append((reply.errors[0]["C"], reply.errors[0]["M"], reply.status))
                into.append(ask("select 1").status)
                failed = ask(f"insert into late values ({k}, 'bad')")
                into.append((failed.errors[0]["M"], failed.tags, failed.status))
            reply = client.query(f"begin; insert into late values ({k}, 'bad'); commit")
            into.append((reply.errors[0]["M"], reply.status))
            if through:
                client.query("begin").ok()
                client.query("insert into late values (50, 'good')").ok()
                client.query("commit").ok()
                client.extended("insert into late values (51, 'good')").ok()
    assert answers == direct_answers
    assert suspects(deep) == {}
    deep.admin.wait_no_dirty()
    deep.assert_equal(["public.late", "public.log"], settle=2)
    assert deep.target.sql("select count(*) from log where what = 'late good'", deep.database) == [(2,)]


@pytest.mark.short
def test_a_procedure_that_commits_is_mirrored_by_key(deep):
    with deep.wire() as client:
        client.query("call steps(5000)").ok()
        client.extended("call steps(5100)").ok()
        client.query("do $$ begin for i in 1..3 loop insert into acc values (5200 + i, 'do'); commit; end loop; end $$").ok()
    assert suspects(deep) == {}
    deep.admin.wait_no_dirty()
    deep.assert_equal(settle=2)
    assert deep.target.sql("select count(*) from acc where id >= 5000", deep.database) == [(11,)]
    with deep.wire() as client:  # an error hides what was committed before it
        assert client.query("call failing(5300)").errors[0]["M"] == "after the commit"
    deep.admin.wait_clean()
    deep.assert_equal(settle=2)


@pytest.mark.short
def test_nothing_is_lost_when_banyan_dies_in_a_procedure_that_commits(deep):
    deep.source.sql("create procedure slow(k int) language plpgsql as $$ begin insert into acc values (k, 'before'); commit; perform pg_sleep(30); end $$",
                    deep.database, "app")
    client = deep.connect()
    caller = threading.Thread(target=lambda: pytest.raises(Exception, client.cursor().execute, "call slow(6000)"))
    caller.start()
    wait_until(lambda: deep.source.sql("select 1 from acc where id = 6000", deep.database), lambda: "the procedure's first commit", 20 * SLOW)
    deep.kill9()
    caller.join()
    deep.source.sql("select pg_terminate_backend(pid) from pg_stat_activity where query like 'call slow%'")
    deep.start()
    deep.admin.wait_clean()
    deep.assert_equal(settle=2)
    assert deep.target.sql("select v from acc where id = 6000", deep.database) == [("before",)]


@pytest.mark.short
def test_a_truncation_inside_of_a_function_is_named(deep):
    with deep.wire() as client:
        client.query("select emptied()").ok()
        assert suspects(deep).get("public.typed") or not deep.target.sql("select 1 from typed limit 1", deep.database)
    deep.admin.wait_clean()
    deep.assert_equal(settle=2)


@pytest.mark.short
def test_capture_is_invisible(deep):
    def behaviour(client):
        rows = []
        for sql in ("insert into log (what) values ('x')", "select lastval() > 0", "select busy({k})", "select lastval() = currval('log_id_seq')",
                    "select count(*) from pg_settings where name like 'banyan%'", "select upsert({k})",
                    "with x as (insert into acc values ({k} + 5, 'w') returning v) select * from x", "select pg_trigger_depth()",
                    "do $$ begin raise notice 'seen'; end $$", "select busy(1)"):
            reply = client.query(sql.format(k=k))
            rows.append((reply.tags, reply.rows, [notice["M"] for notice in reply.notices], reply.errors and reply.errors[0]["M"], reply.status))
        return rows

    k = 7000
    with deep.wire() as client:
        through = behaviour(client)
    k = 7100
    with direct(deep) as client:
        told = behaviour(client)
    assert [row[0] for row in through] == [row[0] for row in told]
    assert [row[2:] for row in through] == [row[2:] for row in told]
    assert through[3][1] == told[3][1] == [[b"t"]]


@pytest.mark.short
def test_it_is_installed_listed_completed_and_removed_without_a_trace(migration):
    banyan = migration(SCHEMA, ROWS)
    before = [dump(cluster, banyan.database) for cluster in (banyan.source, banyan.target)]
    assert "deep capture is off" in banyan.ctl("capture").stdout
    shown = reinstall(banyan).stdout
    assert "deep capture is on" in shown and "public.acc" in shown
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill()
    banyan.admin.wait_clean()
    assert banyan.admin.tables()["public.acc"]["mirroring"] == "deep_capture", banyan.admin.tables()["public.acc"]
    assert "deep_capture" in banyan.ctl("tables").stdout
    banyan.sql("create table fresh (id int primary key, v text)")
    banyan.sql("create function fresh(k int) returns void language sql as $$ insert into fresh values (k, 'x') $$")
    wait_until(lambda: banyan.admin.tables().get("public.fresh", {}).get("mirroring") == "deep_capture",
               lambda: banyan.admin.tables().get("public.fresh"), 20 * SLOW)
    banyan.sql("select fresh(1)")
    assert suspects(banyan) == {}
    banyan.assert_equal(["public.fresh"], settle=2)
    banyan.sql("drop function fresh; drop table fresh")
    banyan.admin.wait_clean()
    removed = banyan.ctl("capture", "remove")
    assert removed.returncode == 0 and "deep capture is off" in removed.stdout, removed
    banyan.sql("select busy(8000)")
    banyan.admin.wait_clean()
    banyan.assert_equal(settle=2)
    banyan.admin.transition("INITIAL")
    assert [dump(cluster, banyan.database) for cluster in (banyan.source, banyan.target)] == before


def dump(cluster, database):
    """The schema, as pg_dump sees it."""
    text = subprocess.run(["pg_dump", "--schema-only", cluster.dsn(database)], check=True, stdout=subprocess.PIPE, text=True).stdout
    return [line for line in text.splitlines() if line and not line.startswith(("--", "\\"))]


COPIES = {
    "volatile defaults": ("log (what)", ["a", "b", "c"]),
    "a trigger that writes elsewhere": ("watched", ["51\tx", "52\ty"]),
    "a rule's table": ("ruled", ["61\tx", "62\ty"]),
    "a view": ("joined", ["8100\tv\tw"]),
    "a trigger that writes the row again": ("own", ["71\tx\t0", "72\ty\t0"]),
    "inheritance": ("derived", ["81\tx\ty"]),
}


@pytest.mark.short
@pytest.mark.parametrize("way", ["simple", "extended", "block", "extended block"])
def test_copies_whose_rows_do_not_follow_from_their_data(deep, way):
    with deep.wire() as client:
        for number, (kind, (target, lines)) in enumerate(COPIES.items()):
            lines = [line if number == 0 else f"{int(line.split(chr(9))[0]) + 1000 * WAY[way]}\t" + line.split("\t", 1)[1] for line in lines]
            sql = f"copy {target} from stdin"
            if "block" in way:
                client.query("begin").ok()
            data = copy_data("".join(line + "\n" for line in lines).encode()) + COPY_DONE
            if "extended" in way:
                client.send(parse(sql), bind(), execute(), FLUSH)
                client.reply(b"G")
                client.send(data, SYNC)
            else:
                client.send(query(sql))
                client.reply(b"G")
                client.send(data)
            assert client.reply().ok().tags == [f"COPY {len(lines)}"], kind
            if "block" in way:
                client.query("commit").ok()
            assert suspects(deep) == {}, kind
        deep.admin.wait_no_dirty()
    deep.assert_equal(settle=2)
    deep.admin.wait_clean()
    deep.assert_equal(settle=2)


WAY = {"simple": 1, "extended": 2, "block": 3, "extended block": 4}


@pytest.mark.short
def test_a_read_only_transaction_stays_one(deep):
    deep.source.sql("create function peek() returns bigint language sql volatile as $$ select count(*) from acc $$; "
                    "create view peeked as select peek() as n", deep.database, "app")
    deep.sql("create table told (id int primary key)")  # has the catalogue read again
    wait_until(lambda: deep.admin.tables().get("public.told", {}).get("mirroring") == "deep_capture", lambda: deep.admin.tables().get("public.told"), 20 * SLOW)
    with deep.wire() as client:
        for begin in ("begin read only", "begin isolation level serializable read only deferrable", "begin isolation level repeatable read read only"):
            client.query(begin).ok()
            assert client.query("select peek()").ok().texts() == [("200",)], begin
            assert client.extended("select * from peeked").ok().texts() == [("200",)], begin
            assert client.query("select 1").ok().tags == ["SELECT 1"], begin
            assert client.query("commit").ok().tags == ["COMMIT"], begin
        client.query("set default_transaction_read_only = on").ok()
        assert client.query("select n from peeked").ok().texts() == [("200",)]
    assert suspects(deep) == {}


@pytest.mark.short
def test_serializable_clients_get_no_failure_that_is_not_their_own(deep):
    """Transactions that touch nothing in common: with the source alone all of them commit."""
    failures, rounds = [], 15
    together = threading.Barrier(3)

    def work(number):
        with deep.wire() as client:
            client.query("set default_transaction_isolation = serializable").ok()
            for turn in range(rounds):
                k = 10000 + 1000 * number + turn
                together.wait(30 * SLOW)
                for sql in ("begin", f"do $$ begin insert into acc values ({k}, 's') ; end $$", "commit"):
                    reply = client.query(sql)
                    if sql.startswith("do"):
                        together.wait(30 * SLOW)
                    failures.extend(error["M"] for error in reply.errors)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    deep.admin.wait_clean()
    deep.assert_equal(settle=2)
    assert deep.target.sql("select count(*) from acc where id >= 10000", deep.database) == [(3 * rounds,)]
