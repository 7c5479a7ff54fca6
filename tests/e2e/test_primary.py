"""The primary fails: it restarts, fails over, freezes, refuses, loses what it had acknowledged. Banyan keeps its
listener open, sessions get PostgreSQL's own words, and both sides are equal afterwards without an operator."""
import contextlib
import os
import shutil
import signal
import time

import psycopg2
import pytest

import kit
from kit import wait_until
from relay import Relay
from test_random_writers import ROWS, SCHEMA, check_receipts, start_writers
from wire import Wire, WireError, fields_of, query

MIRROR = {"commit_timeout_ms": 2000, "lock_timeout_ms": 400, "connect_timeout_ms": 1000, "probe_interval_ms": 200}
SIMPLE = "create table t (id int primary key, v text)"
NAMES = iter(range(1, 1000))


class Pair:
    """Two clusters of a test's own and a Banyan between them, each behind a relay if wanted."""

    def __init__(self, room, source=None, target=None, relays=(), **settings):
        self.name = f"primary{next(NAMES)}"
        self.room = room / self.name
        self.own = []
        self.source = source or self.cluster("source", **settings)
        self.target = target or self.cluster("target", **settings)
        self.relays = {}
        for cluster in (self.source, self.target):
            cluster.create_database(self.name)
        self.banyan = kit.Banyan(self.room / "banyan", self.source, self.target, self.name, mirror=MIRROR)
        for side in relays:
            self.relays[side] = Relay(getattr(self, side).port)
            self.banyan.sections[side]["port"] = self.relays[side].port

    def cluster(self, name, **settings):
        cluster = kit.Cluster(self.room / name, max_prepared_transactions=10, **settings)
        self.own.append(cluster)
        return cluster

    def standby(self, cluster):
        standby = kit.Cluster.standby_of(cluster, self.room / f"standby{len(self.own)}")
        self.own.append(standby)
        return standby

    def start(self, schema=SIMPLE, rows="", phase="INITIAL"):
        for cluster in (self.source, self.target):
            cluster.sql(schema, self.name, "app")
        if rows:
            self.source.sql(rows, self.name, "app")
        self.banyan.start()
        self.banyan.lead_to(phase)
        return self.banyan

    @property
    def primary(self):
        return self.target if self.banyan.admin.phase() in ("SWITCHOVER", "COMPLETE") else self.source

    def close(self, failed):
        try:
            if failed and (self.banyan.directory / "banyan.log").exists():
                print(f"--- the end of Banyan's log:\n{self.banyan.log()[-5000:]}")
            for cluster in self.own:
                cluster.thaw()
            self.banyan.close()
        finally:
            for relay in self.relays.values():
                relay.close()
            for cluster in self.own:
                with contextlib.suppress(Exception):
                    cluster.close()
            for cluster in (self.source, self.target):
                if cluster not in self.own:
                    cluster.drop_database(self.name)


@pytest.fixture
def pair(request, room):
    made = []

    def make(*arguments, **options):
        made.append(Pair(room, *arguments, **options))
        return made[-1]

    yield make
    for one in made:
        one.close(getattr(request.node, "failed", False))


def restart(cluster):
    """After kill -9 of the postmaster, the last of its children may keep the shared memory for a moment."""
    wait_until(lambda: attempt(cluster.restart), "the server starts", 60 * kit.SLOW)


def attempt(action):
    try:
        action()
        return True
    except Exception:  # pylint: disable=broad-except
        return False


def ready(banyan):
    status, _, body = banyan.admin.request("GET", "/readyz")
    return status, body.decode()


def backend_of(cluster, database, user="app"):
    """The process id of the one backend that `user` has there."""
    rows = cluster.sql(f"select pid from pg_stat_activity where datname = '{database}' and usename = '{user}'")
    assert len(rows) == 1, rows
    return rows[0][0]


def change(banyan, side):
    return banyan.admin.status()[side]["last_change"]


# --- restarts ---

# The first message of a session that did nothing. An immediate shutdown is a warning before the connection closes.
WORDS = {"fast": (b"E", "57P01", "terminating connection due to administrator command"),
         "immediate": (b"N", "57P01", "terminating connection due to immediate shutdown command"),
         "postmaster": (b"E", "57P01", "terminating connection due to unexpected postmaster exit")}


@pytest.mark.parametrize("phase, how", [("INITIAL", "fast"), ("DUAL_WRITE", "immediate"), ("backfill", "postmaster"),
                                        ("DUAL_READ", "fast"), ("SWITCHOVER", "immediate"), ("COMPLETE", "postmaster")])
def test_a_primary_that_restarts_under_load_ends_sessions_in_its_own_words_and_nothing_is_lost(pair, phase, how):
    it = pair()
    banyan = it.start(SCHEMA, ROWS) if phase == "backfill" else it.start(SCHEMA, ROWS, phase)
    if phase == "backfill":
        banyan.stop()
        banyan.sections["backfill"] = {"max_rows_per_second": 6000, "max_chunk_rows": 400}
        banyan.start()
    primary = it.primary
    writers, workers = start_writers(banyan, 3, how, patient=True)
    with workers:
        if phase == "backfill":
            banyan.admin.transition("DUAL_WRITE", seconds=60 * kit.SLOW)
        time.sleep(0.5)
        idle = banyan.wire()
        idle.query("select 1").ok()
        {"fast": lambda: primary.stop("fast"), "immediate": lambda: primary.stop("immediate"), "postmaster": primary.kill_postmaster}[how]()
        last = [(kind, fields_of(body)) for kind, body in idle.wait_closed(30 * kit.SLOW) if kind in b"EN"]
        wait_until(lambda: ready(banyan)[0] == 503, lambda: ready(banyan), 30 * kit.SLOW)
        assert "does not answer" in ready(banyan)[1]
        with pytest.raises(WireError) as refused:  # the listener stays open
            banyan.wire()
        restart(primary)
        wait_until(lambda: ready(banyan)[0] == 200, lambda: ready(banyan), 30 * kit.SLOW)
        wait_until(lambda: change(banyan, "target" if phase in ("SWITCHOVER", "COMPLETE") else "source") == "restarted", banyan.admin.status, 20 * kit.SLOW)
        before = sum(len(writer.acknowledged) for writer in writers)
        wait_until(lambda: sum(len(writer.acknowledged) for writer in writers) > before + 10, "clients work again", 60 * kit.SLOW)
    assert [(kind, said["C"], said["M"]) for kind, said in last][:1] == [WORDS[how]], last
    assert refused.value.sqlstate in ("08001", "57P03"), refused.value
    if phase == "backfill":
        banyan.admin.wait_backfill(120 * kit.SLOW)
    if phase not in ("INITIAL", "COMPLETE"):
        banyan.settle_and_compare(120)
    check_receipts(primary, it.name, writers)


# --- commits whose outcome is not known ---

@pytest.mark.parametrize("phase, then", [("DUAL_WRITE", "wakes"), ("DUAL_WRITE", "is ended"), ("DUAL_WRITE", "dies with its server"),
                                         ("SWITCHOVER", "wakes"), ("two-phase", "wakes")])
def test_a_commit_whose_answer_is_lost_is_followed_whatever_becomes_of_it(pair, phase, then):
    side = "target" if phase == "SWITCHOVER" else "source"
    it = pair(relays=[side])
    banyan = it.start(SIMPLE, "insert into t select g, 'old' from generate_series(1, 20) g", "SWITCHOVER" if phase == "SWITCHOVER" else "DUAL_WRITE")
    if phase != "SWITCHOVER":
        banyan.admin.wait_backfill(60 * kit.SLOW)
        banyan.admin.wait_clean(60 * kit.SLOW)
    primary = getattr(it, side)
    client = banyan.wire()
    client.query("begin").ok()
    client.query("update t set v = 'new' where id <= 3; insert into t values (100, 'new'); delete from t where id = 20").ok()
    if phase == "two-phase":
        client.query("prepare transaction 'half'").ok()
    process = backend_of(primary, it.name)
    os.kill(process, signal.SIGSTOP)
    try:
        client.send(query("commit prepared 'half'" if phase == "two-phase" else "commit"))
        wait_until(lambda: banyan.admin.get("/journal")["in_flight"] >= 1, banyan.admin.status, 20 * kit.SLOW)
        time.sleep(0.3)  # it has gone out, to the backend's socket
        it.relays[side].point(None)
        assert [kind for kind, _ in client.wait_closed(20 * kit.SLOW)] == []
        it.relays[side].point(primary.port, drop=False)
        wait_until(lambda: banyan.admin.get("/journal")["limbo"] == 1, banyan.admin.status, 20 * kit.SLOW)
        if then == "is ended":
            time.sleep(5)  # longer than Banyan lets a lost backend linger
            assert banyan.admin.get("/journal")["limbo"] == 1  # it is still there, and may still commit
        elif then == "dies with its server":
            primary.stop("immediate")  # which kills even the frozen one
            time.sleep(3)
            assert banyan.admin.get("/journal")["in_flight"] == 1
            restart(primary)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)
    banyan.settle_and_compare(90)
    committed = primary.sql("select v from t where id = 100", it.name) == [("new",)]
    print("it was", "committed" if committed else "rolled back")
    if then == "wakes":
        assert committed


# --- acknowledged, and gone ---

@pytest.mark.parametrize("how", ["immediate", "one backend"])
def test_a_primary_that_loses_acknowledged_commits_in_a_crash_is_followed_back(pair, target, how):
    it = pair(target=target, synchronous_commit="off", wal_writer_delay="10s", wal_writer_flush_after="1GB", autovacuum="off")
    banyan = it.start(SIMPLE, phase="DUAL_WRITE")
    banyan.admin.wait_backfill(60 * kit.SLOW)
    banyan.admin.wait_clean(60 * kit.SLOW)
    for attempt_number in range(5):
        first = attempt_number * 1000
        it.source.sql("checkpoint")
        time.sleep(0.3)  # the WAL writer sleeps again
        with banyan.wire() as client:
            for number in range(30):
                client.query(f"insert into t values ({first + number}, 'acknowledged')").ok()
        mirrored = it.target.sql(f"select count(*) from t where id >= {first}", it.name)[0][0]
        if how == "immediate":
            it.source.stop("immediate")
            it.source.restart()
        else:
            witness = it.source.connect()
            victim = it.source.connect()
            os.kill(victim.info.backend_pid, signal.SIGKILL)
            wait_until(lambda: not attempt(lambda: witness.cursor().execute("select 1")), "the server has noticed", 30 * kit.SLOW)
            wait_until(lambda: attempt(lambda: it.source.sql("select 1")), "the server is back", 30 * kit.SLOW)
        left = it.source.sql(f"select count(*) from t where id >= {first}", it.name)[0][0]
        if left < mirrored:
            break
    else:
        pytest.fail("the server lost nothing in five crashes")
    print(f"{mirrored} mirrored, {left} left")
    wait_until(lambda: change(banyan, "source") == "restarted", banyan.admin.status, 30 * kit.SLOW)
    banyan.settle_and_compare(60)
    assert it.target.sql(f"select count(*) from t where id >= {first}", it.name)[0][0] == left
    assert banyan.admin.metrics()['banyan_backend_changes_total{change="restarted",side="source"}'] >= 1


# Its sessions commit there without waiting for the disk ([mirror] synchronous_commit).
def test_a_mirror_that_loses_acknowledged_commits_in_a_crash_is_made_equal_again(pair, source):
    it = pair(source=source, wal_writer_delay="10s", wal_writer_flush_after="1GB", autovacuum="off")
    banyan = it.start(SIMPLE, phase="DUAL_WRITE")
    banyan.admin.wait_backfill(60 * kit.SLOW)
    banyan.admin.wait_clean(60 * kit.SLOW)
    for attempt_number in range(5):
        first = attempt_number * 1000
        it.target.sql("checkpoint")
        time.sleep(0.3)  # the WAL writer sleeps again
        with banyan.wire() as client:
            for number in range(30):
                client.query(f"insert into t values ({first + number}, 'acknowledged')").ok()
        wait_until(lambda: banyan.admin.get("/journal")["in_flight"] == 0, "mirrored", 30 * kit.SLOW)
        mirrored = it.target.sql(f"select count(*) from t where id >= {first}", it.name)[0][0]
        banyan.kill9()  # so that nothing is repaired before one has looked
        it.target.stop("immediate")
        it.target.restart()
        left = it.target.sql(f"select count(*) from t where id >= {first}", it.name)[0][0]
        banyan.start()
        if left < mirrored:
            break
    else:
        pytest.fail("the mirror lost nothing in five crashes")
    print(f"{mirrored} mirrored, {left} left")
    wait_until(lambda: change(banyan, "target") == "restarted", banyan.admin.status, 30 * kit.SLOW)
    banyan.settle_and_compare(60)
    assert it.target.sql(f"select count(*) from t where id >= {first}", it.name)[0][0] == 30


def test_a_mirror_that_comes_back_as_an_older_copy_of_its_disk_is_repaired(pair, source):
    it = pair(source=source)
    banyan = it.start(SIMPLE, "insert into t select g, 'old' from generate_series(1, 100) g", "DUAL_READ")
    it.target.stop("fast")
    data = it.target.directory / "data"
    copy = it.room / "copy"
    shutil.copytree(data, copy, copy_function=copy_with_owner)
    it.target.restart()
    wait_until(lambda: change(banyan, "target") == "restarted", banyan.admin.status, 30 * kit.SLOW)
    with banyan.wire() as client:
        wait_until(lambda: banyan.admin.status()["breaker"]["state"] == "closed", banyan.admin.status, 30 * kit.SLOW)
        client.query("update t set v = 'new' where id < 50").ok()
        client.query("insert into t select g, 'new' from generate_series(101, 3000) g").ok()
    banyan.settle_and_compare(60)
    looked = banyan.admin.status()["target"]["checked_unix_ms"]
    wait_until(lambda: banyan.admin.status()["target"]["checked_unix_ms"] > looked, "looked at since the writes", 30 * kit.SLOW)
    it.target.stop("fast")
    shutil.rmtree(data)
    shutil.copytree(copy, data, copy_function=copy_with_owner)
    for directory, _, _ in os.walk(data):
        os.chown(directory, copy_owner(copy / "PG_VERSION"), -1)
    data.chmod(0o700)
    it.target.restart()
    assert it.target.sql("select count(*) from t", it.name) == [(100,)]
    wait_until(lambda: change(banyan, "target") == "went_back", banyan.admin.status, 30 * kit.SLOW)
    assert banyan.settle_and_compare(60) == {"public.t": 3000}


def copy_owner(path):
    return os.stat(path).st_uid


def copy_with_owner(source, destination):
    shutil.copy2(source, destination)
    status = os.stat(source)
    os.chown(destination, status.st_uid, status.st_gid)


# --- failover ---

@pytest.mark.parametrize("old", ["is dead", "lives on", "while Banyan is away"])
def test_a_promoted_standby_that_lacks_acknowledged_commits_is_followed(pair, target, old):
    it = pair(target=target, relays=["source"])
    banyan = it.start(SIMPLE, "insert into t select g, 'old' from generate_series(1, 100) g", "DUAL_READ")
    standby = it.standby(it.source)
    with banyan.wire() as client:
        client.query("insert into t values (1000, 'on the standby')").ok()
    wait_until(lambda: attempt(lambda: standby.sql("select v from t where id = 1000", it.name)[0]), "replication", 30 * kit.SLOW)
    standby.sql("alter system set primary_conninfo = ''")
    standby.sql("select pg_reload_conf()")
    wait_until(lambda: it.source.sql("select count(*) from pg_stat_replication") == [(0,)], "replication ends", 30 * kit.SLOW)
    client = banyan.wire()
    client.query("insert into t select g, 'lost' from generate_series(2000, 2040) g; update t set v = 'lost' where id < 10; delete from t where id = 50").ok()
    banyan.admin.wait_clean(30 * kit.SLOW)
    if old == "while Banyan is away":
        banyan.kill9()
    if old == "is dead":
        it.source.stop("immediate")
    standby.promote()
    it.relays["source"].point(standby.port, drop=old != "lives on")
    if old == "while Banyan is away":
        banyan.start()
    wait_until(lambda: change(banyan, "source") == "failed_over", banyan.admin.status, 30 * kit.SLOW)
    # Whoever was still connected to the former primary is not any more.
    last = [fields_of(body) for kind, body in client.wait_closed(30 * kit.SLOW) if kind == b"E"]
    if old == "lives on":
        assert [(error["C"], error["M"]) for error in last] == [("57P01", "the connection to the database server was lost: another server has taken its place")]
        assert it.source.sql("select count(*) from pg_stat_activity where datname = %s", parameters=[it.name]) == [(0,)]
    with banyan.wire() as client:
        client.query("insert into t values (5000, 'after')").ok()
        assert client.value("select count(*) from t where v = 'lost'") == "0"
    banyan.source = standby
    assert banyan.settle_and_compare(60) == {"public.t": 102}
    assert banyan.admin.phase() == "DUAL_READ"
    banyan.lead_to("SWITCHOVER")
    banyan.settle_and_compare(60)


def test_a_mirror_that_fails_over_is_verified_and_nobody_writes_to_the_former_one(pair, source):
    it = pair(source=source, relays=["target"])
    banyan = it.start(SIMPLE, "insert into t select g, 'old' from generate_series(1, 100) g", "DUAL_READ")
    standby = it.standby(it.target)
    wait_until(lambda: it.target.sql("select count(*) from pg_stat_replication") == [(1,)], "replication", 30 * kit.SLOW)
    standby.sql("alter system set primary_conninfo = ''")
    standby.sql("select pg_reload_conf()")
    wait_until(lambda: it.target.sql("select count(*) from pg_stat_replication") == [(0,)], "replication ends", 30 * kit.SLOW)
    client = banyan.wire()
    client.query("update t set v = 'new' where id < 10").ok()
    banyan.admin.wait_clean(30 * kit.SLOW)
    standby.promote()
    it.relays["target"].point(standby.port, drop=False)
    wait_until(lambda: change(banyan, "target") == "failed_over", banyan.admin.status, 30 * kit.SLOW)
    wait_until(lambda: banyan.admin.status()["breaker"]["state"] == "closed", banyan.admin.status, 30 * kit.SLOW)
    client.query("insert into t values (5000, 'after')").ok()  # the same session: a mirror is never the client's trouble
    former = it.target
    banyan.target = standby
    assert banyan.settle_and_compare(60) == {"public.t": 101}
    assert former.sql("select count(*) from t where id = 5000", it.name) == [(0,)]


# --- standbys and read-only servers ---

def test_a_standby_behind_the_address_is_served_for_reading_and_named(pair, target):
    it = pair(target=target, relays=["source"])
    banyan = it.start(SIMPLE, "insert into t values (1, 'old')", "DUAL_WRITE")
    banyan.admin.wait_backfill(60 * kit.SLOW)
    standby = it.standby(it.source)
    it.source.stop("fast")
    it.relays["source"].point(standby.port)
    wait_until(lambda: banyan.admin.status()["source"]["in_recovery"] is True, banyan.admin.status, 30 * kit.SLOW)
    with banyan.wire() as client:
        assert client.value("select v from t") == "old"
        with Wire(standby.port, "app", it.name) as direct:
            for sql in ("insert into t values (2, 'x')", "update t set v = 'x'", "create table u (id int)"):
                theirs, ours = direct.query(sql).errors, client.query(sql).errors
                assert [(e["C"], e["M"]) for e in ours] == [(e["C"], e["M"]) for e in theirs] and ours[0]["C"] == "25006", (ours, theirs)
    standby.promote()
    wait_until(lambda: change(banyan, "source") == "failed_over", banyan.admin.status, 30 * kit.SLOW)
    banyan.source = standby
    banyan.sql("insert into t values (2, 'new')")
    assert banyan.settle_and_compare(60) == {"public.t": 2}


def test_a_target_that_is_a_standby_or_read_only_is_not_mirrored_to(pair, target):
    it = pair(target=target, relays=["target"])
    banyan = it.start(SIMPLE)
    it.target.sql(f'alter database "{it.name}" set default_transaction_read_only = on')
    gates = {gate["name"]: gate for gate in banyan.admin.gates("DUAL_WRITE")}
    assert gates["target_takes_writes"]["verdict"] == "fail" and "default_transaction_read_only" in gates["target_takes_writes"]["explanation"]
    standby = it.standby(it.source)  # of whatever: it is in recovery
    it.relays["target"].point(standby.port)
    wait_until(lambda: any(gate["name"] == "target_takes_writes" and gate["verdict"] == "fail" and not gate["overridable"]
                           and "promoted" in gate["explanation"] for gate in banyan.admin.gates("DUAL_WRITE")),
               lambda: banyan.admin.gates("DUAL_WRITE"), 20 * kit.SLOW)
    with pytest.raises(kit.AdminError, match="gates-failed|target_takes_writes"):
        banyan.admin.transition("DUAL_WRITE", override_gates=True)


# --- limits and refusals ---

def refusal(port, **options):
    with pytest.raises(WireError) as refused:
        Wire(port, options.pop("user", "app"), options.pop("database"), **options)
    return {name: text for name, text in refused.value.fields.items() if name in "SVCMDHFR"}


def test_what_the_primary_refuses_is_refused_in_its_own_words(pair, target):
    hba = kit.HBA.replace("host all all 127", "host all banned 127.0.0.1/32 reject\nhost all all 127")
    it = pair(target=target, hba=hba, max_connections=12)
    it.source.sql("create role banned login; create role few login connection limit 1; grant set on parameter session_replication_role to few")
    it.source.sql("create role nologin")
    it.target.sql("create role few login; grant set on parameter session_replication_role to few")
    banyan = None
    try:
        banyan = it.start(SIMPLE, phase="DUAL_WRITE")
        banyan.admin.wait_backfill(60 * kit.SLOW)
        for user in ("banned", "nologin", "nobody"):
            assert refusal(banyan.port, user=user, database=it.name) == refusal(it.source.port, user=user, database=it.name), user
        with banyan.wire("few"):
            assert refusal(banyan.port, user="few", database=it.name) == refusal(it.source.port, user="few", database=it.name)
        client = banyan.wire()
        everyone = []
        with contextlib.suppress(psycopg2.OperationalError):
            while True:
                everyone.append(it.source.connect(user="app"))
        ours, theirs = refusal(banyan.port, database=it.name), refusal(it.source.port, database=it.name)
        assert ours == theirs and ours["C"] == "53300", (ours, theirs)
        with contextlib.suppress(psycopg2.OperationalError):  # the reserved ones too: no room for Banyan's own role
            while True:
                everyone.append(it.source.connect())
        time.sleep(4)  # its workers and its probe are refused
        for number in range(20):
            client.query(f"insert into t values ({number}, 'x')").ok()
        for connection in everyone:
            connection.close()
        wait_until(lambda: ready(banyan)[0] == 200, lambda: ready(banyan), 30 * kit.SLOW)
        assert banyan.settle_and_compare(60) == {"public.t": 20}
    finally:
        if banyan:
            banyan.stop()
        it.target.drop_database(it.name)
        it.target.sql("revoke set on parameter session_replication_role from few; drop role few")
        it.target.create_database(it.name)


def test_a_server_that_is_not_up_yet_says_so_through_banyan(pair, target):
    it = pair(target=target, relays=["source"])
    banyan = it.start(SIMPLE)
    standby = it.standby(it.source)
    standby.stop("fast")
    with open(standby.directory / "data" / "postgresql.conf", "a", encoding="utf-8") as config:
        config.write("\nhot_standby = off\n")
    attempt(standby.restart)  # pg_ctl waits for connections that it will not take
    it.relays["source"].point(standby.port)
    wait_until(lambda: attempt(lambda: refusal(standby.port, database=it.name)), "it answers", 20 * kit.SLOW)
    ours, theirs = refusal(banyan.port, database=it.name), refusal(standby.port, database=it.name)
    assert ours == theirs and ours["C"] == "57P03", (ours, theirs)
    wait_until(lambda: ready(banyan)[0] == 503, lambda: ready(banyan), 20 * kit.SLOW)
    assert "does not answer" in ready(banyan)[1]


# --- a server that stops without going ---

@pytest.mark.parametrize("phase", ["backfill", "DUAL_READ"])
def test_a_frozen_primary_wedges_neither_the_operators_pages_nor_the_workers(pair, target, phase):
    it = pair(target=target)
    banyan = it.start(SCHEMA, ROWS) if phase == "backfill" else it.start(SCHEMA, ROWS, phase)
    if phase == "backfill":
        banyan.stop()
        banyan.sections["backfill"] = {"max_rows_per_second": 4000, "max_chunk_rows": 400}
        banyan.start()
        banyan.admin.transition("DUAL_WRITE", seconds=60 * kit.SLOW)
    else:
        banyan.admin.post("/verifications", {"repair": True})
    with banyan.wire() as client:
        client.query("update plain set v = 'x' where id < 100").ok()
        it.source.freeze()
        wait_until(lambda: banyan.admin.status()["source"]["reachable"] is False, banyan.admin.status, 30 * kit.SLOW)
        assert ready(banyan)[0] == 503
        for path in ("/status", "/tables", "/journal", "/backfill", "/sessions", "/verifications", "/gates?to=DUAL_READ", "/gates?to=SWITCHOVER",
                     "/capture", "/discrepancies"):
            status = banyan.admin.request("GET", "/api/v1" + path, timeout=60 * kit.SLOW)[0]
            assert status < 500, (path, status)
        # Every connection of Banyan's own has been given up: nobody waits for the frozen server.
        wait_until(lambda: "connections of Banyan's own are given up" in banyan.log(), "they are given up", 40 * kit.SLOW)
        with pytest.raises((kit.AdminError, kit.TransitionError)):
            banyan.admin.transition({"backfill": "DUAL_READ", "DUAL_READ": "SWITCHOVER"}[phase], seconds=60 * kit.SLOW)
        it.source.thaw()
        client.query("update plain set v = 'y' where id < 200").ok()  # the session only waited
    wait_until(lambda: ready(banyan)[0] == 200, lambda: ready(banyan), 30 * kit.SLOW)
    if phase == "backfill":
        banyan.admin.wait_backfill(120 * kit.SLOW)
    banyan.settle_and_compare(90)
    it.source.freeze()
    assert banyan.stop(60) == 0


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_server_that_dies_while_clients_are_held_ends_the_change_and_nothing_else(pair, side):
    it = pair()
    it.banyan.sections["switchover"] = {"deadline_ms": int(20000 * kit.SLOW)}
    banyan = it.start(SIMPLE, "insert into t select g, 'old' from generate_series(1, 100) g", "DUAL_READ")
    banyan.feed_shadow_reads()
    wait_until(lambda: all(gate["verdict"] == "pass" for gate in banyan.admin.gates("SWITCHOVER")), lambda: banyan.admin.gates("SWITCHOVER"), 60 * kit.SLOW)
    open_one, held = banyan.wire(), banyan.wire()
    open_one.query("begin; update t set v = 'open' where id = 1").ok()
    number = banyan.admin.start_transition("SWITCHOVER")["id"]
    wait_until(lambda: banyan.admin.status()["hold"], banyan.admin.status, 60 * kit.SLOW)
    held.send(query("update t set v = 'held' where id = 2"))
    getattr(it, side).stop("immediate")
    if side == "target":
        open_one.query("commit").ok()
    wait_until(lambda: banyan.admin.get(f"/transitions/{number}")["state"] in ("failed", "timed_out", "aborted"),
               lambda: banyan.admin.get(f"/transitions/{number}"), 60 * kit.SLOW)
    assert (banyan.admin.phase(), banyan.admin.status()["hold"]) == ("DUAL_READ", False)
    if side == "target":
        held.reply().ok()  # it only waited
    getattr(it, side).restart()
    wait_until(lambda: ready(banyan)[0] == 200, lambda: ready(banyan), 30 * kit.SLOW)
    wait_until(lambda: change(banyan, side) == "restarted", banyan.admin.status, 60 * kit.SLOW)
    banyan.settle_and_compare(90)
    banyan.lead_to("SWITCHOVER")
    banyan.settle_and_compare(60)
