"""Too few file descriptors, and too little memory: who is there works on, the journal holds, and the others come later."""
import contextlib
import resource
import socket
import subprocess

import psycopg2
import pytest

import kit
from kit import wait_until
from wire import Wire, fields_of, query, startup

SCHEMA = "create table t (id int primary key, v text)"


def memory_kb(process):
    status = open(f"/proc/{process.pid}/status", encoding="ascii").read()
    return int(status.split("VmSize:")[1].split()[0])


def start_limited(banyan, most):
    """Starts it where `most` files may be open."""
    banyan.write_config()
    command = f'ulimit -n {most}; exec "$0" --config "$1"'
    with open(banyan.directory / "banyan.log", "ab") as log:
        banyan.process = subprocess.Popen(["sh", "-c", command, kit.BINARY, banyan.config_file], stdout=log, stderr=log, start_new_session=True)
    banyan.wait_ready()


def test_a_session_that_needs_more_memory_than_there_is_ends_alone(migration):
    banyan = migration(SCHEMA)
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill()
    other = banyan.wire()
    other.query("begin; insert into t values (1, 'x')").ok()
    statement, row = banyan.wire(), banyan.wire()
    for number, client in enumerate((statement, row)):
        client.query(f"begin; insert into t values ({10 + number}, 'y')").ok()
    room = (memory_kb(banyan.process) << 10) + (100 << 20)
    resource.prlimit(banyan.process.pid, resource.RLIMIT_AS, (room, room))
    with contextlib.suppress(OSError):  # the connection is closed under what is being sent
        statement.send(query("select '" + "x" * (300 << 20) + "'"))
    with contextlib.suppress(OSError):
        statement.wait_closed(60 * kit.SLOW)
    assert banyan.log().count("out of memory: it is ended") == 1
    row.send(query("insert into t values (20, repeat('x', 300 << 20)) returning v"))
    assert [fields_of(body)["C"] for kind, body in row.wait_closed(60 * kit.SLOW) if kind == b"E"] == ["53200"]
    assert banyan.log().count("out of memory: it is ended") == 2
    assert banyan.process.poll() is None
    other.query("insert into t values (3, 'z'); commit").ok()
    other.socket.close()
    banyan.sql("insert into t values (4, 'a new session')")
    wait_until(lambda: banyan.source.sql("select id from t order by id", banyan.database) == [(1,), (3,), (4,)], "rolled back", 20 * kit.SLOW)
    banyan.settle_and_compare()


@pytest.mark.short
def test_a_flood_of_clients_with_few_descriptors_hurts_only_itself(migration):
    banyan = migration(SCHEMA)
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill()
    banyan.stop()
    start_limited(banyan, 64)
    assert "max_clients = 1000 can need" in banyan.log()
    settled = [banyan.wire() for _ in range(2)]
    for number, client in enumerate(settled):
        client.query(f"insert into t values ({number}, 'before')").ok()
    flood, refused = [], set()
    for _ in range(150):
        with contextlib.suppress(OSError):
            client = Wire(banyan.port, login=False, timeout=30 * kit.SLOW)
            client.send(startup({"user": "app", "database": banyan.database}))
            flood.append(client)
    for number, client in enumerate(settled):
        for each in range(20):
            client.query(f"insert into t values ({100 * (number + 1) + each}, 'meanwhile')").ok()
    for client in flood[-30:]:
        with contextlib.suppress(OSError):
            client.socket.shutdown(socket.SHUT_WR)  # who was let in must not wait
        refused |= {fields_of(body)["C"] for kind, body in client.wait_closed(30 * kit.SLOW) if kind == b"E"}
    assert refused == {"53300"}, refused
    assert banyan.admin.request("GET", "/livez")[0] == 200
    assert banyan.admin.get("/journal")["failed"] is False
    for client in flood:
        client.socket.close()

    def let_in():
        with contextlib.suppress(psycopg2.OperationalError):
            banyan.sql("insert into t values (1000, 'afterwards')")
            return True

    wait_until(let_in, "new clients get in", 30 * kit.SLOW)
    for client in settled:
        client.query("select 1").ok()
        client.socket.close()
    banyan.settle_and_compare()
    assert banyan.source.sql("select count(*) from t", banyan.database) == [(43,)]
