"""asyncpg: binary formats throughout, a cache of named statements, introspection, portals with row limits, binary COPY."""
import asyncio
import datetime
import decimal
import io
import os
import uuid

import asyncpg

from common import Printer, rows_text, statements

out = Printer()
ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


def error_text(error):
    if not isinstance(error, asyncpg.PostgresError):
        return str(error).splitlines()[0]
    return f"{error.sqlstate} {error} {error.constraint_name} {error.table_name} {error.position}"


async def check(name, work):
    try:
        out(name, await work)
    except ERRORS as error:
        out(name, f"{type(error).__name__} {error_text(error)}")


async def fetched(connection, sql, *parameters):
    rows = await connection.fetch(sql, *parameters)
    return rows_text([tuple(row.values()) for row in rows]) if rows else "no rows"


async def connect():
    return await asyncpg.connect(host=os.environ["PGHOST"], port=os.environ["PGPORT"], user=os.environ["PGUSER"], database=os.environ["PGDATABASE"])


async def common(connection):
    notices = []
    listener = lambda _, message: notices.append((message.severity, message.message))
    connection.add_log_listener(listener)
    for name, sql in statements():
        await check(name, fetched(connection, sql))
        await asyncio.sleep(0)
        if notices:
            out(name + " notices", notices)
            notices.clear()
    connection.remove_log_listener(listener)
    for name, sql in statements()[:60]:
        if sql:  # asyncpg itself stumbles over the answer to an empty query
            await check(name + ", simple", connection.execute(sql))


async def parameters(connection):
    values = [("int", 1), ("bigint", -2**63), ("numeric", decimal.Decimal("1.10")), ("numeric", decimal.Decimal("NaN")), ("float8", float("-inf")),
              ("text", "ünï 🌳"), ("bytea", b"\0\xff"), ("bool", True), ("int[]", [1, None, 3]), ("text[]", ["a,b", None]), ("date", datetime.date(2024, 2, 29)),
              ("timestamptz", datetime.datetime(2024, 1, 1, 12, tzinfo=datetime.timezone.utc)), ("interval", datetime.timedelta(days=1, seconds=5)),
              ("uuid", uuid.UUID(int=5)), ("jsonb", '{"a": [1]}'), ("json", "[1,  2]"), ("int4range", asyncpg.Range(1, 5)), ("bit(3)", asyncpg.BitString("101"))]
    for number, (kind, value) in enumerate(values):
        await check(f"value {number}", fetched(connection, f"select $1::{kind}, $1::{kind} is null", value))
        await check(f"null {number}", fetched(connection, f"select $1::{kind}", None))
    await check("kinds", fetched(connection, "select * from kinds order by id"))
    await check("composite", fetched(connection, "select i from item i where id < 4 order by id"))
    await check("written", fetched(connection, "insert into item (id, name, price, doc, raw, tags) values ($1, $2, $3, $4, $5, $6) returning *",
                                   300, "n", decimal.Decimal("5.5"), "[1]", b"raw\0", ["t", None]))
    await check("wrong type", fetched(connection, "insert into item (id) values ($1)", "text"))
    await check("too few", fetched(connection, "select $1::int, $2::int", 1))
    await check("a megabyte", fetched(connection, "update item set raw = $1 where id = 300 returning md5(raw), length(raw)", bytes(range(256)) * 5000))
    await check("many", connection.executemany("insert into item (id, name) values ($1, $2)", [(n, f"many {n}") for n in range(400, 600)]))
    await check("many with an error", connection.executemany("insert into item (id, name) values ($1, $2)", [(n, "x") for n in (700, 701, 400, 702)]))
    await check("many left", fetched(connection, "select count(*) from item where id between 400 and 800"))
    await check("row", connection.fetchrow("select 1 as a, 'b' as b"))
    await check("val", connection.fetchval("select 1 where false"))
    await check("status", connection.execute("update item set name = 'several' where id = 1; select 1; delete from item where id = -1"))


async def prepared(connection):
    statement = await connection.prepare("update item set price = $1 where id = $2 returning id, price")
    out("parameters", [(kind.name, kind.kind) for kind in statement.get_parameters()])
    out("attributes", [(attribute.name, attribute.type.name) for attribute in statement.get_attributes()])
    for number in range(4):
        await check(f"prepared {number}", statement.fetchval(number, 10 + number))
    out("prepared status", statement.get_statusmsg())
    await connection.execute("create table changing (id int primary key, v text)")
    await check("changing", fetched(connection, "insert into changing values ($1, $2) returning *", 1, "v"))
    await connection.execute("alter table changing add column w int default 1")
    await check("changed", fetched(connection, "insert into changing values ($1, $2) returning *", 2, "v"))
    await check("read", fetched(connection, "select * from changing order by id"))
    await connection.execute("alter table changing drop column w")
    await check("read again", fetched(connection, "select * from changing order by id"))
    await connection.execute("drop table changing")
    await check("explained", statement_of(connection))
    await connection.execute("create type mood as enum ('sad', 'happy'); create table feeling (id int primary key, m mood, ms mood[])")
    await check("enum", fetched(connection, "insert into feeling values (1, $1, $2) returning *", "sad", ["happy", None]))
    await connection.execute("drop table feeling; drop type mood")
    await connection.reload_schema_state()


async def statement_of(connection):
    statement = await connection.prepare("select $1::int + 1")
    return statement.get_query(), await statement.fetch(5)


async def cursors(connection):
    async with connection.transaction():
        rows = [row[0] async for row in connection.cursor("select g from generate_series(1, 100) g", prefetch=7)]
        out("cursor", [len(rows), sum(rows)])
        cursor = await connection.cursor("select g from generate_series(1, $1) g", 50)
        out("fetch", [await cursor.fetchrow(), len(await cursor.fetch(10)), await cursor.forward(20), await cursor.fetchrow()])
        writing = await connection.cursor("insert into item (id, name) select g, 'portal' from generate_series(800, 809) g returning id")
        out("portal of a write", [len(await writing.fetch(3)), len(await writing.fetch(20))])
    await check("without a transaction", connection.cursor("select 1"))
    await check("written", fetched(connection, "select count(*) from item where name = 'portal'"))


async def transactions(connection):
    for level in ("read_committed", "repeatable_read", "serializable"):
        async with connection.transaction(isolation=level, readonly=level != "read_committed"):
            await check(level, fetched(connection, "select current_setting('transaction_isolation'), current_setting('transaction_read_only')"))
            try:
                async with connection.transaction():
                    await connection.execute("insert into item (id) values (1)")
            except ERRORS as error:
                out(f"{level} error", error_text(error))
            await check(f"{level} goes on", fetched(connection, "select 1"))
    try:
        async with connection.transaction():
            await connection.execute("insert into item (id, name) values (200, 'x')")
            raise KeyError("own")
    except KeyError:
        await check("rolled back", fetched(connection, "select count(*) from item where id = 200"))


async def copies(connection):
    await connection.execute("delete from pair")
    await check("records", connection.copy_records_to_table("pair", records=[(n, f"c{n}", n) for n in range(1000)], columns=["a", "b", "v"]))
    await check("records again", connection.copy_records_to_table("pair", records=[(n, f"c{n}", n) for n in range(999, 1002)], columns=["a", "b", "v"]))
    await check("csv", connection.copy_to_table("pair", source=io.BytesIO(b"5000,a,1\n5001,b,\n"), format="csv"))
    await check("bad csv", connection.copy_to_table("pair", source=io.BytesIO(b"x,a,1\n"), format="csv"))

    async def failing():
        yield b"6000,a,1\n"
        raise ValueError("given up")

    try:
        await connection.copy_to_table("pair", source=failing(), format="csv")
    except (ValueError, *ERRORS) as error:
        out("given up", f"{type(error).__name__} {error}")
    target = io.BytesIO()
    await check("out", connection.copy_from_query("select a, b, v from pair where a < $1 order by a", 5, output=target, format="csv"))
    out("text", target.getvalue())
    target = io.BytesIO()
    await check("all out", connection.copy_from_table("pair", output=target, format="binary"))
    out("binary", len(target.getvalue()))
    await check("nowhere", connection.copy_from_table("nowhere", output=target))


async def notifications(connection, other, channel, payloads):
    heard, done = [], asyncio.Event()

    def listener(_, __, where, payload):
        heard.append((where, payload))
        if len(heard) == len(payloads):
            done.set()

    await connection.add_listener(channel, listener)
    for payload in payloads:
        await other.execute(f"notify {channel}, '{payload}'")
    await asyncio.wait_for(done.wait(), 20)
    out(f"heard on {channel}", heard)
    await connection.remove_listener(channel, listener)


async def rest(connection):
    await check("timeout", timeout(connection))
    await check("after the timeout", fetched(connection, "select 'fine'"))
    await check("settings", fetched(connection, "select current_setting('application_name'), current_setting('jit')"))
    out("server settings", connection.get_settings().client_encoding)
    await connection.reset()
    pool = await asyncpg.create_pool(host=os.environ["PGHOST"], port=os.environ["PGPORT"], user=os.environ["PGUSER"],
                                     database=os.environ["PGDATABASE"], min_size=2, max_size=3)

    async def one(number):
        async with pool.acquire() as pooled:
            return await pooled.fetchval("insert into item (id, name) values ($1, 'pool') returning id", 900 + number)

    out("pool", await asyncio.gather(*(one(number) for number in range(10))))
    await pool.close()


async def timeout(connection):
    try:
        await connection.execute("select pg_sleep(30)", timeout=0.3)
    except asyncio.TimeoutError:
        return "timed out"


async def main():
    connection, other = await connect(), await connect()
    heard = []
    kept = None
    for stage in range(3):
        if stage:
            await asyncio.get_running_loop().run_in_executor(None, out.pause)
            for number in range(3):
                await check(f"carried statement {number}", kept.fetch(10 + number))
            await check("carried from the cache", fetched(connection, "select id, price from item where id = $1", 10))
            await check("carried write", fetched(connection, "update item set price = $1 where id = $2 returning price", decimal.Decimal(4), 10))
            await other.execute("notify asyncpg_kept, 'across'")
            for _ in range(200):
                if heard:
                    break
                await asyncio.sleep(0.1)
            out("carried channel", heard)
            heard.clear()
        await common(connection)
        for part in (parameters, prepared, cursors, transactions, copies):
            await part(connection)
        await notifications(connection, other, "asyncpg_a", ["one", "two"])
        await rest(connection)
        await connection.add_listener("asyncpg_kept", lambda *told: heard.append(told[2:]))
        kept = await connection.prepare("update item set name = name || '+' where id = $1 returning id, name")
        await fetched(connection, "select id, price from item where id = $1", 10)
        await fetched(connection, "update item set price = $1 where id = $2 returning price", decimal.Decimal(3), 10)
    await connection.close()
    await other.close()


asyncio.run(main())
