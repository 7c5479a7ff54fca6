"""The fault relay itself (tests/support/fault_relay.py): each misbehaviour, seen from both ends."""
import contextlib
import pathlib
import socket
import sys
import threading
import time

import pytest

import kit
from wire import SYNC, Closed, Wire, bind, execute, parse, query

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from fault_relay import FaultRelay  # noqa: E402


class Echo:
    """A server that sends back what it gets; `ends` has how each connection ended."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.ends, self.got = [], b""
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.talk, args=(self.listener.accept()[0],), daemon=True).start()

    def talk(self, connection):
        try:
            while data := connection.recv(4096):
                self.got += data
                connection.sendall(data)
            self.ends.append("closed")
        except ConnectionResetError:
            self.ends.append("reset")
        connection.close()

    def ended(self):
        return kit.wait_until(lambda: self.ends, "the server's connection ends", 10)[0]


@pytest.fixture
def echo():
    server = Echo()
    yield server
    server.listener.close()


@pytest.fixture
def relay(echo):
    each = FaultRelay(echo.port)
    yield each
    each.close()


def dial(relay):
    connection = socket.create_connection(("127.0.0.1", relay.port), timeout=10)
    return connection


def receive(connection, size):
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        assert part, data
        data += part
    return data


def silent(connection, seconds=0.3):
    connection.settimeout(seconds)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    connection.settimeout(10)


def test_it_passes_and_an_end_is_an_end(relay, echo):
    with dial(relay) as client:
        client.sendall(b"x" * 300000)
        assert receive(client, 300000) == b"x" * 300000
    assert echo.ended() == "closed"


def test_reset_reaches_both_ends_and_later_connections_pass(relay, echo):
    client = dial(relay)
    client.sendall(b"hello")
    receive(client, 5)
    relay.reset_all()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert echo.ended() == "reset"
    with dial(relay) as again:
        again.sendall(b"more")
        assert receive(again, 4) == b"more"


@pytest.mark.parametrize("direction", ["to_server", "to_client"])
def test_a_reset_at_a_byte_lets_exactly_that_many_through(relay, echo, direction):
    client = dial(relay)
    client.sendall(b"hello")
    receive(client, 5)
    trigger = relay.arm("offset", direction, 7)
    client.sendall(b"0123456789")
    data = b""
    with pytest.raises(ConnectionResetError):
        while True:
            data += client.recv(100)
    assert trigger.fired.wait(5)
    if direction == "to_server":
        assert echo.ended() == "reset" and echo.got == b"hello0123456"
    else:
        assert data == b"0123456"


def test_refused_connections_and_back(relay):
    client = dial(relay)
    relay.refuse()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        dial(relay)
    relay.heal()
    with dial(relay) as again:
        again.sendall(b"x")
        assert receive(again, 1) == b"x"


def test_a_stall_holds_everything_and_loses_nothing(relay):
    client = dial(relay)
    relay.stall()
    client.sendall(b"late")
    silent(client)
    relay.heal()
    assert receive(client, 4) == b"late"


def test_a_stall_of_the_answers_alone(relay, echo):
    client = dial(relay)
    relay.stall("to_client")
    client.sendall(b"late")
    kit.wait_until(lambda: echo.got == b"late", "the server has it", 10)
    silent(client)
    relay.heal()
    assert receive(client, 4) == b"late"


def test_a_stall_of_the_connections_there_are_now(relay, echo):
    client = dial(relay)
    client.sendall(b"early")
    receive(client, 5)
    relay.stall_present("to_server")
    client.sendall(b"late")
    client.close()  # what a dead process has sent is on its way all the same
    with dial(relay) as other:
        other.sendall(b"x")
        assert receive(other, 1) == b"x"
    assert echo.got == b"earlyx"
    relay.heal()
    kit.wait_until(lambda: echo.got == b"earlyxlate", lambda: echo.got, 10)


def test_a_half_close_ends_one_direction(relay, echo):
    client = dial(relay)
    client.sendall(b"ping")
    receive(client, 4)
    relay.half_close("to_client")
    assert client.recv(1) == b""
    client.sendall(b"still heard")
    kit.wait_until(lambda: echo.got == b"pingstill heard", lambda: echo.got, 10)
    client.close()
    assert echo.ended() == "closed"


def test_a_drip_is_slow_and_whole(relay):
    client = dial(relay)
    relay.slow_drip(10, 0.05)
    began = time.monotonic()
    client.sendall(b"y" * 100)
    assert receive(client, 100) == b"y" * 100
    assert time.monotonic() - began > 0.4


# --- with a server's messages ---

@pytest.fixture
def database(source):
    source.create_database("relayed")
    source.sql("create table t (id int primary key)", "relayed", "app")
    relay = FaultRelay(source.port)
    yield source, relay
    try:
        relay.close()
    finally:
        source.drop_database("relayed")


def rows(cluster):
    return cluster.sql("select count(*) from t", "relayed")[0][0]


def gone(client):
    with pytest.raises((Closed, ConnectionResetError)):
        client.receive()


def say(client, way, number):
    """Begins the commit of an insert, without waiting for the answer."""
    if way == "block":
        client.query("begin").ok()
        client.query(f"insert into t values ({number})").ok()
        client.send(query("commit"))
    elif way == "simple":
        client.send(query(f"insert into t values ({number})"))
    else:
        client.send(parse("insert into t values ($1)"), bind([number]), execute(), SYNC)


@pytest.mark.parametrize("way", ["block", "simple", "extended"])
@pytest.mark.parametrize("kind", ["commit_sent", "commit_answer", "commit_held_back"])
def test_commits_are_cut_before_after_and_at_their_answer(database, way, kind):
    cluster, relay = database
    client = Wire(relay.port, database="relayed")
    client.query("select 1").ok()
    trigger = relay.arm(kind)
    say(client, way, 1)
    gone(client)
    assert trigger.fired.wait(5)
    if kind == "commit_held_back":
        kit.wait_until(lambda: cluster.sql("select count(*) from pg_stat_activity where datname = 'relayed' and usename = 'app'")[0][0] == 0,
                       "the backend ends", 10)
        assert rows(cluster) == 0
    else:
        kit.wait_until(lambda: rows(cluster) == 1, "committed all the same", 10)
    with Wire(relay.port, database="relayed") as other:  # fires once
        other.query("insert into t values (2)").ok()


def test_a_trigger_may_choose_by_application_name(database):
    _, relay = database
    trigger = relay.arm("commit_sent", match=lambda connection: connection.parameters.get("application_name") == "mine")
    with Wire(relay.port, database="relayed") as other:
        other.query("insert into t values (1)").ok()
    mine = Wire(relay.port, database="relayed", application_name="mine")
    mine.query("select 1").ok()
    assert not trigger.fired.is_set()
    say(mine, "simple", 2)
    gone(mine)
    assert trigger.fired.wait(5)
