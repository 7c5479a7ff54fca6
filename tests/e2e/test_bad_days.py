"""The mirror cannot hurt the application: killed, frozen or refusing, clients see no error and no stall beyond
the configured bound, and when it is back the dirty keys go to zero and both sides are equal."""
import contextlib
import sqlite3
import time

import pytest

import kit
from kit import wait_until
from test_random_writers import ROWS, SCHEMA, check_receipts, start_writers

MIRROR = {"commit_timeout_ms": 600, "lock_timeout_ms": 400, "connect_timeout_ms": 500, "probe_interval_ms": 200}


def hurt(cluster, how):
    {"killed": cluster.stop, "frozen": cluster.freeze, "shut down": lambda: cluster.stop("fast")}[how]()


def heal(cluster, how):
    if how == "frozen":
        cluster.thaw()
    else:
        cluster.restart()


@pytest.mark.parametrize("how", ["killed", "frozen", "shut down"])
def test_a_mirror_in_trouble_costs_clients_no_error_and_is_repaired(own_target, migration, how):
    banyan = migration(SCHEMA, ROWS, target=own_target, mirror=MIRROR)
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill()
    writers, workers = start_writers(banyan, 4, how)
    with workers:
        time.sleep(1)
        hurt(own_target, how)
        for writer in writers:
            writer.longest = 0.0
        wait_until(lambda: banyan.admin.dirty() > 0, "keys turn dirty", 15)
        time.sleep(4)
        before = sum(len(writer.acknowledged) for writer in writers)
        time.sleep(1)
        assert sum(len(writer.acknowledged) for writer in writers) > before, "clients stand still"
        with banyan.wire() as newcomer:  # a session may begin without its mirror
            newcomer.query("insert into plain (id, v) values (50000, 'newcomer')").ok()
        assert banyan.admin.request("GET", "/readyz")[0] == 200
        assert banyan.admin.status()["breaker"]["state"] in ("open", "half_open")
        heal(own_target, how)
        wait_until(lambda: banyan.admin.status()["breaker"]["state"] == "closed", lambda: banyan.admin.status(), 20)
        time.sleep(2)
    # Generous against the machine, small against the 5 s the mirror was away.
    assert max(writer.longest for writer in writers) < 3 * kit.SLOW
    banyan.settle_and_compare(90)
    check_receipts(banyan.source, banyan.database, writers)


def test_a_mirror_that_dies_during_the_backfill_delays_it_only(own_target, migration):
    banyan = migration(SCHEMA, ROWS, target=own_target, mirror=MIRROR, backfill={"max_rows_per_second": 8000, "max_chunk_rows": 400})
    writers, workers = start_writers(banyan, 3, "backfill")
    with workers:
        banyan.admin.transition("DUAL_WRITE")
        time.sleep(1)
        own_target.stop()
        time.sleep(1.5)
        own_target.restart()
        banyan.admin.wait_backfill(90)
    banyan.settle_and_compare(90)


def test_in_initial_and_complete_the_other_database_may_be_gone(own_target, migration):
    banyan = migration("create table t (id int primary key)", target=own_target)
    own_target.stop()
    banyan.sql("insert into t values (1)")
    with pytest.raises((kit.AdminError, kit.TransitionError)):
        banyan.admin.transition("DUAL_WRITE")
    assert banyan.admin.phase() == "INITIAL"
    banyan.sql("insert into t values (2)")
    own_target.restart()
    banyan.lead_to("DUAL_WRITE")
    banyan.settle_and_compare()


def test_a_restart_while_the_mirror_is_away_serves_clients(own_target, migration):
    banyan = migration("create table t (id int primary key)", target=own_target, mirror=MIRROR)
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill()
    own_target.stop()
    banyan.restart()
    with banyan.wire() as client:
        for number in range(5):
            client.query(f"insert into t values ({number})").ok()
    own_target.restart()
    banyan.settle_and_compare(60)
    assert own_target.sql("select count(*) from t", banyan.database) == [(5,)]


def test_a_primary_that_dies_closes_its_sessions_with_postgresqls_own_words(room, target, migration):
    own_source = kit.Cluster(room / "source-that-dies")
    try:
        own_source.create_database("dies")
        target.create_database("dies")
        banyan = kit.Banyan(room / "dies", own_source, target, "dies").start()
        try:
            client = banyan.wire()
            client.query("create table t (id int primary key)").ok()
            own_source.stop()
            client.socket.settimeout(10)
            client.wait_closed()
            wait_until(lambda: banyan.admin.request("GET", "/readyz")[0] == 503, "not ready")
            assert banyan.admin.request("GET", "/livez")[0] == 200
            with pytest.raises((kit.comparison.psycopg2.OperationalError)):
                banyan.connect()
            own_source.restart()
            wait_until(lambda: banyan.admin.request("GET", "/readyz")[0] == 200, "ready again")
            assert banyan.sql("select count(*) from t") == [(0,)]
        finally:
            banyan.close()
    finally:
        own_source.close()
        target.drop_database("dies")


def test_a_lock_on_the_mirror_makes_keys_dirty_and_delays_clients_only_once(migration):
    banyan = migration("create table t (id int primary key, v text)", "insert into t select generate_series(1, 100)", mirror=MIRROR)
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill()
    locker = banyan.target.connect(banyan.database, autocommit=False)
    locker.cursor().execute("update t set v = 'locked' where id = 5")
    with banyan.wire() as client:
        client.query("update t set v = 'mine' where id = 5").ok()
        assert client.value("select v from t where id = 5") == "mine"
        client.query("update t set v = 'other' where id = 6").ok()
    locker.rollback()
    locker.close()
    banyan.settle_and_compare()


def in_state(banyan, *statements):
    """Changes the state file of a Banyan that does not run."""
    state = next(path for path in (banyan.directory / "state").iterdir() if path.is_file() and path.read_bytes()[:15] == b"SQLite format 3")
    with contextlib.closing(sqlite3.connect(state)) as file, file:
        for statement in statements:
            file.execute(statement)


def test_killed_as_mirroring_begins_what_the_target_held_is_verified(migration):
    """The phase was persisted and no table marked yet: as if it had been killed between the two."""
    banyan = migration("create table t (id int primary key, v text)", "insert into t select g, 'right' from generate_series(1, 50) g")
    banyan.target.sql("insert into t values (7, 'stale'), (70, 'only here')", banyan.database)
    banyan.kill9()
    in_state(banyan, "insert into phase_history (at_unix_ms, from_phase, phase, reason, transition) "
                     "values (1, 'INITIAL', 'DUAL_WRITE', '', 't-000001')")
    banyan.start()
    assert banyan.admin.phase() == "DUAL_WRITE"
    banyan.admin.wait_backfill()
    banyan.settle_and_compare()


def test_killed_as_mirroring_ends_the_journal_is_forgotten_by_the_next_start(migration):
    """INITIAL was persisted, dirty keys and suspicions not forgotten yet: they would be shown for ever."""
    banyan = migration("create table t (id int primary key)")
    banyan.kill9()
    in_state(banyan, "insert into dirty values (1, x'0000000400000001', 1, 'window')", "insert into suspects (table_id, generation, reason, since_unix_ms) values (1, 2, 'recovered', 1)")
    banyan.start()
    journal = banyan.admin.get("/journal")
    assert (journal["dirty"], journal["suspect_tables"], journal["in_flight"]) == (0, 0, 0), journal
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill()
    banyan.settle_and_compare()
