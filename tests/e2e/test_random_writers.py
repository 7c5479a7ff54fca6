"""Concurrent random writers through all phases, with the backfill running, compared at the end.

The writers fight for few keys on purpose: inserts, updates, deletes, key changes, savepoints, rollbacks,
several statements in a transaction, in the simple and the extended protocol. A conflict that
PostgreSQL itself would report is fine; anything else fails. Each committed transaction leaves a
receipt, so that nothing a client was told of can be missing.
"""
import collections
import random
import time

import pytest

import kit
from kit import Workers
from wire import Closed, WireError

SCHEMA = """
create table plain (id int primary key, v text, n int default 0, at timestamptz default clock_timestamp(), r float8 default random());
create table pair (a int, b text, v text, primary key (a, b));
create table uniq (id int primary key, code text unique, v text);
create table ident (id bigint generated always as identity primary key, writer int, u uuid default gen_random_uuid());
create table parent (id int primary key, v text);
create table child (id int primary key, parent_id int references parent, v text);
create table receipts (writer int, number int, at timestamptz default now(), primary key (writer, number));
"""
ROWS = """
insert into plain (id, v) select g, 'seed ' || g from generate_series(1, 30000) g;
insert into pair select g % 100, 'b' || g / 100, 'seed' from generate_series(1, 5000) g;
insert into uniq select g, 'code' || g, 'seed' from generate_series(1, 3000) g;
insert into parent select g, 'seed' from generate_series(1, 60) g;
insert into child select g, 1 + g % 60, 'seed' from generate_series(1, 120) g;
"""
HOT = 60
EXPECTED = {"23505", "23503", "40P01"}  # unique, foreign key, deadlock


class Writer:
    """One client; statement() runs SQL in its protocol, errors() counts what PostgreSQL refused."""

    def __init__(self, banyan, number, seed, patient=False):
        self.banyan, self.number = banyan, number
        self.random = random.Random(f"{seed}/{number}")
        self.extended = number % 2 == 1
        self.client = banyan.wire()
        self.acknowledged, self.unsure, self.next_receipt = set(), set(), 0
        self.refused = collections.Counter()
        self.longest = 0.0
        self.patient = patient  # the server may vanish: connect again, and remember what is unsure

    def statement(self, sql):
        began = time.monotonic()
        try:
            reply = self.client.extended(sql) if self.extended else self.client.query(sql)
        finally:
            self.longest = max(self.longest, time.monotonic() - began)
        return reply.ok()

    def some_write(self):
        pick, hot = self.random, lambda: self.random.randint(1, HOT)
        anywhere = lambda: pick.choice((hot(), pick.randint(1, 33000)))  # noqa: E731
        text = f"w{self.number} {pick.random()}"
        return pick.choice([
            lambda: f"insert into plain (id, v) values ({anywhere()}, '{text}') on conflict do nothing",
            lambda: f"insert into plain (id, v) values ({anywhere()}, '{text}') on conflict (id) do update set v = excluded.v, n = plain.n + 1",
            lambda: f"insert into plain (id, v) values ({anywhere()}, '{text}')",
            lambda: f"update plain set v = '{text}', n = n + 1 where id = {anywhere()}",
            lambda: f"update plain set n = n + 1, r = random() where id between {(low := pick.randint(1, 30000))} and {low + 20}",
            lambda: f"delete from plain where id = {anywhere()}",
            lambda: f"delete from plain where id between {(low := pick.randint(1, 30000))} and {low + 3} returning *",
            lambda: f"update plain set id = {anywhere()} where id = {anywhere()}",
            lambda: f"update pair set a = {pick.randint(0, 99)}, v = '{text}' where a = {pick.randint(0, 99)} and b = 'b{pick.randint(0, 9)}' returning a, b",
            lambda: f"insert into pair values ({pick.randint(0, 99)}, 'b{pick.randint(0, 9)}', '{text}') on conflict (a, b) do update set v = excluded.v",
            lambda: f"delete from pair where a = {pick.randint(0, 99)} and b = 'b{pick.randint(0, 9)}'",
            lambda: f"insert into uniq values ({hot()}, 'code{hot()}', '{text}') on conflict (code) do update set v = excluded.v",
            lambda: f"update uniq set code = 'code{hot()}' where id = {hot()}",
            lambda: f"delete from uniq where code = 'code{hot()}'",
            lambda: f"insert into ident (writer) select {self.number} from generate_series(1, {pick.randint(1, 3)})",
            lambda: f"update ident set u = gen_random_uuid() where id = (select id from ident where writer = {self.number} order by random() for update skip locked limit 1)",
            lambda: f"delete from ident where id = (select min(id) from ident where writer = {self.number})",
            lambda: f"insert into parent values ({100 + hot()}, '{text}') on conflict (id) do update set v = excluded.v",
            lambda: f"insert into child values ({200 + hot()}, {100 + hot()}, '{text}') on conflict do nothing",
            lambda: f"update child set parent_id = {pick.randint(1, 60)} where id = {hot()}",
            lambda: f"delete from child where id = {200 + hot()}",
            lambda: f"delete from parent where id = {100 + hot()}",
            lambda: f"select count(*), sum(n) from plain where id between {(low := pick.randint(1, 30000))} and {low + 100}",
            lambda: f"select * from pair where a = {pick.randint(0, 99)} order by b",
        ])()

    def tolerant(self, sql):
        """True if it went through; False if PostgreSQL refused it for a conflict."""
        try:
            self.statement(sql)
            return True
        except WireError as error:
            if error.sqlstate not in EXPECTED:
                raise
            self.refused[error.sqlstate] += 1
            return False

    def transaction(self):
        pick = self.random
        if pick.random() < 0.4:
            self.tolerant(self.some_write())
            return
        receipt = self.next_receipt = self.next_receipt + 1
        self.statement("begin")
        open_savepoints = 0
        for _ in range(pick.randint(1, 5)):
            action = pick.random()
            if action < 0.2:
                self.statement(f"savepoint s{open_savepoints}")
                open_savepoints += 1
            elif action < 0.3 and open_savepoints:
                open_savepoints -= 1
                self.statement(f"rollback to s{open_savepoints}")
                self.statement(f"release s{open_savepoints}")
            elif not self.tolerant(self.some_write()):
                if open_savepoints == 0 or pick.random() < 0.3:
                    self.statement("rollback")
                    return
                open_savepoints -= 1
                self.statement(f"rollback to s{open_savepoints}")
        if pick.random() < 0.1:
            self.statement("rollback")
            return
        self.statement(f"insert into receipts (writer, number) values ({self.number}, {receipt})")
        self.unsure.add(receipt)
        if self.statement("commit").tags == ["COMMIT"]:
            self.acknowledged.add(receipt)
        self.unsure.discard(receipt)

    def run(self, stop, pause=0.008):
        while not stop.is_set():
            try:
                self.transaction()
            except (Closed, OSError, WireError) as error:
                if not self.patient or isinstance(error, WireError) and not str(error.sqlstate).startswith(("57P", "08")):
                    raise
                self.reconnect(stop)
            stop.wait(self.random.random() * 2 * pause)

    def reconnect(self, stop):
        while not stop.is_set():
            try:
                self.client = self.banyan.wire()
                return
            except (Closed, OSError, WireError):
                stop.wait(0.1)


def check_receipts(cluster, database, writers):
    found = collections.defaultdict(set)
    for writer, number in cluster.sql("select writer, number from receipts", database):
        found[writer].add(number)
    for writer in writers:
        missing = writer.acknowledged - found[writer.number]
        extra = found[writer.number] - writer.acknowledged - writer.unsure
        assert not missing, f"writer {writer.number}: committed for the client, not in the database: {sorted(missing)[:10]}"
        assert not extra, f"writer {writer.number}: in the database, but the client was told otherwise: {sorted(extra)[:10]}"


def start_writers(banyan, count, seed, **options):
    writers = [Writer(banyan, number, seed, **options) for number in range(count)]
    return writers, Workers(count, lambda number, stop: writers[number].run(stop))


@pytest.mark.short
def test_random_writers_through_all_phases_leave_equal_databases(migration):
    banyan = migration(SCHEMA, ROWS, backfill={"max_chunk_rows": 700, "chunk_time_ms": 20})
    seed = str(time.time())
    print("seed", seed)
    writers, workers = start_writers(banyan, 8, seed)
    with workers:
        time.sleep(1)
        banyan.admin.transition("DUAL_WRITE", seconds=60 * kit.SLOW)
        banyan.admin.wait_backfill(120 * kit.SLOW)
        time.sleep(1)
        assert banyan.admin.verify(seconds=120 * kit.SLOW)["state"] == "equal"
        lead_under_load(banyan, "DUAL_READ")
        time.sleep(2)
        lead_under_load(banyan, "SWITCHOVER")
        time.sleep(2)
        lead_under_load(banyan, "DUAL_READ")
        time.sleep(1)
        lead_under_load(banyan, "SWITCHOVER")
        time.sleep(2)
    assert sum(len(writer.acknowledged) for writer in writers) > 100
    rows = banyan.settle_and_compare(120)
    assert rows["public.receipts"] > 100
    check_receipts(banyan.source, banyan.database, writers)
    check_receipts(banyan.target, banyan.database, writers)
    confirmed = banyan.admin.discrepancies()
    assert confirmed["confirmed"] == 0, confirmed
    second, workers = start_writers(banyan, 4, seed + "b")
    for writer in second:
        writer.next_receipt = 1000000
        writer.acknowledged |= writers[writer.number].acknowledged
    with workers:
        time.sleep(0.5)
        lead_under_load(banyan, "COMPLETE")
        time.sleep(1)
    check_receipts(banyan.target, banyan.database, second)


def lead_under_load(banyan, phase):
    """Waits for the gates, then goes; the writers never stop."""
    kit.wait_until(lambda: all(gate["verdict"] == "pass" for gate in banyan.admin.gates(phase)),
                   lambda: [gate for gate in banyan.admin.gates(phase) if gate["verdict"] != "pass"], 60 * kit.SLOW, 0.2)
    banyan.admin.transition(phase, seconds=60 * kit.SLOW)


def test_kill_9_of_banyan_under_load_converges_after_a_restart(migration):
    banyan = migration(SCHEMA, ROWS, backfill={"max_chunk_rows": 500, "chunk_time_ms": 10, "max_rows_per_second": 8000})
    writers, workers = start_writers(banyan, 6, "kill", patient=True)
    with workers:
        time.sleep(0.5)
        banyan.admin.transition("DUAL_WRITE")
        for pause in (0.7, 1.5, 2.0):  # while the backfill runs, too
            time.sleep(pause)
            banyan.kill9()
            time.sleep(0.2)
            banyan.start()
            assert banyan.admin.phase() == "DUAL_WRITE"
        banyan.admin.wait_backfill(120 * kit.SLOW)
        time.sleep(1)
        banyan.kill9()
        banyan.start()
        time.sleep(1)
    banyan.settle_and_compare(120)
    check_receipts(banyan.source, banyan.database, writers)
    assert sum(len(writer.acknowledged) for writer in writers) > 50


def test_switchover_and_rollback_under_load_fail_no_transaction(migration):
    banyan = migration(SCHEMA, ROWS)
    banyan.lead_to("DUAL_READ")
    writers, workers = start_writers(banyan, 6, "flip")
    pauses = []
    with workers:
        for _ in range(3):
            for phase in ("SWITCHOVER", "DUAL_READ"):
                time.sleep(0.5)
                lead_under_load(banyan, phase)
                pauses.append(banyan.admin.status()["last_flip"]["pause_microseconds"])
    print("pauses in ms:", [pause / 1000 for pause in pauses])
    # A hold may be over before any client has something to say; not all six under this load.
    assert len(pauses) == 6 and any(pause > 0 for pause in pauses)
    banyan.settle_and_compare()
    check_receipts(banyan.target, banyan.database, writers)
