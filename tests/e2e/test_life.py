"""How Banyan ends and is replaced: SIGTERM drains, another process takes over without refusing anybody, whoever dies on the way."""
import contextlib
import signal
import socket
import subprocess
import threading
import time

import psycopg2
import pytest

import kit
from kit import wait_until
from wire import fields_of

SCHEMA = "create table t (id int primary key, v text)"


def said(client):
    """The SQLSTATEs that a client's connection ends with."""
    return [fields_of(body)["C"] for kind, body in client.wait_closed(30 * kit.SLOW) if kind == b"E"]


def refused(banyan):
    try:
        socket.create_connection(("127.0.0.1", banyan.port), 5).close()
        return False
    except ConnectionRefusedError:
        return True


def draining(banyan):
    wait_until(lambda: banyan.admin.status()["state"] == "draining", "draining", 20 * kit.SLOW)


def mirroring(migration, **sections):
    banyan = migration(SCHEMA, **sections)
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill()
    return banyan


# --- SIGTERM ---

@pytest.mark.short
def test_sigterm_lets_transactions_end_and_tells_everybody(migration):
    banyan = mirroring(migration)
    idle, busy = banyan.wire(), banyan.wire()
    idle.query("select 1").ok()
    busy.query("begin; insert into t values (1, 'x')").ok()
    banyan.process.send_signal(signal.SIGTERM)
    assert said(idle) == ["57P01"]
    wait_until(lambda: refused(banyan), "nobody is let in", 10 * kit.SLOW)
    assert banyan.admin.request("GET", "/livez")[0] == 200
    assert banyan.admin.request("GET", "/readyz")[0] == 503
    status = banyan.admin.status()
    assert (status["state"], status["sessions"]["total"]) == ("draining", 1)
    with pytest.raises(kit.AdminError):
        banyan.admin.transition("INITIAL")
    busy.query("insert into t values (2, 'y')").ok()
    busy.query("commit").ok()
    assert said(busy) == ["57P01"]
    assert banyan.process.wait(20 * kit.SLOW) == 0
    assert banyan.source.sql("select count(*) from t", banyan.database) == [(2,)]
    # The mirror's commit was waited for, and no entry is left in the journal.
    assert banyan.target.sql("select count(*) from t", banyan.database) == [(2,)]
    banyan.start()
    assert banyan.admin.dirty() == 0
    banyan.settle_and_compare()


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGQUIT], [signal.SIGINT, signal.SIGINT]], ids=["deadline", "SIGQUIT", "two SIGINTs"])
def test_what_does_not_end_in_time_is_rolled_back(migration, signals):
    banyan = mirroring(migration, shutdown={"drain_timeout_ms": 300 if signals == [signal.SIGTERM] else 3_600_000})
    busy = banyan.wire()
    busy.query("begin; insert into t values (1, 'x')").ok()
    for each in signals:
        banyan.process.send_signal(each)
        time.sleep(0.2)
    assert said(busy) == ["57P01"]
    assert banyan.process.wait(30 * kit.SLOW) == 0
    assert banyan.source.sql("select count(*) from t", banyan.database) == [(0,)]
    banyan.start()
    banyan.settle_and_compare()


def test_a_load_balancer_is_given_time_to_look_away(migration):
    banyan = migration(SCHEMA, shutdown={"ready_delay_ms": int(1500 * kit.SLOW)})
    banyan.process.send_signal(signal.SIGTERM)
    wait_until(lambda: banyan.admin.request("GET", "/readyz")[0] == 503, "not ready", 10 * kit.SLOW)
    banyan.sql("insert into t values (1, 'still served')")
    assert banyan.process.wait(30 * kit.SLOW) == 0


# --- taking over ---

class Clients:
    """Some that connect for each transaction, and some that stay. What fails is kept."""

    def __init__(self, banyan):
        self.banyan = banyan
        self.lock = threading.Lock()
        self.acknowledged = []
        self.failed_connects, self.failed_transactions = [], []
        self.connects = self.ended_between = 0

    def connect(self):
        try:
            connection = self.banyan.connect(autocommit=False)
        except psycopg2.OperationalError as error:
            with self.lock:
                self.failed_connects.append(str(error))
            return None
        with self.lock:
            self.connects += 1
        return connection

    def transaction(self, connection, number):
        """True if the connection can be used again."""
        begun = False
        try:
            with connection.cursor() as cursor:
                cursor.execute("select 1")  # psycopg2 sends BEGIN with it
                begun = True
                cursor.execute("insert into t values (%s, 'a')", (number,))
                time.sleep(0.01)
                cursor.execute("update t set v = 'b' where id = %s", (number,))
            connection.commit()
        except psycopg2.OperationalError as error:
            with self.lock:
                if begun:
                    self.failed_transactions.append(str(error))
                else:
                    self.ended_between += 1
            return False
        with self.lock:
            self.acknowledged.append(number)
        return True

    def work(self, worker, stop):
        stays = worker % 2 == 0
        connection, number = None, worker * 1_000_000
        while not stop.is_set():
            connection = connection or self.connect()
            if connection is None:
                continue
            number += 1
            usable = self.transaction(connection, number)
            if not (usable and stays):
                connection.close()
                connection = None
            time.sleep(0.005)
        if connection:
            connection.close()


def take_over(banyan):
    """Another process takes this one's place, which ends by itself."""
    before, banyan.process = banyan.process, banyan.spawn("--take-over")
    assert before.wait(60 * kit.SLOW) == 0
    banyan.wait_ready()
    owner = int((banyan.directory / "state" / "banyan.lock").read_text().split()[0])
    assert owner == banyan.process.pid


def test_five_processes_take_over_from_one_another_and_no_client_is_refused(migration):
    banyan = mirroring(migration)
    clients = Clients(banyan)
    with kit.Workers(6, clients.work):
        for _ in range(5):
            seen = len(clients.acknowledged)
            wait_until(lambda before=seen: len(clients.acknowledged) > before + 20, "transactions", 60 * kit.SLOW)
            take_over(banyan)
            assert banyan.admin.phase() == "DUAL_WRITE"
    assert clients.failed_connects == []
    assert clients.failed_transactions == []
    assert clients.connects > 20
    counted = banyan.source.sql("select count(*) from t where v = 'b'", banyan.database)
    assert counted == [(len(set(clients.acknowledged)),)]
    banyan.settle_and_compare()


def asks(banyan):
    """A newcomer, as soon as it has the sockets; the owner waits for a transaction."""
    newcomer = banyan.spawn("--take-over")
    draining(banyan)
    return newcomer


@pytest.mark.short
def test_a_newcomer_that_dies_leaves_everything_to_the_owner(migration):
    banyan = mirroring(migration)
    idle, busy = banyan.wire(), banyan.wire()
    idle.query("select 1").ok()
    busy.query("begin; insert into t values (1, 'x')").ok()
    newcomer = asks(banyan)
    assert said(idle) == ["57P01"]
    newcomer.kill()
    newcomer.wait()
    wait_until(lambda: banyan.admin.request("GET", "/readyz")[0] == 200, "ready again", 20 * kit.SLOW)
    banyan.sql("insert into t values (2, 'new client')")
    busy.query("commit").ok()
    busy.query("insert into t values (3, 'same session')").ok()
    busy.socket.close()
    take_over(banyan)  # the next one may
    banyan.settle_and_compare()
    assert banyan.source.sql("select count(*) from t", banyan.database) == [(3,)]


@pytest.mark.short
def test_an_owner_that_dies_while_it_drains_is_replaced_at_once(migration):
    banyan = mirroring(migration)
    busy = banyan.wire()
    busy.query("insert into t values (1, 'x')").ok()
    busy.query("begin; insert into t values (2, 'lost with its session')").ok()
    newcomer = asks(banyan)
    waiting = []

    def connect():
        with contextlib.closing(banyan.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("insert into t values (3, 'waited in the backlog')")
            waiting.append(connection.info.backend_pid)

    patient = threading.Thread(target=connect)
    patient.start()
    banyan.kill9()
    banyan.process = newcomer
    patient.join(30 * kit.SLOW)
    assert waiting
    banyan.wait_ready()
    banyan.settle_and_compare()
    assert banyan.source.sql("select id from t order by id", banyan.database) == [(1,), (3,)]


def test_a_newcomer_that_cannot_start_changes_nothing(migration):
    banyan = mirroring(migration)
    with banyan.wire() as client:
        good = banyan.config_file.read_text()
        for bad in ("[nonsense]\n", good.replace('host = "127.0.0.1"', 'host = "192.0.2.1"', 1)):  # the latter cannot be bound
            banyan.config_file.write_text(bad if bad != "[nonsense]\n" else good + bad)
            newcomer = banyan.spawn("--take-over")
            assert newcomer.wait(30 * kit.SLOW) == 1
            client.query("select 1").ok()
        banyan.config_file.write_text(good)
        second = banyan.spawn()  # without --take-over: the state has an owner
        assert second.wait(30 * kit.SLOW) == 1
        client.query("insert into t values (1, 'x')").ok()
    banyan.kill9()
    banyan.write_config()
    banyan.process = banyan.spawn("--take-over")  # there is nobody any more: a plain start
    banyan.wait_ready()
    banyan.settle_and_compare()


def test_a_transition_is_not_taken_over(migration):
    banyan = migration(SCHEMA)
    busy = banyan.wire()
    busy.query("begin; insert into t values (1, 'x')").ok()
    body = {"from": "INITIAL", "to": "DUAL_WRITE", "reason": "test"}
    assert banyan.admin.request("POST", "/api/v1/transitions", body)[0] == 202
    wait_until(lambda: banyan.admin.status()["transition"], "a transition", 20 * kit.SLOW)
    newcomer = banyan.spawn("--take-over")
    assert newcomer.wait(30 * kit.SLOW) == 1
    assert "a transition is under way" in banyan.log()
    # A shutdown cancels it.
    banyan.process.send_signal(signal.SIGTERM)
    draining(banyan)
    busy.query("commit").ok()
    assert banyan.process.wait(30 * kit.SLOW) == 0
    banyan.start()
    assert banyan.admin.phase() == "INITIAL"
    assert [transition["state"] for transition in banyan.admin.get("/transitions")["transitions"]] == ["aborted"]
    assert banyan.sql("select count(*) from t") == [(1,)]


def test_sockets_of_a_service_manager_are_used(migration):
    banyan = migration(SCHEMA)
    banyan.stop()
    with socket.create_server(("127.0.0.1", banyan.port)) as listening:
        client = threading.Thread(target=banyan.sql, args=("insert into t values (1, 'early')",))
        client.start()  # nobody accepts yet
        banyan.write_config()
        command = f'LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" --config "$1" 3<&{listening.fileno()}'
        with open(banyan.directory / "banyan.log", "ab") as log:
            banyan.process = subprocess.Popen(["bash", "-c", command, kit.BINARY, banyan.config_file], stdout=log, stderr=log,
                                              pass_fds=[listening.fileno()])
        client.join(30 * kit.SLOW)
        banyan.wait_ready()
        assert banyan.sql("select count(*) from t") == [(1,)]


@pytest.mark.short
def test_a_service_manager_is_told_and_a_watchdog_is_fed_while_the_loops_turn(migration, tmp_path):
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = tmp_path / "notify"
    manager.bind(str(path))
    manager.settimeout(30 * kit.SLOW)

    def told(*words):
        """Everything up to the first message that has one of these words."""
        while True:
            lines = manager.recv(4096).decode().split("\n")
            for word in words:
                if word in lines:
                    return lines

    banyan = migration(SCHEMA, start=False)
    # systemd gives the main process's id along, so that no child answers for it.
    banyan.environment.update({"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(int(2_000_000 * kit.SLOW))})
    banyan.start()
    assert f"MAINPID={banyan.process.pid}" in told("READY=1")
    for _ in range(3):
        told("WATCHDOG=1")
    banyan.process.send_signal(signal.SIGHUP)
    assert any(line.startswith("MONOTONIC_USEC=") for line in told("RELOADING=1"))
    told("READY=1")
    banyan.process.send_signal(signal.SIGTERM)
    told("STOPPING=1")
    assert banyan.process.wait(30 * kit.SLOW) == 0
    banyan.process = None
    manager.close()
