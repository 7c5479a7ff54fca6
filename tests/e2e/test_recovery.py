"""Banyan is killed with kill -9 at any moment, in every phase and in the middle of every change, and started again:
what it persisted is what it follows, a change under way is shown as interrupted, and both sides converge by themselves."""
import contextlib
import os
import random
import signal
import threading
import time

import psycopg2
import pytest

import kit
from kit import wait_until
from test_random_writers import ROWS, SCHEMA, check_receipts, start_writers
from wire import query

SIMPLE = "create table t (id int primary key, v text)"
SEED = os.environ.get("BANYAN_SEED", "1")
ROUNDS = int(os.environ.get("BANYAN_ROUNDS", "0"))  # more of them by hand


def ask(banyan, to):
    """Starts the transition from another thread: the answer may never come."""
    def run():
        with contextlib.suppress(Exception):
            banyan.admin.start_transition(to)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def killed_within(banyan, to, pause):
    """Kill -9 `pause` seconds into the transition, start again. The phase that is followed now."""
    before = banyan.admin.phase()
    asking = ask(banyan, to)
    time.sleep(pause)
    banyan.kill9()
    asking.join()
    banyan.start()
    status = banyan.admin.status()
    assert status["phase"] in (before, to) and not status["hold"] and status["transition"] is None, status
    last = banyan.admin.get("/transitions")["transitions"][:1]
    if last and last[0]["to"] == to and last[0]["from"] == before:
        assert last[0]["state"] in ("done", "failed", "rejected"), last
        if last[0]["state"] == "failed":
            assert "interrupted" in last[0]["error"].lower(), last
        if last[0]["state"] == "done":
            assert status["phase"] == to, (last, status["phase"])
    return status["phase"]


def gates_pass(banyan, to):
    wait_until(lambda: all(gate["verdict"] == "pass" for gate in banyan.admin.gates(to)),
               lambda: [gate for gate in banyan.admin.gates(to) if gate["verdict"] != "pass"], 90 * kit.SLOW, 0.2)


@pytest.mark.parametrize("there, back", [("DUAL_WRITE", "INITIAL"), ("SWITCHOVER", "DUAL_READ")])
def test_kill_9_within_a_change_of_phase_leaves_the_one_phase_or_the_other(migration, there, back):
    banyan = migration(SCHEMA, ROWS, shadow={"min_samples": 1, "share": 1.0})
    chance = random.Random(f"{SEED}/{there}")
    banyan.lead_to(back)
    writers, workers = start_writers(banyan, 4, f"kill {there}", patient=True)
    seen = set()
    with workers:
        for _ in range(ROUNDS or 4):
            to = back if banyan.admin.phase() == there else there
            gates_pass(banyan, to)
            pause = chance.choice((0.02, 0.05, 0.1, 0.2, 0.4, 0.8)) * (0.5 + chance.random())
            print(f"to {to}, killed after {pause:.3f} s")
            seen.add((to, killed_within(banyan, to, pause) == to))
            time.sleep(0.3)
        if banyan.admin.phase() == "INITIAL":
            banyan.admin.transition("DUAL_WRITE", seconds=60 * kit.SLOW)
        banyan.admin.wait_backfill(120 * kit.SLOW)
    print("seen", seen)
    banyan.settle_and_compare(120)
    source_is_primary = banyan.admin.phase() != "SWITCHOVER"
    check_receipts(banyan.source if source_is_primary else banyan.target, banyan.database, writers)


def test_kill_9_during_backfill_repair_and_verification_at_random_moments(migration):
    banyan = migration(SCHEMA, ROWS, backfill={"max_chunk_rows": 300, "chunk_time_ms": 10, "max_rows_per_second": 10000})
    chance = random.Random(SEED)
    writers, workers = start_writers(banyan, 4, "kill workers", patient=True)
    with workers:
        banyan.admin.transition("DUAL_WRITE", seconds=60 * kit.SLOW)
        for number in range(ROUNDS or 5):
            # Rows that are wrong on the target give verification and repair something to do.
            banyan.target.sql(f"update plain set v = 'wrong' where id % 7 = {number % 7}; delete from pair where a % 9 = {number % 9}", banyan.database)
            if number % 2:
                with contextlib.suppress(kit.AdminError):
                    banyan.admin.post("/verifications", {"repair": True})
            time.sleep(0.1 + 1.5 * chance.random())
            banyan.kill9()
            banyan.start()
            assert banyan.admin.phase() == "DUAL_WRITE"
        banyan.admin.wait_backfill(120 * kit.SLOW)
    banyan.admin.wait_clean(120 * kit.SLOW)
    # What the test itself has spoilt behind Banyan's back is found by verification alone.
    wait_until(lambda: banyan.admin.verify(repair=True, seconds=120 * kit.SLOW)["state"] == "equal", "repaired", 120 * kit.SLOW)
    banyan.settle_and_compare(120)
    check_receipts(banyan.source, banyan.database, writers)


def test_kill_9_while_clients_are_held_is_as_if_nothing_had_been_tried(migration):
    banyan = migration(SIMPLE, "insert into t select g, 'old' from generate_series(1, 100) g")
    banyan.lead_to("DUAL_READ")
    banyan.feed_shadow_reads()
    gates_pass(banyan, "SWITCHOVER")
    open_one, held = banyan.wire(), banyan.wire()
    open_one.query("begin; update t set v = 'open' where id = 1").ok()
    banyan.admin.start_transition("SWITCHOVER")
    wait_until(lambda: banyan.admin.status()["hold"], banyan.admin.status, 60 * kit.SLOW)
    held.send(query("update t set v = 'held' where id = 2"))
    time.sleep(0.5)
    banyan.kill9()
    assert held.wait_closed(20) == []
    banyan.start()
    status = banyan.admin.status()
    assert (status["phase"], status["hold"], status["transition"]) == ("DUAL_READ", False, None)
    last = banyan.admin.get("/transitions")["transitions"][0]
    assert last["state"] == "failed" and "interrupted" in last["error"].lower(), last
    assert banyan.sql("select v from t where id in (1, 2)") == [("old",), ("old",)]
    banyan.settle_and_compare(60)
    banyan.lead_to("SWITCHOVER")
    banyan.settle_and_compare(60)


@pytest.mark.parametrize("phase", ["DUAL_WRITE", "SWITCHOVER"])
def test_a_frozen_backend_of_a_dead_banyan_that_commits_later_is_waited_for(migration, phase):
    banyan = migration(SIMPLE, "insert into t select g, 'old' from generate_series(1, 20) g")
    banyan.lead_to(phase)
    banyan.admin.wait_backfill(60 * kit.SLOW)
    primary = banyan.target if phase == "SWITCHOVER" else banyan.source
    client = banyan.wire(application_name="orphan")
    client.query("begin").ok()
    client.query("update t set v = 'late' where id = 1; insert into t values (100, 'late'); delete from t where id = 2").ok()
    process = primary.sql("select pid from pg_stat_activity where datname = %s and application_name = 'orphan'", parameters=[banyan.database])[0][0]
    os.kill(process, signal.SIGSTOP)
    try:
        client.send(query("commit"))
        wait_until(lambda: banyan.admin.get("/journal")["in_flight"] >= 1, banyan.admin.status, 20 * kit.SLOW)
        time.sleep(0.3)
        banyan.kill9()
        banyan.start()
        wait_until(lambda: str(process) in banyan.admin.status()["repair"]["last_error"], lambda: banyan.admin.status()["repair"], 30 * kit.SLOW)
        assert banyan.admin.dirty() >= 3 and not banyan.admin.status()["repair"]["running"]
        banyan.sql("update t set v = 'now' where id = 3")  # clients are served meanwhile
    finally:
        os.kill(process, signal.SIGCONT)
    banyan.settle_and_compare(60)
    assert primary.sql("select v from t where id in (1, 100)", banyan.database) == [("late",), ("late",)]


def test_recovery_ends_beside_clients_whose_transactions_overlap(migration):
    banyan = migration(SIMPLE, "insert into t select g, 'old' from generate_series(1, 20) g")
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill(60 * kit.SLOW)
    stranger = banyan.source.connect(banyan.database, autocommit=False)
    stranger.cursor().execute("select 1")  # keeps recovery from ending until it ends
    overlapping = []
    try:
        banyan.kill9()
        banyan.start()
        wait_until(lambda: str(stranger.info.backend_pid) in banyan.admin.status()["repair"]["last_error"], lambda: banyan.admin.status()["repair"],
                   30 * kit.SLOW)
        overlapping.append(banyan.source.connect(banyan.database, autocommit=False))
        overlapping[0].cursor().execute("select 1")
        time.sleep(3)  # the attempt begun before it is over
        stranger.rollback()
        wait_until(lambda: banyan.admin.status()["repair"]["running"], lambda: banyan.admin.status()["repair"], 30 * kit.SLOW)
    finally:
        for connection in (stranger, *overlapping):
            with contextlib.suppress(psycopg2.Error):
                connection.close()
    banyan.settle_and_compare(60)
