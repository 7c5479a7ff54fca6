"""psycopg2: the simple protocol alone; named cursors, COPY, notices, notifications, large objects, two-phase commit, cancel."""
import io
import select
import threading
import time

import psycopg2
import psycopg2.extras
import psycopg2.extensions
from psycopg2 import sql

from common import Printer, rows_text, statements

out = Printer()


def error_text(error):
    return f"{error.pgcode} {str(error).strip()} {error.diag.constraint_name} {error.diag.table_name} {error.diag.statement_position}"


def check(name, work):
    out.check(name, work, (psycopg2.Error,), error_text)


def run(connection, text, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(text, parameters)
        rows = rows_text(cursor.fetchall()) if cursor.description else ""
        columns = [(c.name, c.type_code) for c in cursor.description or [] if c.type_code < 10000]
        return f"{cursor.statusmessage} {cursor.rowcount} {columns} {rows}"


def common(connection):
    connection.autocommit = True
    for name, text in statements():
        check(name, lambda text=text: run(connection, text))
        if connection.notices:
            out(name + " notices", [notice.strip() for notice in connection.notices])
            connection.notices.clear()


def transactions(connection):
    connection.autocommit = False
    check("in a block", lambda: run(connection, "insert into item (id, name) values (200, 'block')"))
    check("error in a block", lambda: run(connection, "insert into item (id) values (200)"))
    check("after an error", lambda: run(connection, "select 1"))
    out("status in error", connection.get_transaction_status())
    connection.rollback()
    check("rolled back", lambda: run(connection, "select count(*) from item where id = 200"))
    connection.rollback()
    check("savepoint", lambda: run(connection, "insert into item (id, name) values (201, 'kept'); savepoint a; insert into item (id) values (202)"))
    check("error behind a savepoint", lambda: run(connection, "insert into item (id) values (202)"))
    check("to the savepoint", lambda: run(connection, "rollback to savepoint a"))
    connection.commit()
    check("kept", lambda: run(connection, "select id, name from item where id between 200 and 209"))
    connection.rollback()
    for level in ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"):
        connection.set_session(isolation_level=level)
        check(f"isolation {level}", lambda: run(connection, "show transaction_isolation"))
        connection.commit()
    connection.set_session(readonly=True)
    check("read only", lambda: run(connection, "insert into item (id) values (203)"))
    connection.rollback()
    connection.set_session(isolation_level="DEFAULT", readonly=False, deferrable=False)
    check("deferred constraint", lambda: run(connection, "set constraints all deferred; insert into child values (9, 99, 'orphan')"))
    out.check("deferred until commit", connection.commit, (psycopg2.Error,), error_text)
    connection.rollback()
    try:
        with connection:
            run(connection, "insert into item (id) values (204)")
            raise KeyError("application's own")
    except KeyError:
        check("with block", lambda: run(connection, "select count(*) from item where id = 204"))
    connection.rollback()


def cursors(connection):
    connection.autocommit = False
    with connection.cursor("named") as cursor:
        cursor.itersize = 7
        cursor.execute("select g, 'x' || g from generate_series(1, 20) g")
        out("named cursor", [cursor.fetchone(), cursor.fetchmany(3), sum(row[0] for row in cursor)])
    with connection.cursor("scrolled", scrollable=True) as cursor:
        cursor.execute("select g from generate_series(1, 10) g")
        cursor.fetchmany(5)
        cursor.scroll(-3)
        out("scrolled", cursor.fetchone())
        check("scrolled too far", lambda: cursor.scroll(100, mode="absolute"))
        out("past the end", cursor.fetchone())
    connection.commit()
    with connection.cursor("held", withhold=True) as cursor:
        cursor.execute("select id from item order by id")
        connection.commit()
        out("with hold", cursor.fetchmany(4))
    connection.commit()
    with connection.cursor() as cursor:
        cursor.execute("declare c cursor for select id from item where id < 5 order by id for update")
        cursor.execute("fetch 2 from c")
        out("fetched", cursor.fetchall())
        cursor.execute("update item set name = 'where current' where current of c returning id")
        out("where current of", cursor.fetchall())
        cursor.execute("move forward all in c")
        out("moved", cursor.statusmessage)
        cursor.execute("close c")
    connection.commit()


def copies(connection):
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("delete from pair")
        cursor.copy_from(io.StringIO("".join(f"{n}\tc{n}\t{n * n}\n" for n in range(1000))), "pair", columns=("a", "b", "v"))
        out("copied in", cursor.rowcount)
        check("copy with a duplicate", lambda: cursor.copy_expert("copy pair from stdin (format csv)", io.StringIO("5000,a,1\n5,c5,1\n")))
        check("copy with bad input", lambda: cursor.copy_expert("copy pair from stdin", io.StringIO("not\ta\tnumber\n")))
        check("copy into nothing", lambda: cursor.copy_expert("copy nowhere from stdin", io.StringIO("1\n")))

        class Failing(io.StringIO):
            def read(self, size=-1):
                raise ValueError("no more data")

        check("copy that the client gives up", lambda: cursor.copy_expert("copy pair from stdin", Failing()))
        buffer = io.StringIO()
        cursor.copy_expert("copy (select a, b, v from pair where a < 5 order by a) to stdout (format csv, header)", buffer)
        out("copied out", buffer.getvalue())
        buffer = io.BytesIO()
        cursor.copy_expert("copy (select g, repeat('x', 100) from generate_series(1, 20000) g) to stdout (format binary)", buffer)
        out("copied out in binary", len(buffer.getvalue()))
        check("copy out with an error", lambda: cursor.copy_expert("copy (select 1 / (5 - g) from generate_series(1, 9) g) to stdout", io.StringIO()))
        check("after it", lambda: run(connection, "select count(*) from pair"))


def notifications(connection, other):
    connection.autocommit = True
    for statement in ("listen psycopg2_a", "notify psycopg2_a, 'own'"):
        run(connection, statement)
    run(other, "notify psycopg2_a, 'from elsewhere'")
    wait_notified(connection, 2, "notified")


def wait_notified(connection, count, name):
    deadline = time.monotonic() + 20
    while len(connection.notifies) < count and time.monotonic() < deadline:
        if select.select([connection], [], [], 1)[0]:
            connection.poll()
    out(name, sorted((notify.channel, notify.payload) for notify in connection.notifies))
    connection.notifies.clear()


def special(connection, other):
    connection.autocommit = True
    check("several statements", lambda: run(connection, "insert into item (id) values (210); insert into item (id) values (211); select 2"))
    check("several with an error", lambda: run(connection, "insert into item (id) values (212); select 1/0; insert into item (id) values (213)"))
    check("none of them", lambda: run(connection, "select count(*) from item where id in (212, 213)"))
    check("execute_values", lambda: execute_values(connection))
    check("execute_batch", lambda: execute_batch(connection))
    check("composed", lambda: run(connection, sql.SQL("select {} from {} where {} = %s").format(
        *map(sql.Identifier, ("name", "item", "id"))), (300,)))
    check("adapted", lambda: run(connection, "select %s, %s, %s, %s, %s::jsonb, %s", (
        1.5, [1, None, 2], b"\0\xff", "quo'te\\", psycopg2.extras.Json({"a": [1]}), True)))
    check("a megabyte of parameter", lambda: run(connection, "update item set raw = %s where id = 300 returning md5(raw)", (b"\x00\x01" * 700000,)))
    check("a nul byte", lambda: run(connection, "select chr(0)"))
    with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
        cursor.execute("select id, name from item where id = 300")
        out("as dict", cursor.fetchall())
    with connection.cursor() as cursor:
        cursor.callproc("shout", ("called",))
        out("callproc", cursor.fetchall())
    connection.notices.clear()
    out("parameters", [connection.get_parameter_status(name) for name in (
        "client_encoding", "DateStyle", "integer_datetimes", "is_superuser", "server_encoding", "session_authorization",
        "standard_conforming_strings", "TimeZone")] + [connection.server_version // 10000])
    check("set client encoding", lambda: (connection.set_client_encoding("LATIN1"), run(connection, "select 'é'"), connection.encoding))
    connection.set_client_encoding("UTF8")
    connection.autocommit = False
    large = connection.lobject(0, "wb")
    large.write(b"large object " * 10000)
    large.close()
    again = connection.lobject(large.oid, "rb")
    again.seek(6)
    out("large object", [again.read(6), again.tell()])
    again.unlink()
    connection.commit()
    connection.tpc_begin(connection.xid(1, "psycopg2", "b"))
    run(connection, "insert into item (id, name) values (220, 'two-phase')")
    connection.tpc_prepare()
    out("prepared", [row for row in other_recover(other)])
    connection.tpc_commit()
    connection.tpc_begin(connection.xid(2, "psycopg2", "b"))
    run(connection, "insert into item (id, name) values (221, 'two-phase')")
    connection.tpc_prepare()
    connection.tpc_rollback()
    check("two-phase", lambda: run(connection, "select id, name from item where id in (220, 221)"))
    connection.rollback()
    timer = threading.Timer(0.3, connection.cancel)
    timer.start()
    check("cancelled", lambda: run(connection, "select pg_sleep(30)"))
    timer.join()
    connection.rollback()
    check("after the cancel", lambda: run(connection, "select 'fine'"))
    run(connection, "set local statement_timeout = 100")
    check("statement timeout", lambda: run(connection, "select pg_sleep(30)"))
    connection.rollback()
    connection.reset()
    check("after a reset", lambda: run(connection, "show statement_timeout"))
    connection.rollback()


def other_recover(other):
    other.autocommit = True
    with other.cursor() as cursor:
        cursor.execute("select gid from pg_prepared_xacts where owner = current_user and database = current_database()")
        return [len(row) for row in cursor.fetchall()]


def execute_values(connection):
    with connection.cursor() as cursor:
        return psycopg2.extras.execute_values(cursor, "insert into item (id, name) values %s returning id",
                                              [(n, f"values {n}") for n in range(300, 450)], page_size=40, fetch=True)[::30]


def execute_batch(connection):
    with connection.cursor() as cursor:
        psycopg2.extras.execute_batch(cursor, "update item set price = %s where id = %s", [(n, n) for n in range(300, 450)], page_size=50)
    return run(connection, "select sum(price) from item where id between 300 and 449")


def carried(connection):
    """What was left in the session before the pause."""
    connection.autocommit = True
    check("carried prepared", lambda: run(connection, "execute carried(4)"))
    check("carried setting", lambda: run(connection, "select current_setting('my.carried'), current_setting('datestyle')"))
    check("carried path", lambda: run(connection, "select count(*) > 0 from item"))


def main():
    connection, other = psycopg2.connect(""), psycopg2.connect("")
    other.autocommit = True
    for stage in range(3):
        if stage:
            out.pause()
            carried(connection)
            run(other, "notify psycopg2_b, 'across'")
            wait_notified(connection, 1, "notified across the pause")
        for part in (common, transactions, cursors, copies):
            part(connection)
        notifications(connection, other)
        special(connection, other)
        connection.autocommit = True
        run(connection, "deallocate all; listen psycopg2_b")
        run(connection, "prepare carried(int) as update item set good = not good where id = $1 returning id")
        run(connection, "set my.carried = 'kept'; set datestyle = 'German'")
    connection.close()
    other.close()


main()
