"""Memory of a proxy per idle session.

The sessions' backends are a stand-in for PostgreSQL that logs in whoever comes: ten thousand real ones would
need some 20 GB. Banyan's own connections are handed on to a real server. Sockets' buffers are the kernel's, the same
for every proxy, and not counted.
"""
import asyncio
import contextlib
import multiprocessing
import resource
import struct
import time

import peers
from clusters import kit
from names import HAPROXY, INITIAL, PGBOUNCER
from processes import memory_kb
from wire import message, query, startup
from workloads import Measurement

READY = message(b"Z", b"I")
ROW = message(b"D", struct.pack("!HI", 1, 1000) + b"x" * 1000)
RESULT = (message(b"T", struct.pack("!H", 1) + b"v\0" + struct.pack("!IhIhih", 0, 0, 25, -1, -1, 0)) + ROW * 200
          + message(b"C", b"SELECT 200\0") + READY)
SETTINGS = b"".join(message(b"S", name + b"\0" + value + b"\0") for name, value in (
    (b"server_version", b"15.0"), (b"client_encoding", b"UTF8"), (b"TimeZone", b"UTC"), (b"integer_datetimes", b"on")))
# What a session does before it idles.
FRESH, USED = (), ("begin", "select v from t", "commit")


# --- the stand-in ---

async def read_startup(reader):
    size = struct.unpack("!I", await reader.readexactly(4))[0]
    return struct.pack("!I", size) + await reader.readexactly(size - 4)


async def pump(reader, writer):
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def stand_in(real_port):
    """Logs in the role "idle"; everybody else gets the real server."""
    numbers = iter(range(1, 1 << 30))

    async def serve(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            first = await read_startup(reader)
            if b"user\0idle\0" not in first:
                server_reader, server_writer = await asyncio.open_connection("127.0.0.1", real_port)
                server_writer.write(first)
                await asyncio.gather(pump(reader, server_writer), pump(server_reader, writer))
                return
            writer.write(message(b"R", struct.pack("!I", 0)) + SETTINGS + message(b"K", struct.pack("!II", next(numbers), 7)) + READY)
            while True:
                header = await reader.readexactly(5)
                body = await reader.readexactly(struct.unpack("!I", header[1:])[0] - 4)
                if header[:1] == b"X":
                    break
                if header[:1] == b"Q":
                    tag = body.split(b" ")[0].rstrip(b"\0").upper()
                    writer.write(RESULT if tag == b"SELECT" else message(b"C", tag + b"\0") + READY)
                elif header[:1] == b"S":
                    writer.write(READY)
        writer.close()

    return serve


def run_stand_in(real_port, answer):
    """In a process of its own: its descriptors count for themselves."""
    async def serve():
        server = await asyncio.start_server(stand_in(real_port), "127.0.0.1", 0, backlog=4096)
        answer.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


@contextlib.contextmanager
def stand_ins(clusters):
    """The ports of one before each cluster."""
    processes, ports = [], []
    try:
        for cluster in clusters:
            mine, theirs = multiprocessing.Pipe()
            processes.append(multiprocessing.Process(target=run_stand_in, args=(cluster.port, theirs), daemon=True))
            processes[-1].start()
            if not mine.poll(20):
                raise RuntimeError("the stand-in for PostgreSQL did not start")
            ports.append(mine.recv())
        yield ports
    finally:
        for process in processes:
            process.kill()


# --- the sessions ---

async def open_session(port, statements):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(startup({"user": "idle", "database": "idle", "application_name": "bench"}))
    for statement in (None, *statements):
        if statement:
            writer.write(query(statement))
        while True:
            header = await reader.readexactly(5)
            body = await reader.readexactly(struct.unpack("!I", header[1:])[0] - 4)
            if header[:1] == b"E":
                raise RuntimeError(f"refused: {body!r}")
            if header[:1] == b"Z":
                break
    return reader, writer


async def hold(port, pid, count, statements):
    """Opens the sessions; what the process holds before and with them."""
    before, began, sessions = memory_kb(pid), time.monotonic(), []
    while len(sessions) < count:
        sessions += await asyncio.gather(*(open_session(port, statements) for _ in range(min(100, count - len(sessions)))))
    took = time.monotonic() - began
    await asyncio.sleep(2)
    after = memory_kb(pid)
    for _, writer in sessions:
        writer.transport.abort()
    return {"sessions": count, "opened_seconds": took, "pss_before_kb": before["pss_kb"],
            **{f"{name}_per_session_kb": (after[f"{name}_kb"] - before[f"{name}_kb"]) / count for name in ("pss", "rss")}}


def session_count(wanted):
    """A proxy needs two descriptors for each."""
    return min(wanted, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200) // 2)


@contextlib.contextmanager
def banyan(lab, ports, count):
    it = kit.Banyan(lab.room / f"idle-banyan.{time.monotonic_ns()}", lab.servers.source, lab.servers.target, "idle", users=("idle",),
                    limits={"max_clients": count + 100}, proxy={"threads": 0})
    for side, port in zip(("source", "target"), ports):
        it.sections[side]["port"] = port
    try:
        it.start()
        time.sleep(1)
        yield it.port, it.process.pid
    finally:
        it.stop(60)


@contextlib.contextmanager
def peer(lab, make):
    it = make(lab.room / f"idle-peer.{time.monotonic_ns()}")
    try:
        it.wait_ready("idle")
        yield it.port, it.pid
    finally:
        it.close()


def idle(proxy, statements):
    def run(lab, _):
        lab.once("database idle", lambda: lab.servers.create("idle"))
        count = session_count(lab.sizes.idle_sessions)
        with stand_ins(lab.servers.both) as ports:
            opened = {INITIAL: lambda: banyan(lab, ports, count),
                      PGBOUNCER: lambda: peer(lab, lambda room: peers.PgBouncer(room, ports[0], count)),
                      HAPROXY: lambda: peer(lab, lambda room: peers.HAProxy(room, ports[0], count + 10))}[proxy]
            with opened() as (port, pid):
                return asyncio.run(hold(port, pid, count, statements))

    return run


def measurements():
    return [Measurement("idle", "10,000 idle sessions, each after a result of 200 kB",
                        {INITIAL: idle(INITIAL, USED), f"{INITIAL}, never used": idle(INITIAL, FRESH),
                         PGBOUNCER: idle(PGBOUNCER, USED), HAPROXY: idle(HAPROXY, USED)}, rounds=0)]
