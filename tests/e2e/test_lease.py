"""One Banyan in charge: the lease in both databases, two Banyans, a lost machine, a lost state directory."""
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import time

import psycopg2
import pytest

import kit
from banyan_admin import listed
from kit import SLOW, Workers, wait_until
from wire import fields_of, query

TTL_MS = int(3000 * SLOW)
LEASE = {"ttl_ms": TTL_MS}
SCHEMA = "create table t (id bigint primary key, v text); create table history (id bigserial primary key, writer int, n int)"
NAMES = itertools.count(1)
SUPERSEDED = "another Banyan is in charge of this migration"


@pytest.fixture
def sibling(room):
    """sibling(banyan) -> another Banyan of the same migration, with a state directory of its own, not started."""
    made = []

    def make(banyan, *arguments):
        other = kit.Banyan(room / f"sibling{next(NAMES)}", banyan.source, banyan.target, banyan.database, lease=LEASE)
        other.arguments = list(arguments)
        made.append(other)
        return other

    yield make
    problems = []
    for other in made:
        try:
            other.close()
        except AssertionError as error:
            problems.append(str(error))
    assert not problems, problems


def refusal(banyan, seconds=20):
    """It must end by itself; what it says on the way."""
    before = len(banyan.log()) if (banyan.directory / "banyan.log").exists() else 0
    banyan.start(ready=False)
    code = banyan.process.wait(seconds * SLOW)
    banyan.process = None
    said = banyan.log()[before:]
    assert code == 1, (code, said)
    return said.splitlines()[-1]


def rows_of_lease(banyan):
    return [cluster.sql("select holder, epoch, phase, released from banyan.lease", banyan.database)[0] for cluster in (banyan.source, banyan.target)]


class Appenders:
    """Clients that append to a history, and remember what was acknowledged. An error ends one."""

    def __init__(self, banyan, count=3):
        self.acknowledged, self.ends, self.banyan = set(), [], banyan
        self.workers = Workers(count, self.work)

    def work(self, number, stop):
        try:
            with contextlib.closing(self.banyan.connect()) as connection, connection.cursor() as cursor:
                for n in itertools.count():
                    if stop.is_set():
                        return
                    cursor.execute("insert into history (writer, n) values (%s, %s)", (number, n))
                    self.acknowledged.add((number, n))
        except psycopg2.Error as error:
            self.ends.append(str(error))

    def missing(self, cluster):
        return self.acknowledged - set(cluster.sql("select writer, n from history", self.banyan.database))


@pytest.mark.parametrize("phase", ["DUAL_WRITE", "SWITCHOVER"])
def test_a_machine_that_is_lost_with_its_state_directory_is_replaced(migration, sibling, phase):
    lost = migration(SCHEMA, "insert into t select g, 'x' from generate_series(1, 500) g", lease=LEASE)
    lost.lead_to(phase)
    primary, mirror = (lost.source, lost.target) if phase == "DUAL_WRITE" else (lost.target, lost.source)
    appenders = Appenders(lost)
    with appenders.workers:
        wait_until(lambda: len(appenders.acknowledged) > 100, "appends", 30 * SLOW)
        pid = lost.process.pid
        lost.kill9()
    shutil.move(lost.directory / "state", lost.directory / "kept")
    # What only the lost journal knew of.
    mirror.sql("update t set v = 'stale' where id between 100 and 110; delete from t where id = 200; insert into t values (100000, 'ghost')",
               lost.database)

    said = refusal(sibling(lost))
    assert "--seize-lease" in said and f"process {pid} on host" in said and phase in said, said

    heir = sibling(lost, "--seize-lease").start()
    status = heir.admin.status()
    assert status["phase"] == phase and status["primary"] == ("source" if primary is lost.source else "target")
    assert status["lease"]["state"] == "held" and status["lease"]["epoch"] == 2, status["lease"]
    heir.sql("insert into t values (1000, 'by the heir')")
    assert primary.sql("select v from t where id = 1000", lost.database) == [("by the heir",)]
    heir.settle_and_compare()
    assert primary.sql("select count(*) from t where v = 'x'", lost.database) == [(500,)]
    assert not appenders.missing(primary) and not appenders.missing(mirror)
    seized = [entry for entry in listed(heir.admin.get("/audit?limit=100"), "audit") if entry["action"] == "lease.seize"]
    assert len(seized) == 1 and seized[0]["before"]["process_id"] == pid and seized[0]["result"] == "ok"

    # An ordinary restart of the heir, and the lost one's disk is found again.
    heir.arguments = []
    heir.kill9()
    heir.start()
    assert heir.admin.phase() == phase
    shutil.rmtree(lost.directory / "state", ignore_errors=True)
    shutil.move(lost.directory / "kept", lost.directory / "state")
    assert SUPERSEDED in refusal(lost)
    if phase == "SWITCHOVER":
        heir.admin.transition("DUAL_READ", seconds=60 * SLOW)
        heir.settle_and_compare()


def test_a_stopped_banyan_finds_itself_superseded(migration, sibling):
    first = migration(SCHEMA, "insert into t select g, 'x' from generate_series(1, 100) g", lease=LEASE).lead_to("DUAL_WRITE")
    assert SUPERSEDED in refusal(sibling(first))
    assert "the lease is live" in refusal(sibling(first, "--seize-lease"), 40)
    appenders = Appenders(first)
    with first.wire() as client, appenders.workers:
        client.query("begin").ok()
        client.query("insert into t values (5000, 'never committed')").ok()
        wait_until(lambda: len(appenders.acknowledged) > 50, "appends", 30 * SLOW)
        os.kill(first.process.pid, signal.SIGSTOP)
        try:
            second = sibling(first, "--seize-lease").start()
            second.sql("insert into t values (6000, 'by the second')")
        finally:
            os.kill(first.process.pid, signal.SIGCONT)
        wait_until(lambda: first.admin.status()["lease"]["state"] == "lost", "the first to notice", 30 * SLOW)
        assert any(b"57P01" in body for kind, body in client.wait_closed(30 * SLOW) if kind == b"E")
    assert len(appenders.ends) == 3 and all("terminating" in end or "lost" in end or "closed" in end for end in appenders.ends), appenders.ends
    code, _, body = first.admin.request("GET", "/readyz")
    assert code == 503 and "in charge" in str(body)
    assert first.admin.metrics()["banyan_lease_lost_total"] == 1
    with pytest.raises(psycopg2.OperationalError, match=SUPERSEDED):
        first.connect()
    second.settle_and_compare()
    assert not appenders.missing(first.source) and not appenders.missing(first.target)
    assert second.sql("select id from t where id > 1000") == [(6000,)]


@pytest.mark.short
@pytest.mark.parametrize("taken", [False, True], ids=["renewed again", "taken over"])
def test_no_commit_is_sent_under_a_lease_that_has_expired(migration, taken):
    banyan = migration(SCHEMA, lease=LEASE).lead_to("DUAL_WRITE")
    client = banyan.wire()
    client.query("begin").ok()
    client.query("insert into t values (1, 'held')").ok()
    with contextlib.closing(banyan.source.connect(banyan.database, autocommit=False)) as blocker, blocker.cursor() as cursor:
        cursor.execute("select from banyan.lease for update")
        wait_until(lambda: banyan.admin.status()["lease"]["state"] == "expired", "expiry", 30 * SLOW)
        client.send(query("commit"))
        time.sleep(1)  # long enough for a commit that nothing holds
        assert banyan.source.sql("select count(*) from t", banyan.database) == [(0,)]
        assert banyan.sql("select 1") == [(1,)]  # reads go on
        if taken:
            cursor.execute("update banyan.lease set holder = 'another', epoch = epoch + 1, renewed_at = clock_timestamp()")
        blocker.commit()
    if taken:
        errors = [fields_of(body) for kind, body in client.wait_closed(30 * SLOW) if kind == b"E"]
        assert [error["C"] for error in errors] == ["57P01"] and SUPERSEDED in errors[0]["M"], errors
        assert banyan.source.sql("select count(*) from t", banyan.database) == [(0,)]
    else:
        client.reply().ok()
        banyan.settle_and_compare()


def test_a_relay_in_initial_stands_aside_when_another_banyan_begins(migration, sibling):
    first = migration(SCHEMA, lease=LEASE)
    second = sibling(first).start()
    with second.wire() as client:
        client.query("insert into t values (1, 'relayed')").ok()
        first.lead_to("DUAL_WRITE")
        words = client.wait_closed(30 * SLOW)
    assert any(SUPERSEDED.encode() in body for kind, body in words if kind == b"E")
    with pytest.raises(kit.AdminError, match="lease-lost|in charge"):
        second.admin.transition("DUAL_WRITE")
    first.sql("insert into t values (2, 'mirrored')")
    first.settle_and_compare()


def test_initial_leaves_no_trace_and_complete_is_remembered(migration, sibling):
    banyan = migration(SCHEMA, lease=LEASE)
    assert banyan.admin.status()["lease"]["state"] == "none"
    tables = [cluster.sql("select count(*) from pg_namespace where nspname = 'banyan'", banyan.database) for cluster in (banyan.source, banyan.target)]
    assert tables == [[(0,)], [(0,)]]
    banyan.lead_to("DUAL_WRITE")
    assert {row[1:] for row in rows_of_lease(banyan)} == {(1, "DUAL_WRITE", False)}
    banyan.admin.transition("INITIAL")
    tables = [cluster.sql("select count(*) from pg_namespace where nspname = 'banyan'", banyan.database) for cluster in (banyan.source, banyan.target)]
    assert tables == [[(0,)], [(0,)]]

    banyan.lead_to("DUAL_READ")
    shutil.copytree(banyan.directory / "state", banyan.directory / "old copy", ignore=shutil.ignore_patterns("banyan.take-over"))  # a socket
    banyan.lead_to("COMPLETE")
    wait_until(lambda: {row[2] for row in rows_of_lease(banyan)} == {"COMPLETE"}, "the record", 10 * SLOW)
    banyan.restart()
    assert banyan.admin.phase() == "COMPLETE"
    banyan.stop()
    assert {row[3] for row in rows_of_lease(banyan)} == {True}  # let go in order
    assert "DROP TABLE banyan.lease" in refusal(sibling(banyan))
    shutil.move(banyan.directory / "state", banyan.directory / "newest")
    shutil.move(banyan.directory / "old copy", banyan.directory / "state")
    assert "old copy" in refusal(banyan)


# --- the state directory ---

def overwrite(file, at, data):
    with open(file, "r+b") as db:
        db.seek(at)
        db.write(data)


DAMAGES = {
    "random bytes": lambda file: file.write_bytes(os.urandom(50000)),
    "cut in half": lambda file: os.truncate(file, file.stat().st_size // 2),
    "no header": lambda file: overwrite(file, 0, bytes(100)),
    "damaged pages": lambda file: overwrite(file, 4096, os.urandom(file.stat().st_size - 2 * 4096)),
    "one damaged page": lambda file: overwrite(file, 2 * 4096, os.urandom(4096)),
    "a newer version": lambda file: overwrite(file, 60, (99).to_bytes(4, "big")),
}


@pytest.mark.short
def test_a_damaged_or_missing_state_database_is_refused_and_the_way_out_works(migration):
    banyan = migration(SCHEMA, "insert into t select g, 'x' from generate_series(1, 100) g", lease=LEASE).lead_to("DUAL_WRITE")
    banyan.sql("insert into t values (1000, 'mirrored')")
    banyan.settle_and_compare()
    banyan.stop()
    state, pristine = banyan.directory / "state", banyan.directory / "pristine"
    shutil.copytree(state, pristine)
    for name, damage in DAMAGES.items():
        shutil.copy(pristine / "banyan.db", state / "banyan.db")
        damage(state / "banyan.db")
        said = refusal(banyan)
        assert str(state / "banyan.db") in said and "--seize-lease" in said, (name, said)
        for left in state.glob("banyan.db-*"):
            left.unlink()
    (state / "banyan.db").write_bytes(b"")
    assert "--seize-lease" in refusal(banyan)  # SQLite takes an empty file for a new one; the databases do not
    shutil.rmtree(state)
    assert "--seize-lease" in refusal(banyan)
    banyan.target.sql("delete from t where id < 10", banyan.database)
    banyan.arguments = ["--seize-lease"]
    banyan.start()
    assert banyan.admin.phase() == "DUAL_WRITE"
    banyan.settle_and_compare()
    banyan.restart()  # with the option still there: nothing to seize, nothing made suspect
    assert banyan.admin.status()["journal"]["suspect_tables"] == 0
    assert "nothing to do" in banyan.log()


def test_a_state_directory_that_cannot_be_written_is_refused(migration, room):
    banyan = migration(SCHEMA)
    banyan.stop()
    program = room / "banyan-of-nobody"
    shutil.copy(kit.BINARY, program)
    program.chmod(0o755)
    nobody = 65534
    for path in (banyan.directory, banyan.config_file):
        os.chown(path, nobody, nobody)

    def said():
        it = subprocess.run([program, "--config", banyan.config_file], user=nobody, group=nobody, extra_groups=[], timeout=60 * SLOW,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert it.returncode == 1, it.stdout
        return it.stdout.splitlines()[-1]

    state = banyan.directory / "state"
    state.chmod(0o755)
    assert f"cannot write to the state directory {state}" in said()
    state.chmod(0o777)
    (state / "banyan.lock").chmod(0o666)
    words = said()
    assert str(state / "banyan.db") in words and "readonly" in words.replace("read-only", "readonly"), words
    os.chown(banyan.directory, 0, 0)
    os.chown(banyan.config_file, 0, 0)


def test_a_state_database_damaged_while_running_is_never_silently_wrong(migration):
    banyan = migration(SCHEMA, "insert into t select g, 'x' from generate_series(1, 100) g", lease=LEASE).lead_to("DUAL_WRITE")
    banyan.settle_and_compare()
    file = banyan.directory / "state" / "banyan.db"
    banyan.restart()  # the log is in the file now
    overwrite(file, 4096, os.urandom(file.stat().st_size - 4096))
    for row in range(1000, 1040):
        with contextlib.suppress(psycopg2.Error):
            banyan.sql("insert into t values (%s, 'after the damage')", (row,))
    if banyan.process.poll() is None:
        banyan.process.kill()
    banyan.process.wait()
    banyan.process = None
    said = refusal(banyan)
    assert str(file) in said and "--seize-lease" in said
    shutil.rmtree(banyan.directory / "state")
    banyan.arguments = ["--seize-lease"]
    banyan.start().settle_and_compare()
