"""psycopg 3: the extended protocol; binary cursors, server-side preparation, pipelines, COPY by blocks and rows, notifies(), async."""
import asyncio
import datetime
import decimal
import threading
import uuid

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from common import Printer, rows_text, statements

out = Printer()


def error_text(error):
    return f"{error.sqlstate} {str(error).strip()} {error.diag.constraint_name} {error.diag.table_name} {error.diag.statement_position}"


def check(name, work):
    out.check(name, work, (psycopg.Error,), error_text)


def told(cursor):
    rows = rows_text(cursor.fetchall()) if cursor.description else ""
    columns = [(c.name, c.type_code, c.internal_size) for c in cursor.description or [] if c.type_code < 10000]
    return f"{cursor.statusmessage} {cursor.rowcount} {columns} {rows}"


def run(connection, text, parameters=None, **options):
    return told(connection.execute(text, parameters, **options))


def common(connection):
    notices = []
    connection.add_notice_handler(lambda diag: notices.append((diag.severity, diag.sqlstate, diag.message_primary)))
    for number, (name, text) in enumerate(statements()):
        # In turn: the simple protocol, and a prepared statement (which refuses some of these).
        check(name, lambda text=text, number=number: run(connection, text, prepare=bool(number % 2)))
        if notices:
            out(name + " notices", notices)
            notices.clear()
    connection._notice_handlers.clear()


def parameters(connection):
    values = [1, -2**63, decimal.Decimal("1.10"), decimal.Decimal("NaN"), 1e300, float("inf"), "ünï 🌳", b"\0\xff", True, None, [1, None, 3], ["a", None],
              datetime.date(2024, 2, 29), datetime.datetime(2024, 1, 1, 12, tzinfo=datetime.timezone.utc), datetime.timedelta(days=1, seconds=5),
              uuid.UUID(int=5), Jsonb({"a": [1, None]})]
    for binary in (False, True):
        cursor = connection.cursor(binary=binary)
        for number, value in enumerate(values):
            for spot in ("%s", "%b", "%t"):
                check(f"value {number} {spot} {binary}", lambda s=spot, v=value, c=cursor: c.execute(f"select {s}", (v,)).fetchall())
        check(f"row {binary}", lambda c=cursor: told(c.execute("select id, name, doc, raw, tags, good, price from item where id < %s and id <> 3 order by id", (5,))))
        check(f"kinds {binary}", lambda c=cursor: told(c.execute("select id, i2, i8, num, r4, r8, t, vc, ch, by, d, ti, ts, tz, iv, u, j, jb, ia, ta, bo, net, ra from kinds order by id")))
        check(f"written {binary}", lambda c=cursor, b=binary: told(c.execute(
            "insert into item (id, name, price, doc, raw, tags) values (%s, %s, %s, %s, %s, %s) returning *",
            (300 + b, "n", decimal.Decimal("5.5"), Jsonb([1]), b"raw\0", ["t", None]))))
    check("names", lambda: run(connection, "update item set name = %(n)s where id = %(i)s returning id, name", {"n": "named", "i": 300}))
    check("too few", lambda: run(connection, "select %s, %s", (1,)))
    check("composed", lambda: run(connection, sql.SQL("select {} from {} where id = {}").format(sql.Identifier("name"), sql.Identifier("item"), 300)))
    check("a megabyte", lambda: run(connection, "update item set raw = %s where id = 300 returning md5(raw)", (bytes(range(256)) * 5000,)))
    check("wrong type", lambda: run(connection, "insert into item (id) values (%s)", ("not a number",)))


def preparing(connection):
    connection.prepare_threshold = 3
    for n in range(8):
        check(f"prepared {n}", lambda n=n: run(connection, "update item set price = %s where id = %s returning id, price", (n, 10 + n % 3)))
    check("many", lambda: told_many(connection))
    out("so many statements", run(connection, "select count(*) from pg_prepared_statements where name like '\\_pg3%'", prepare=False))
    check("change a table", lambda: run(connection, "create table changing (id int primary key, v text)"))
    for n in range(5):
        check(f"changing {n}", lambda n=n: run(connection, "insert into changing values (%s, %s) returning *", (n, "v")))
    check("altered", lambda: run(connection, "alter table changing add column w int default 1"))
    for n in range(5):
        check(f"changed {n}", lambda n=n: run(connection, "insert into changing values (%s, %s) returning *", (10 + n, "v")))
    check("changing dropped", lambda: run(connection, "drop table changing"))


def told_many(connection):
    with connection.cursor() as cursor:
        cursor.executemany("insert into item (id, name) values (%s, %s) returning id", [(n, f"many {n}") for n in range(400, 460)], returning=True)
        ids = []
        while True:
            ids.append(cursor.fetchone()[0])
            if not cursor.nextset():
                return cursor.rowcount, sum(ids)


def transactions(connection):
    with connection.transaction():
        run(connection, "insert into item (id, name) values (200, 'outer')")
        try:
            with connection.transaction():
                run(connection, "insert into item (id, name) values (201, 'inner')")
                run(connection, "insert into item (id, name) values (200, 'again')")
        except psycopg.errors.UniqueViolation as error:
            out("inner failed", error_text(error))
        with connection.transaction(savepoint_name="named"):
            run(connection, "insert into item (id, name) values (202, 'second')")
            out("status", connection.info.transaction_status)
    check("nested", lambda: run(connection, "select id, name from item where id between 200 and 209 order by id"))
    with connection.transaction(force_rollback=True):
        run(connection, "delete from item")
    check("forced back", lambda: run(connection, "select count(*) > 5 from item"))
    connection.autocommit = False
    connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    connection.deferrable = True
    check("serializable", lambda: run(connection, "select current_setting('transaction_isolation'), current_setting('transaction_deferrable')"))
    connection.rollback()
    connection.isolation_level = connection.deferrable = None
    check("error in a block", lambda: run(connection, "select 1/0"))
    check("after it", lambda: run(connection, "select 1"))
    connection.rollback()
    xid = connection.xid(1, "psycopg3", "b")
    connection.tpc_begin(xid)
    run(connection, "insert into item (id, name) values (210, 'two-phase')")
    connection.tpc_prepare()
    connection.tpc_commit()
    connection.tpc_begin(connection.xid(2, "psycopg3", "b"))
    run(connection, "insert into item (id, name) values (211, 'two-phase')")
    connection.tpc_rollback()
    connection.autocommit = True
    check("two-phase", lambda: run(connection, "select id from item where id in (210, 211)"))


def pipelines(connection):
    with connection.pipeline() as pipeline:
        cursors = [connection.execute("insert into item (id, name) values (%s, %s) returning id, name", (500 + n, f"pipe {n}")) for n in range(20)]
        reads = connection.execute("select count(*) from item where id >= 500")
        pipeline.sync()
        out("pipeline", [cursor.fetchone() for cursor in cursors][::5] + [reads.fetchone()])
    try:
        with connection.pipeline() as pipeline:
            connection.execute("update item set name = 'p' where id = 500 returning id")
            connection.execute("select 1/0")
            connection.execute("update item set name = 'q' where id = 501 returning id")
            pipeline.sync()
    except psycopg.Error as error:
        out("pipeline error", error_text(error))
    check("pipeline left", lambda: run(connection, "select id, name from item where id in (500, 501) order by id"))
    try:
        with connection.pipeline():
            with connection.transaction():
                connection.execute("insert into item (id, name) values (540, 'a')")
            with connection.transaction():
                connection.execute("insert into item (id, name) values (541, 'b')")
                connection.execute("insert into item (id, name) values (540, 'twice')")
    except psycopg.Error as error:
        out("pipelined transactions", error_text(error))
    check("of these", lambda: run(connection, "select id from item where id in (540, 541) order by id"))


def copies(connection):
    with connection.cursor() as cursor:
        cursor.execute("delete from pair")
        with cursor.copy("copy pair (a, b, v) from stdin") as copy:
            for n in range(500):
                copy.write_row((n, f"c{n}", None if n % 5 == 0 else n))
        out("copied", cursor.rowcount)
        with cursor.copy("copy pair (a, b, v) from stdin (format binary)") as copy:
            copy.set_types(["int4", "text", "int4"])
            for n in range(500, 600):
                copy.write_row((n, f"c{n}", n))
        out("copied in binary", cursor.rowcount)

        def failing():
            with cursor.copy("copy pair from stdin") as copy:
                copy.write("1\tx\t1\n")
                raise ValueError("given up")

        out.check("given up", failing, (ValueError, psycopg.Error))

        def duplicate():
            with cursor.copy("copy pair from stdin") as copy:
                copy.write("9001\tx\t1\n1\tc1\t1\n")

        check("duplicate", duplicate)

        def wrong():
            with cursor.copy("copy nowhere from stdin") as copy:
                copy.write("1\n")

        check("wrong", wrong)
        check("copy in a block", lambda: copy_in_block(connection, cursor))
        with cursor.copy("copy (select a, b, v from pair where a < 7 order by a) to stdout") as copy:
            out("rows", list(copy.rows()))
        with cursor.copy("copy (select a, b, v from pair where a < 7 order by a) to stdout (format binary)") as copy:
            copy.set_types(["int4", "text", "int4"])
            out("binary rows", list(copy.rows()))
        with cursor.copy("copy (select g, repeat('y', 1000) from generate_series(1, 3000) g) to stdout") as copy:
            out("long", sum(len(block) for block in copy))

        check("sum", lambda: run(connection, "select count(*), sum(a), sum(v) from pair"))


def copy_in_block(connection, cursor):
    with connection.transaction():
        cursor.execute("insert into item (id, name) values (600, 'before copy')")
        with cursor.copy("copy pair (a, b) from stdin") as copy:
            copy.write(b"7000\tblock\n")
        cursor.execute("update item set name = 'after copy' where id = 600 returning name")
        return cursor.fetchall()


def cursors(connection):
    with connection.transaction():
        with connection.cursor("server") as cursor:
            cursor.itersize = 9
            cursor.execute("select g, 'x' || g from generate_series(1, %s) g", (30,))
            out("server cursor", [cursor.fetchone(), cursor.fetchmany(4)[-1], sum(row[0] for row in cursor)])
        with connection.cursor("binary", binary=True, scrollable=True) as cursor:
            cursor.execute("select id, price from item where id < 5 order by id")
            cursor.fetchall()
            cursor.scroll(0, mode="absolute")
            out("scrolled", [list(map(str, row)) for row in cursor.fetchmany(2)])
    with connection.cursor("held", withhold=True) as cursor:
        cursor.execute("select id from item order by id")
        out("held", cursor.fetchmany(3))
    with connection.cursor() as cursor:
        out("stream", [row[0] for row in cursor.stream("select g from generate_series(1, 5) g")])
    check("several results", lambda: several(connection))


def several(connection):
    cursor = connection.execute("select 1; update item set name = 'several' where id = 1; select 'two', 3")
    found = [told(cursor)]
    while cursor.nextset():
        found.append(told(cursor))
    return found


def notified(connection, count):
    """psycopg 3.1's notifies() has no end of its own: another session tells it when."""
    found = []
    for notify in connection.notifies():
        found.append((notify.channel, notify.payload))
        if len(found) == count:
            return found
    return found


def rest(connection, other):
    connection.execute("listen psycopg3_a")
    other.execute("notify psycopg3_a, 'elsewhere'")
    other.execute("select pg_notify('psycopg3_a', 'by function')")
    out("notified", notified(connection, 2))
    connection.execute("unlisten psycopg3_a")
    timer = threading.Timer(0.3, connection.cancel)
    timer.start()
    check("cancelled", lambda: run(connection, "select pg_sleep(30)"))
    timer.join()
    check("after the cancel", lambda: run(connection, "select 1"))
    out("info", [connection.info.server_version // 10000, connection.info.encoding, connection.info.timezone, connection.info.user,
                 connection.info.parameter_status("standard_conforming_strings")])
    check("client encoding", lambda: run(connection, "set client_encoding to latin1"))
    out("encoding", connection.info.encoding)
    check("in latin1", lambda: run(connection, "select 'é' || %s", ("ü",)))
    check("client encoding back", lambda: run(connection, "reset client_encoding"))


async def asynchronous():
    async with await psycopg.AsyncConnection.connect("", autocommit=True) as connection:
        async def one(number):
            cursor = await connection.execute("insert into item (id, name) values (%s, %s) returning name", (700 + number, f"async {number}"))
            return (await cursor.fetchone())[0]

        out("async", await asyncio.gather(*(one(number) for number in range(5))))
        async with connection.pipeline():
            cursors = [await connection.execute("select %s::int", (number,)) for number in range(5)]
            out("async pipeline", [(await cursor.fetchone())[0] for cursor in cursors])


def main():
    connection, other = psycopg.connect("", autocommit=True), psycopg.connect("", autocommit=True)
    for stage in range(3):
        if stage:
            out.pause()
            check("carried setting", lambda: run(connection, "select current_setting('datestyle'), current_setting('my.carried')"))
            for n in range(3):
                check(f"carried statement {n}", lambda n=n: run(connection, "select name, price from item where id = %s", (10,), prepare=True))
                check(f"carried write {n}", lambda n=n: run(connection, "update item set price = %s where id = %s returning name", (n, 10), prepare=True))
            other.execute("notify psycopg3_b, 'across'")
            out("carried channel", notified(connection, 1))
            check("reset", lambda: run(connection, "reset datestyle"))
        common(connection)
        for part in (parameters, preparing, transactions, pipelines, copies, cursors):
            part(connection)
        rest(connection, other)
        asyncio.run(asynchronous())
        run(connection, "set datestyle = 'SQL, DMY'")
        run(connection, "set my.carried = 'kept'")
        run(connection, "listen psycopg3_b")
        run(connection, "select name, price from item where id = %s", (10,), prepare=True)
        run(connection, "update item set price = %s where id = %s returning name", (5, 10), prepare=True)
    connection.close()
    other.close()


main()
