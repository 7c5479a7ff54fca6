"""What a mirror that is unwell costs: each session at most one wait that runs out, each newcomer none, no client an error; then
keys are journaled only, a probe finds out when writes work again, and everything converges.

Counters are asserted, not times: `mirror_waits_total{result="timed_out"}` counts the waits of clients that ran out.
"""
import contextlib
import os
import selectors
import socket
import subprocess
import threading
import time

import pytest

import kit
from kit import wait_until

SCHEMA = "create table t (id int primary key, v text)"
MIRROR = {"commit_timeout_ms": 800, "lock_timeout_ms": 400, "connect_timeout_ms": 700, "probe_interval_ms": 100, "longest_probe_interval_ms": 1000}
SESSIONS = 4
TIMED_OUT = 'banyan_mirror_waits_total{result="timed_out"}'


class Link:
    """The way to a cluster, which can be made silent or slow. Stands in for the cluster where Banyan is configured."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.delay = 0.0
        self.silent = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.over = threading.Event()
        threading.Thread(target=self.accept, daemon=True).start()

    def __getattr__(self, name):
        return getattr(self.cluster, name)

    def accept(self):
        while not self.over.is_set():
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.carry, args=(client,), daemon=True).start()

    def carry(self, client):
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self.cluster.port)) as server:
            chooser = selectors.DefaultSelector()
            chooser.register(client, selectors.EVENT_READ, server)
            chooser.register(server, selectors.EVENT_READ, client)
            while not self.over.is_set():
                for key, _ in chooser.select(0.05):
                    while self.silent and not self.over.is_set():
                        time.sleep(0.01)
                    data = key.fileobj.recv(65536)
                    if not data:
                        return
                    if key.fileobj is server and self.delay:
                        time.sleep(self.delay)
                    key.data.sendall(data)

    def close(self):
        self.over.set()
        self.listener.close()


class Disk:
    """A small file system of its own, on which the cluster has a tablespace `small`."""

    def __init__(self, cluster, directory):
        self.directory = directory
        self.directory.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m,mode=0777", "none", directory], check=False, capture_output=True)
        if mounted.returncode != 0:
            pytest.skip(f"no file system may be mounted here: {mounted.stderr!r}")
        place = directory / "tablespace"
        place.mkdir()
        owner = (cluster.directory / "data").stat()
        os.chown(place, owner.st_uid, owner.st_gid)
        cluster.sql(f"create tablespace small location '{place}'")

    def fill(self):
        with contextlib.suppress(OSError), open(self.directory / "ballast", "wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)

    def empty(self):
        (self.directory / "ballast").unlink()

    def close(self):
        subprocess.run(["umount", "-l", self.directory], check=False)


def prepared(migration, target, sessions=SESSIONS, **sections):
    """In DUAL_WRITE, with sessions that have written through their mirror connections."""
    banyan = migration(SCHEMA, target=target, **{"mirror": MIRROR, **sections})
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill()
    clients = [banyan.wire() for _ in range(sessions)]
    for number, client in enumerate(clients):
        client.query(f"insert into t values ({number}, 'before')").ok()
    banyan.settle_and_compare()
    return banyan, clients


def write_all(clients, base, times=1):
    """All at once; each row is long, so that files must grow."""
    def work(number, _):
        for turn in range(times):
            began = time.monotonic()
            clients[number].query(f"insert into t select {base} + {number * times + turn}, repeat(md5('{number}'), 60)").ok()
            longest[0] = max(longest[0], time.monotonic() - began)

    longest = [0.0]
    with kit.Workers(len(clients), work) as workers:
        for thread in workers.threads:
            thread.join(60 * kit.SLOW)
    return longest[0]


def breaker(banyan):
    return banyan.admin.status()["breaker"]


def incident(banyan, clients, hurt, heal, causes, waits=True):
    """Hurts the mirror, writes, and holds Banyan to its promise."""
    before = banyan.admin.metrics()
    hurt()
    longest = write_all(clients, 1000, 4)
    wait_until(lambda: breaker(banyan)["state"] != "closed", lambda: breaker(banyan), 20 * kit.SLOW)
    during = banyan.admin.metrics()
    timed_out = during[TIMED_OUT] - before[TIMED_OUT]
    assert timed_out <= len(clients) if waits else timed_out == 0, timed_out
    assert longest < 3 * MIRROR["commit_timeout_ms"] / 1000 * kit.SLOW
    # Who comes later does not wait at all, nor do the others.
    newcomers = [banyan.wire() for _ in range(2)]
    write_all(newcomers + clients, 2000, 2)
    seen = breaker(banyan)
    assert seen["state"] in ("open", "half_open") and seen["cause"] in causes, seen
    assert seen["journal_only_commits"] > 0 and seen["detail"], seen
    after = banyan.admin.metrics()
    assert after[TIMED_OUT] == during[TIMED_OUT]
    assert after['banyan_breaker_state{state="closed"}'] == 0
    assert all(session["journal_only"] for session in banyan.admin.get("/sessions")["sessions"])
    journal = banyan.admin.get("/journal")
    assert journal["dirty"] + journal["limbo"] + journal["in_flight"] > 0
    heal()
    wait_until(lambda: breaker(banyan)["state"] == "closed", lambda: breaker(banyan), 30 * kit.SLOW)
    write_all(newcomers + clients, 3000)
    for client in newcomers + clients:
        client.socket.close()
    banyan.settle_and_compare(60)
    assert banyan.admin.metrics()['banyan_mirror_transactions_total{result="committed"}'] > after['banyan_mirror_transactions_total{result="committed"}']


def test_refused_connections(own_target, migration):
    incident(*prepared(migration, own_target), own_target.stop, own_target.restart, {"unreachable", "unavailable"})


@pytest.mark.short
def test_frozen(own_target, migration):
    incident(*prepared(migration, own_target), own_target.freeze, own_target.thaw, {"timed_out", "slow", "unreachable"})


def test_a_way_that_swallows_everything_and_one_that_is_slow(own_target, migration):
    link = Link(own_target)
    try:
        banyan, clients = prepared(migration, link)

        def silent(on):
            link.silent = on

        incident(banyan, clients, lambda: silent(True), lambda: silent(False), {"timed_out", "slow", "unreachable"})
        # Each answer late, but in time: the waits of one session add up to the bound, not beyond.
        clients = [banyan.wire() for _ in range(SESSIONS)]
        write_all(clients, 4000)
        opened = breaker(banyan)["opened_total"]
        link.delay = 0.45
        write_all(clients, 5000, 6)
        wait_until(lambda: breaker(banyan)["opened_total"] > opened, lambda: breaker(banyan), 20)
        link.delay = 0.0
        wait_until(lambda: breaker(banyan)["state"] == "closed", lambda: breaker(banyan), 30 * kit.SLOW)
        banyan.settle_and_compare(60)
    finally:
        link.close()


@pytest.mark.short
def test_read_only_until_it_is_promoted(own_target, migration):
    """A hot standby lets everybody log in and read: a probe by SELECT would close the breaker again and again."""
    banyan, clients = prepared(migration, own_target)

    def becomes_a_standby():
        own_target.stop("fast")
        standby = own_target.directory / "data" / "standby.signal"
        standby.touch()
        owner = standby.parent.stat()
        os.chown(standby, owner.st_uid, owner.st_gid)
        own_target.restart()
        wait_until(lambda: own_target.sql("select pg_is_in_recovery()") == [(True,)], "a standby")

    def stays_open():
        wait_until(lambda: breaker(banyan)["cause"] == "read_only", lambda: breaker(banyan), 20 * kit.SLOW)
        seen = breaker(banyan)
        wait_until(lambda: breaker(banyan)["probes_failed"] >= seen["probes_failed"] + 2, lambda: breaker(banyan), 20 * kit.SLOW)
        assert breaker(banyan)["opened_total"] == seen["opened_total"], "it flaps"
        own_target.sql("select pg_promote()")

    incident(banyan, clients, becomes_a_standby, stays_open, {"read_only", "unreachable", "unavailable"})


def test_a_default_of_read_only_is_overruled(own_target, migration):
    banyan, clients = prepared(migration, own_target)
    own_target.sql("alter system set default_transaction_read_only = on")
    own_target.sql("select pg_reload_conf()")
    newcomer = banyan.wire()
    write_all([*clients, newcomer], 1000, 2)
    assert breaker(banyan)["opened_total"] == 0
    banyan.admin.wait_clean(30 * kit.SLOW)
    assert own_target.sql("select count(*) from t", banyan.database) == [(SESSIONS + 10,)]
    banyan.settle_and_compare()


def test_out_of_disk(own_target, migration, room):
    disk = Disk(own_target, room / "small-disk")
    try:
        def onto_the_small_disk(name):
            own_target.sql(f'alter database "{name}" set tablespace small')

        banyan = migration(SCHEMA, target=own_target, start=False, mirror=MIRROR)
        onto_the_small_disk(banyan.database)
        banyan.start().lead_to("DUAL_WRITE")
        banyan.admin.wait_backfill()
        clients = [banyan.wire() for _ in range(SESSIONS)]
        write_all(clients, 0)

        def stays_open():
            seen = breaker(banyan)
            wait_until(lambda: breaker(banyan)["probes_failed"] >= seen["probes_failed"] + 2, lambda: breaker(banyan), 20 * kit.SLOW)
            assert breaker(banyan)["opened_total"] == seen["opened_total"], "it flaps"
            disk.empty()

        incident(banyan, clients, disk.fill, stays_open, {"disk_full"}, waits=False)
    finally:
        own_target.stop()
        disk.close()


def test_out_of_connections_costs_only_those_that_have_none(own_target, migration):
    banyan, clients = prepared(migration, own_target)
    before = banyan.admin.metrics()
    own_target.sql(f"alter role app connection limit {SESSIONS}")
    newcomers = [banyan.wire() for _ in range(3)]
    write_all(newcomers, 1000, 3)
    write_all(clients, 2000, 3)
    seen = breaker(banyan)
    assert seen["state"] == "closed" and seen["opened_total"] == 0 and seen["no_logins_ms"] is not None and "too many connections for role" in seen["no_logins_detail"], seen
    after = banyan.admin.metrics()
    assert after[TIMED_OUT] == before[TIMED_OUT]
    committed = 'banyan_mirror_transactions_total{result="committed"}'
    wait_until(lambda: banyan.admin.metrics()[committed] >= before[committed] + 3 * SESSIONS, "those that have one go on with it")
    sessions = banyan.admin.get("/sessions")["sessions"]
    assert sorted(session["journal_only"] for session in sessions) == [False] * SESSIONS + [True] * 3
    own_target.sql("alter role app connection limit -1")

    def taken_up():
        write_all(newcomers, int(time.monotonic() * 1000) % 100000000 + 10000)
        return all(session["mirror_ready"] for session in banyan.admin.get("/sessions")["sessions"])

    wait_until(taken_up, "newcomers get their connections", 30 * kit.SLOW, 0.3)
    banyan.settle_and_compare()


def test_a_table_that_errs_is_not_the_mirrors_fault(own_target, migration):
    banyan, clients = prepared(migration, own_target)
    before = banyan.admin.metrics()
    own_target.sql("revoke insert, update on t from app; alter table t owner to postgres", banyan.database)
    write_all(clients, 1000, 3)
    assert breaker(banyan)["opened_total"] == 0
    assert banyan.admin.metrics()[TIMED_OUT] == before[TIMED_OUT]
    own_target.sql("alter table t owner to app; grant all on t to app", banyan.database)
    banyan.settle_and_compare()


def test_a_commit_that_is_never_answered_is_not_waited_for(own_target, migration):
    """The mirror's own standby is gone: each COMMIT there hangs. Nobody waits for it, and nobody writes any more."""
    banyan, clients = prepared(migration, own_target, sessions=1, mirror={**MIRROR, "synchronous_commit": "on"})
    before = banyan.admin.metrics()
    own_target.sql("alter system set synchronous_standby_names = 'nobody'")
    own_target.sql("select pg_reload_conf()")
    wait_until(lambda: own_target.sql("show synchronous_standby_names") == [("nobody",)], "reloaded")
    clients[0].query("insert into t values (1000, 'owed')").ok()
    wait_until(lambda: breaker(banyan)["state"] != "closed", lambda: breaker(banyan), 20 * kit.SLOW)
    assert breaker(banyan)["cause"] == "timed_out"
    assert banyan.admin.metrics()[TIMED_OUT] == before[TIMED_OUT], "a client has waited"
    own_target.sql("alter system reset synchronous_standby_names")
    own_target.sql("select pg_reload_conf()")
    wait_until(lambda: breaker(banyan)["state"] == "closed", lambda: breaker(banyan), 30 * kit.SLOW)
    banyan.settle_and_compare()


# --- on_mirror_failure = "reject" ---

@pytest.mark.short
def test_both_or_neither(own_target, migration):
    banyan, clients = prepared(migration, own_target, mirror={**MIRROR, "on_mirror_failure": "reject"})
    client, other = clients[:2]
    other.query("begin; insert into t values (500, 'in a block')").ok()
    own_target.freeze()
    assert client.query("insert into t values (501, 'waits')").errors[0]["C"] == "40001"
    assert client.query("insert into t values (502, 'does not')").errors[0]["C"] == "40001"
    assert client.value("select count(*) from t") == str(SESSIONS), "reads go on"
    assert other.query("commit").errors[0]["C"] == "40001"
    assert other.query("select 1").ok().status == "I"
    with banyan.wire() as newcomer:
        newcomer.query("begin").ok()
        assert newcomer.query("insert into t values (503, 'new')").errors[0]["C"] == "40001"
        assert newcomer.query("select 1").errors[0]["C"] == "25P02"
        newcomer.query("rollback").ok()
    assert banyan.source.sql("select count(*) from t", banyan.database) == [(SESSIONS,)]
    assert breaker(banyan)["rejected"] >= 4 and breaker(banyan)["journal_only_commits"] == 0
    assert banyan.admin.dirty() == 0
    own_target.thaw()
    wait_until(lambda: breaker(banyan)["state"] == "closed", lambda: breaker(banyan), 30 * kit.SLOW)
    client.query("insert into t values (504, 'after')").ok()
    banyan.settle_and_compare()
    assert own_target.sql("select count(*) from t", banyan.database) == [(SESSIONS + 1,)]
