"""COPY FROM STDIN goes to both sides, TRUNCATE runs on both: neither leaves a suspicion, and both sides are equal at once.

Nothing here waits for a verification unless it says so: what is compared is what the sessions wrote.
"""
import io
import random
import threading
import time
from contextlib import closing

import psycopg2
import pytest

import kit
from kit import Workers, wait_until
from wire import COPY_DONE, FLUSH, SYNC, bind, cancel, copy_data, copy_fail, execute, parse, query

SCHEMA = '''
create type mood as enum ('sad', 'ok', 'happy');
create domain short as varchar(20) check (length(value) < 15);
create table t (id int primary key, v text, n numeric(10,2) default 0, flag bool default true, word varchar(10) default 'none', note text);
create table uniq (id int primary key, code text unique);
create table typed (id int primary key, d date, at timestamptz, i interval, b bytea, f float8, j jsonb, a text[], m money, s short, x xml);
create table moody (id int primary key, m mood default 'ok', ms mood[]);
create table always_id (id bigint generated always as identity primary key, v text, twice int generated always as (length(v) * 2) stored);
create table part (id int, region text, v text default 'd', primary key (id, region)) partition by list (region);
create table part_eu partition of part for values in ('eu');
create table part_us partition of part for values in ('us');
create table "Odd ""Names""" ("Key Col" int primary key, "select" text, "ü" int);
create table child (id int primary key, t_id int references t);
create table dated (id int primary key, at timestamptz default now());
create table counted (id serial primary key, v text);
create function stamp() returns trigger language plpgsql as $$ begin new.v := clock_timestamp(); return new; end $$;
create table stamped (id int primary key, v text);
create trigger stamp before insert on stamped for each row execute function stamp();
create table keyless (v int);
'''
MIRRORED = SCHEMA.replace("create table keyless (v int);", "")
ROWS = "insert into t select g, 'seed', g from generate_series(1, 500) g; insert into uniq select g, 'c' || g from generate_series(1, 50) g;"


@pytest.fixture
def mirrored(migration):
    banyan = migration(MIRRORED, ROWS)
    return settled(banyan)


def settled(banyan):
    """In DUAL_WRITE, everything copied, nothing left over."""
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill(120 * kit.SLOW)
    banyan.admin.wait_clean()
    return banyan


def copy(connection, sql, data):
    with connection.cursor() as cursor:
        cursor.copy_expert(sql, io.BytesIO(data if isinstance(data, bytes) else data.encode()))
        return cursor.rowcount


def mirror_failures(banyan):
    return banyan.admin.metrics()['banyan_mirror_transactions_total{result="failed"}']


def assert_exact(banyan, failures=0):
    """The mirror took part in everything, nothing is left to repair or verify, and SQL finds both sides equal."""
    wait_until(lambda: banyan.admin.get("/journal")["in_flight"] == 0, "the mirror's commits are answered", 10 * kit.SLOW)
    journal = banyan.admin.get("/journal")
    assert (journal["dirty"], journal["suspect_tables"]) == (0, 0), journal
    assert mirror_failures(banyan) == failures, banyan.log()[-2000:]
    return banyan.assert_equal()


def opaque(banyan):
    """{reason: how many statements} of what was not mirrored."""
    return {name.split('reason="')[1].split('"')[0]: value for name, value in banyan.admin.metrics().items() if 'event="opaque"' in name}


BINARY = b"PGCOPY\n\xff\r\n\0" + bytes(8)
FORMATS = {
    "text": ("copy t (id, v, n, flag, word, note) from stdin", "{0}\tone\\ttab\\\\\t1.5\tt\tx\t\\N\n{1}\t\\N\t-0.5\tf\t\tlast\n"),
    "text, no column list": ("copy t from stdin", "{0}\tone\t1.5\tt\tx\ty\n\\.\n"),
    "text, options": ("copy t (v, id, flag, n, note) from stdin with (delimiter '|', null 'nix')", "a b|{0}|f|nix|nix\nnix|{1}|t|2|z\n"),
    "csv": ("copy t (id, v) from stdin with (format csv, header true)", 'id,v\n{0},"quoted, ""twice"""\n{1},\n'),
    "csv, legacy syntax": ("copy t (id, v) from stdin csv quote '''' escape '\\' null 'x'", "{0},'it\\'s'\n{1},x\n"),
    "csv, header match": ("copy t (id, v) from stdin with (format csv, header match)", "id,v\n{0},a\n{1},b\n"),
    "csv, forced": ("copy t (id, v, note) from stdin (format csv, force_not_null (v), force_null (note), null '')", '{0},,""\n{1},"",x\n'),
    "encoding": ("copy t (id, v) from stdin with (encoding 'latin1')", "{0}\tgr\xfc\xdfe\n{1}\t\xe9\n".encode("latin1")),
    "omitted columns": ("copy t (id) from stdin", "{0}\n{1}\n"),
    "dates and the like": ("copy typed from stdin", "{0}\t02/01/2024\t2024-02-01 12:00\t1 mon 2 days\t\\\\x00ff\tNaN\t{{\"a\": 1.0}}\t{{a,NULL,\"b c\"}}\t$1,234.50\tshort\t<a/>\n"),
    "enums": ("copy moody from stdin", "{0}\thappy\t{{sad,happy}}\n{1}\tsad\t\\N\n"),
    "enums, omitted": ("copy moody (id) from stdin", "{0}\n"),
    "identity": ("copy always_id (id, v) from stdin", "{0}\tone\n{1}\tthree\n"),
    "partitioned": ("copy part from stdin", "{0}\teu\tx\n{1}\tus\ty\n"),
    "partitioned, omitted": ("copy part (region, id) from stdin", "eu\t{0}\nus\t{1}\n"),
    "a partition by name": ("copy part_eu (id, region, v) from stdin", "{0}\teu\tx\n"),
    "awkward names": ('copy "Odd ""Names""" ("ü", "Key Col", "select") from stdin', "1\t{0}\ta\n\\N\t{1}\tb\n"),
    "foreign key": ("copy child from stdin", "{0}\t1\n{1}\t\\N\n"),
    "nothing": ("copy t from stdin", ""),
}


def filled(data, k):
    if isinstance(data, bytes):
        return data.replace(b"{0}", str(k).encode()).replace(b"{1}", str(k + 1).encode())
    return data.format(k, k + 1)


@pytest.mark.short
def test_every_format_and_option_in_both_protocols(mirrored):
    with closing(mirrored.connect()) as alone, closing(mirrored.connect(autocommit=False)) as block, mirrored.wire() as wire:
        for number, (name, (sql, data)) in enumerate(FORMATS.items()):
            k = 10_000 + 100 * number
            assert copy(alone, sql, filled(data, k)) >= 0, name
            copy(block, sql, filled(data, k + 10))
            block.commit()
            chunks = [filled(data, k + 20)]
            chunks = [chunk if isinstance(chunk, bytes) else chunk.encode() for chunk in chunks]
            wire.send(parse(sql), bind(), execute(), SYNC)
            assert wire.reply(until=b"G").errors == [], name
            for chunk in chunks:  # cut anywhere, with what the server swallows in between
                for at in range(0, len(chunk), 7):
                    wire.send(copy_data(chunk[at:at + 7]), FLUSH, SYNC)
            wire.send(COPY_DONE, SYNC)
            assert wire.reply().errors == [], name
            assert_exact(mirrored)
    assert opaque(mirrored) == {}


def test_binary(mirrored):
    def field(data):
        return b"\xff\xff\xff\xff" if data is None else len(data).to_bytes(4, "big") + data

    rows = [[(20_001).to_bytes(4, "big"), b"text", b"\1"], [(20_002).to_bytes(4, "big"), None, b"\0"]]
    data = BINARY + b"".join(len(row).to_bytes(2, "big") + b"".join(map(field, row)) for row in rows) + b"\xff\xff"
    with closing(mirrored.connect()) as connection:
        assert copy(connection, "copy t (id, v, flag) from stdin binary", data) == 2
        enum = BINARY + b"\0\2" + field((7).to_bytes(4, "big")) + field(b"happy") + b"\xff\xff"
        assert copy(connection, "copy moody (id, m) from stdin with (format binary)", enum) == 1
        assert_exact(mirrored)
        assert opaque(mirrored) == {}
        # An array's binary form holds its element type's OID, which is another one there.
        oid = mirrored.source.sql("select 'mood'::regtype::oid::int", mirrored.database)[0][0]
        array = b"\0\0\0\1\0\0\0\0" + oid.to_bytes(4, "big") + b"\0\0\0\1\0\0\0\1" + field(b"sad")
        copy(connection, "copy moody (id, ms) from stdin binary", BINARY + b"\0\2" + field((8).to_bytes(4, "big")) + field(array) + b"\xff\xff")
        assert opaque(mirrored) == {"copy_binary_type": 1}
    mirrored.settle_and_compare()


def test_what_does_not_follow_from_the_data_is_named_and_becomes_equal(migration):
    banyan = settled(migration(MIRRORED + "alter table uniq add own text;", ROWS))
    banyan.target.sql("alter table child add mine int default 7; alter table t alter note set default 'other'", banyan.database, "app")
    banyan.restart()
    for sql, data, reason in [
            ("copy dated (id) from stdin", "1\n2\n", "copy_default"),
            ("copy counted (v) from stdin", "a\nb\n", "copy_default"),
            ("copy t (id, v) from stdin", "20001\tx\n", "copy_default"),
            ("copy t from stdin where id > 20002", "20002\tx\t1\tt\tx\tx\n20003\tx\t1\tt\tx\tx\n", "copy_where"),
            ("copy child from stdin", "1\t1\n", "copy_columns"),
            ("copy part_eu from stdin", "1\teu\tx\n", "copy_into_partition"),
            ("copy stamped from stdin", "1\tx\n", "copy_with_triggers")]:
        before = opaque(banyan).get(reason, 0)
        with closing(banyan.connect()) as connection:
            copy(connection, sql, data)
        if reason != "copy_with_triggers":  # counted under all that a trigger may reach
            assert opaque(banyan).get(reason, 0) == before + 1, (sql, opaque(banyan))
    banyan.admin.wait_clean()
    assert banyan.source.sql("select count(*) from dated", banyan.database) == banyan.target.sql("select count(*) from dated", banyan.database) == [(2,)]
    banyan.assert_equal([table for table in banyan.admin.tables() if table != "public.child"])


def test_values_read_as_the_primary_reads_them(migration):
    """The two databases are configured to read dates, intervals and arrays differently; so may a session."""
    banyan = migration(MIRRORED, ROWS, start=False)
    banyan.source.sql(f"alter database {banyan.database} set datestyle = 'SQL, DMY'; alter database {banyan.database} set timezone = 'Asia/Tokyo';"
                      f"alter database {banyan.database} set array_nulls = off; alter database {banyan.database} set intervalstyle = 'sql_standard'")
    settled(banyan.start())
    data = "{}\t02/01/2024\t02/01/2024 12:00\t-1 2:03:04\t\\\\x00ff\t1\t{{}}\t{{a,NULL}}\t$1.50\tx\t<a/>\n"
    with closing(banyan.connect()) as connection, banyan.wire() as wire:
        copy(connection, "copy typed from stdin", data.format(1))
        connection.cursor().execute("set datestyle = 'ISO, MDY'; set timezone = 'UTC'; set client_encoding = 'latin1'")
        copy(connection, "copy typed from stdin", data.format(2))
        copy(connection, "copy t (id, v) from stdin", "20001\tgr\xfcn\n".encode("latin1"))
        wire.query("begin; insert into t (id, v) values (20002, 'x'); set local datestyle = 'ISO, YMD'").ok()
        wire.send(query("copy typed (id, d) from stdin"), copy_data(b"3\t24/02/01\n"), COPY_DONE)
        assert wire.reply().errors == []
        wire.query("insert into t (id, v) values (20003, 'y'); commit").ok()
    assert_exact(banyan)
    dates = banyan.target.sql("select d::text from typed order by id", banyan.database)
    assert dates == [("2024-01-02",), ("2024-02-01",), ("2024-02-01",)]


@pytest.mark.short
def test_several_copies_and_other_writes_in_one_transaction(mirrored):
    with closing(mirrored.connect(autocommit=False)) as connection:
        cursor = connection.cursor()
        cursor.execute("insert into t (id, v) values (1001, 'one')")
        copy(connection, "copy t (id, v) from stdin", "1002\ttwo\n1003\tthree\n")
        cursor.execute("update t set v = v || '!' where id between 1001 and 1003")
        cursor.execute("savepoint s")
        copy(connection, "copy uniq from stdin", "1001\ta\n")
        copy(connection, "copy t (id, v) from stdin", "1004\tgone\n")
        cursor.execute("rollback to savepoint s")
        copy(connection, "copy t (id, v) from stdin", "1004\tfour\n")
        cursor.execute("delete from t where id = 1002")
        connection.commit()
        copy(connection, "copy t (id, v) from stdin", "1005\tfive\n")
        connection.rollback()
    with mirrored.wire() as wire:
        # Two copies and an insert in one Query, and two in one pipeline.
        wire.send(query("copy t (id, v) from stdin; insert into t (id, v) values (1010, 'x'); copy uniq from stdin"),
                  copy_data(b"1011\ty\n"), COPY_DONE, copy_data(b"1010\tb\n"), COPY_DONE)
        reply = wire.reply()
        assert (reply.errors, reply.tags) == ([], ["COPY 1", "INSERT 0 1", "COPY 1"])
        wire.send(parse("copy t (id, v) from stdin"), bind(), execute(), copy_data(b"1020\tz\n"), COPY_DONE,
                  parse("insert into t (id, v) values (1021, 'p')"), bind(), execute(),
                  parse("copy uniq from stdin"), bind(), execute(), copy_data(b"1020\tc\n"), COPY_DONE, SYNC)
        reply = wire.reply()
        assert (reply.errors, reply.tags) == ([], ["COPY 1", "INSERT 0 1", "COPY 1"])
    rows = assert_exact(mirrored)
    assert rows["public.t"] == 500 + 3 + 2 + 2
    assert opaque(mirrored) == {}


@pytest.mark.short
def test_a_copy_that_fails_on_the_primary_leaves_nothing(mirrored):
    with mirrored.wire() as wire:
        for ending in [[copy_data(b"3001\tx\nbroken\t"), COPY_DONE], [copy_data(b"3001\tx\n1\tduplicate\n"), COPY_DONE], [copy_data(b"3001\tx\n"), copy_fail("no")],
                       [copy_data(b"3001\tx\n3001\ttwice\n")] + [copy_data(b"3002\tlate\n")] * 20000 + [COPY_DONE]]:
            wire.send(query("copy t (id, v) from stdin"), *ending)
            assert len(wire.reply().errors) == 1
            wire.send(parse("copy t (id, v) from stdin"), bind(), execute(), *ending, SYNC)
            assert len(wire.reply().errors) == 1
            assert wire.value("select count(*) from t") == "500"
            # In a block: the rest of it can go on behind a savepoint, on both sides.
            wire.query("begin; insert into t (id, v) values (3100, 'kept'); savepoint s").ok()
            wire.send(query("copy t (id, v) from stdin"), *ending)
            assert len(wire.reply().errors) == 1
            wire.query("rollback to savepoint s").ok()
            wire.send(query("copy t (id, v) from stdin"), copy_data(b"3101\tkept\n"), COPY_DONE)
            assert wire.reply().errors == []
            wire.query("commit").ok()
            assert_exact(mirrored)
            wire.query("delete from t where id in (3100, 3101)").ok()
            wire.query("begin").ok()
            wire.send(query("copy t (id, v) from stdin"), *ending)
            assert len(wire.reply().errors) == 1
            assert wire.query("commit").tags == ["ROLLBACK"]
            assert_exact(mirrored)


@pytest.mark.short
def test_an_error_of_the_mirror_is_not_the_clients(mirrored):
    mirrored.target.sql("insert into uniq values (9001, 'stands in the way')", mirrored.database, "app")
    with closing(mirrored.connect()) as connection:
        data = "".join(f"{k}\tx{k}\n" for k in range(8000, 30000))
        assert copy(connection, "copy uniq from stdin", data) == 22000
        assert mirror_failures(mirrored) == 1
        copy(connection, "copy t (id, v) from stdin", "4001\tafterwards\n")
    mirrored.settle_and_compare()
    assert mirrored.target.sql("select count(*) from uniq", mirrored.database) == [(22050,)]


def test_a_mirror_that_does_not_read_is_given_up_and_the_client_goes_on(migration, own_target):
    banyan = settled(migration(MIRRORED, ROWS, target=own_target, mirror={"commit_timeout_ms": 1000, "lock_timeout_ms": 500}))
    with closing(banyan.connect()) as connection:
        copy(connection, "copy t (id, v) from stdin", "5001\tx\n")
        own_target.freeze()
        data = "".join(f"{k}\t{'x' * 4000}\n" for k in range(6000, 14000))
        assert copy(connection, "copy t (id, v) from stdin", data) == 8000
        own_target.thaw()
    banyan.settle_and_compare()


def test_a_slow_mirror_holds_the_client_back_and_stays_exact(migration):
    """A lock on the mirror for less than the deadline: the copy data wait for it in the client, not in Banyan."""
    banyan = settled(migration(MIRRORED, ROWS, mirror={"commit_timeout_ms": 20000, "lock_timeout_ms": 15000}))
    locker = banyan.target.connect(banyan.database, autocommit=False)
    locker.cursor().execute("lock table t in share mode")
    data = "".join(f"{k}\t{'x' * 300}\n" for k in range(6000, 106000))
    done = threading.Event()

    def work():
        with closing(banyan.connect()) as connection:
            copy(connection, "copy t (id, v) from stdin", data)
        done.set()

    before = resident_bytes(banyan)
    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(1.5)
    assert not done.is_set()
    grown = resident_bytes(banyan) - before
    locker.rollback()
    locker.close()
    thread.join(60 * kit.SLOW)
    assert done.is_set()
    assert grown < 16 << 20, grown
    assert_exact(banyan)


def resident_bytes(banyan):
    with open(f"/proc/{banyan.process.pid}/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * 4096


def no_backend_left(banyan):
    for side in (banyan.source, banyan.target):
        wait_until(lambda side=side: side.sql("select count(*) from pg_stat_activity where datname = %s and usename = 'app'",
                                              parameters=(banyan.database,)) == [(0,)], "no backend is left", 20 * kit.SLOW)


@pytest.mark.short
def test_a_client_that_vanishes_in_its_copy_leaves_nothing(mirrored):
    for sends in [[query("copy t (id, v) from stdin")], [parse("copy t (id, v) from stdin"), bind(), execute(), SYNC]]:
        for politely in (True, False):
            wire = mirrored.wire()
            wire.send(*sends)
            wire.reply(until=b"G")
            # In the middle of a message, too.
            wire.send(copy_data(b"7001\tx\n"), b"" if politely else b"d\0\x0f\0\0some of it")
            if not politely:
                wire.socket.shutdown(2)
            wire.close()
            no_backend_left(mirrored)
            assert assert_exact(mirrored)["public.t"] == 500


def test_a_cancelled_copy(mirrored):
    with mirrored.wire() as wire:
        wire.send(query("copy t (id, v) from stdin"))
        wire.reply(until=b"G")
        wire.send(copy_data(b"7001\tx\n"))
        cancel(mirrored.port, wire.process_id, wire.secret)
        for k in range(7002, 7100):  # a server that waits for data looks at cancels when they come
            wire.send(copy_data(f"{k}\tx\n".encode()))
        assert [error["C"] for error in wire.reply().errors] == ["57014"]
        wire.send(copy_data(b"7002\tx\n"), COPY_DONE)
        assert wire.value("select count(*) from t") == "500"
    assert_exact(mirrored)


def test_killed_in_the_middle_of_copies(mirrored):
    stop = threading.Event()
    started = threading.Semaphore(0)

    def work(number):
        left = iter(range(100_000 * (number + 1), 100_000 * (number + 2), 500))  # what was begun is not begun again
        while not stop.is_set():
            try:
                with closing(mirrored.connect()) as connection:
                    for k in left:
                        copy(connection, "copy t (id, v) from stdin", "".join(f"{i}\tx\n" for i in range(k, k + 500)))
                        started.release()
                        connection.cursor().execute("delete from t where id between %s and %s", (k, k + 450))
            except psycopg2.Error:
                time.sleep(0.05)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        for _ in range(5):
            assert started.acquire(timeout=30 * kit.SLOW)
        time.sleep(random.Random(7).random() / 3)
        mirrored.kill9()
        mirrored.start()
    stop.set()
    for thread in threads:
        thread.join(60 * kit.SLOW)
    mirrored.settle_and_compare()


def copier(banyan, number, stop, sizes=(1, 20, 700), pause=0.0):
    """Copies rows, and updates and deletes some of them, one transaction after the other."""
    dice = random.Random(number)
    with closing(banyan.connect(autocommit=False)) as connection:
        k = 10_000_000 * (number + 1)
        while not stop.wait(pause):
            size = dice.choice(sizes)
            copy(connection, "copy t (id, v) from stdin", "".join(f"{i}\tx{i}\n" for i in range(k, k + size)))
            cursor = connection.cursor()
            cursor.execute("update t set v = v || '!' where id between %s and %s", (k, k + dice.randrange(size)))
            cursor.execute("delete from t where id between %s and %s", (k, k + dice.randrange(size)))
            if dice.random() < 0.1:
                connection.rollback()
            else:
                connection.commit()
            k += size


def test_beside_each_other_and_captured_writes_nothing_is_left_over(mirrored):
    with Workers(4, lambda number, stop: copier(mirrored, number, stop)) as _:
        time.sleep(4)
    assert_exact(mirrored)


def test_beside_a_running_backfill(migration):
    banyan = migration(MIRRORED, "insert into t select g, 'seed', g from generate_series(1, 10000) g",
                       backfill={"max_chunk_rows": 100, "chunk_time_ms": 10, "max_rows_per_second": 3000},
                       repair={"adaptive": False})  # the writers do not stop before the backfill has ended, which waits for repair

    def churn(number, stop):
        dice = random.Random(number)
        with closing(banyan.connect()) as connection:
            while not stop.wait(0.05):
                k = dice.randrange(1, 10000)
                connection.autocommit = False
                connection.cursor().execute("delete from t where id between %s and %s", (k, k + 20))
                copy(connection, "copy t (id, v) from stdin", "".join(f"{i}\tagain\n" for i in range(k, k + 11)))
                connection.commit()

    def truncating(number, stop):
        with closing(banyan.connect()) as connection:
            while not stop.wait(0.7):
                connection.cursor().execute("truncate uniq")
                copy(connection, "copy uniq from stdin", "".join(f"{i}\tx{i}\n" for i in range(200)))

    with Workers(2, lambda number, stop: copier(banyan, number, stop, (1, 20, 200), 0.05)), Workers(1, churn), Workers(1, truncating):
        time.sleep(0.5)
        banyan.lead_to("DUAL_WRITE")
        banyan.admin.wait_backfill(100 * kit.SLOW)
    banyan.settle_and_compare()


def test_through_the_phases_and_back(migration):
    banyan = settled(migration(MIRRORED, ROWS))
    with Workers(2, lambda number, stop: copier(banyan, number, stop)):
        banyan.admin.transition("DUAL_READ")
        banyan.feed_shadow_reads()
        for phase in ("SWITCHOVER", "DUAL_READ", "SWITCHOVER"):
            wait_until(lambda phase=phase: all(gate["verdict"] == "pass" for gate in banyan.admin.gates(phase)) or banyan.feed_shadow_reads(),
                       lambda phase=phase: banyan.admin.gates(phase), 40 * kit.SLOW)
            banyan.admin.transition(phase, seconds=60 * kit.SLOW)
            time.sleep(1)
    assert_exact(banyan, mirror_failures(banyan))
    assert opaque(banyan) == {}


def test_a_prepared_transaction_with_a_copy(mirrored):
    with mirrored.wire() as wire:
        wire.query("begin").ok()
        wire.send(query("copy t (id, v) from stdin"), copy_data(b"8001\tx\n"), COPY_DONE)
        assert wire.reply().errors == []
        wire.query("prepare transaction 'with a copy'").ok()
        wire.query("commit prepared 'with a copy'").ok()
    mirrored.settle_and_compare()


@pytest.mark.short
def test_truncate_runs_on_both_sides_and_leaves_nothing(mirrored):
    with closing(mirrored.connect()) as connection:
        cursor = connection.cursor()
        copy(connection, "copy child from stdin", "1\t1\n")
        cursor.execute("insert into counted (v) values ('a'), ('b')")
        cursor.execute("insert into part values (1, 'eu', 'x'), (2, 'us', 'y')")
        for sql in ["truncate uniq", "truncate table only uniq", "truncate t, child", "truncate counted restart identity", "truncate part"]:
            cursor.execute(sql)
            rows = assert_exact(mirrored)
        assert {rows[f"public.{table}"] for table in ("uniq", "t", "child", "counted", "part")} == {0}
        cursor.execute("insert into counted (v) values ('c') returning id")
        assert cursor.fetchone() == (1,)
        connection.autocommit = False
        copy(connection, "copy uniq from stdin", "1\ta\n2\tb\n")
        cursor.execute("truncate uniq")
        copy(connection, "copy uniq from stdin with (freeze)", "3\tc\n")
        cursor.execute("do $$ begin insert into t (id, v) values (1, 'hidden'); end $$")
        cursor.execute("savepoint s")
        cursor.execute("truncate uniq")
        cursor.execute("rollback to savepoint s")
        connection.commit()
        cursor.execute("truncate uniq")
        connection.rollback()
        assert opaque(mirrored).keys() == {"do"} | {reason for reason in opaque(mirrored) if reason == ""}
        mirrored.admin.wait_clean()
        assert mirrored.assert_equal()["public.uniq"] == 1
        with pytest.raises(psycopg2.Error):
            cursor.execute("truncate t")
        connection.rollback()
        assert_exact(mirrored)
        for sql, reason in [("truncate t cascade", "truncate_cascade"), ("truncate part_eu", "truncate_partition"), ("truncate stamped", "truncate_with_triggers")]:
            before = opaque(mirrored).get(reason, 0)
            cursor.execute(sql)
            connection.commit()
            assert opaque(mirrored).get(reason, 0) == before + 1, (sql, opaque(mirrored))
    mirrored.settle_and_compare()


def test_a_truncate_that_fails_on_the_mirror_makes_its_table_suspect(mirrored):
    mirrored.target.sql("create table referring (id int references uniq)", mirrored.database, "app")
    mirrored.sql("truncate uniq")
    assert mirror_failures(mirrored) == 1
    mirrored.settle_and_compare()
    assert mirrored.target.sql("select count(*) from uniq", mirrored.database) == [(0,)]
