"""A transaction of very many rows: its keys are kept as ranges. Mirrored, it leaves nothing to be done; not mirrored, its
ranges alone are verified and repaired."""
import threading
import time

import kit
from kit import wait_until

SCHEMA = "create table t (id int primary key, v text, n int default 0)"
PATIENT = {"commit_timeout_ms": 120000, "lock_timeout_ms": 100000}


def seed(rows):
    return f"insert into t select g, 'row', 0 from generate_series(1, {rows}) g"


def test_an_update_of_three_hundred_thousand_rows_is_mirrored_and_leaves_nothing(migration):
    banyan = migration(SCHEMA, seed(300_000), mirror=PATIENT)
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill(120 * kit.SLOW)
    before = banyan.admin.get("/journal")
    largest = []
    over = threading.Event()

    def watch():
        while not over.is_set():
            largest.append(banyan.admin.get("/journal")["bytes"])
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with banyan.wire() as client:
        client.socket.settimeout(120 * kit.SLOW)
        client.query("update t set n = n + 1").ok()
        client.query("delete from t where id between 100001 and 200000").ok()
    over.set()
    watcher.join()
    wait_until(lambda: banyan.admin.get("/journal")["in_flight"] == 0, lambda: banyan.admin.get("/journal"), 60 * kit.SLOW)
    after = banyan.admin.get("/journal")
    assert after["collapsed_writes_total"] == 2
    assert after["dirty"] == 0 and after["suspects"] == [], after
    assert max(largest) - before["bytes"] < 1_000_000, "a key each would be 6 MB"
    assert banyan.assert_equal(settle=2) == {"public.t": 200_000}


def test_one_that_the_mirror_did_not_commit_is_verified_in_its_ranges_alone(own_target, migration):
    banyan = migration(SCHEMA, seed(6000), target=own_target, journal={"max_transaction_keys": 200})
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill(120 * kit.SLOW)
    banyan.admin.wait_clean(60 * kit.SLOW)
    # The mirror waits for this lock when it is frozen: its COMMIT has not been sent.
    locker = own_target.connect(banyan.database, autocommit=False)
    locker.cursor().execute("select * from t where id = 1000 for update")
    with banyan.wire() as client:
        client.query("begin").ok()
        client.query("update t set n = n + 1 where id between 1000 and 2999").ok()
        client.query("delete from t where id between 4000 and 4499").ok()
        own_target.freeze()
        client.query("commit").ok()
    wait_until(lambda: banyan.admin.get("/journal")["suspects"], lambda: banyan.admin.get("/journal"), 20 * kit.SLOW)
    suspects = banyan.admin.get("/journal")["suspects"]
    assert [(it["table"], it["reason"]) for it in suspects] == [("public.t", "transaction_too_large")], suspects
    assert suspects[0]["ranges"] == 2
    # The rest of the table is not looked at: a difference planted there stays.
    own_target.thaw()
    locker.close()
    own_target.sql("update t set v = 'planted' where id = 5500", banyan.database)
    banyan.admin.wait_clean(120 * kit.SLOW)
    there = set(own_target.sql("select id, v, n from t", banyan.database))
    here = set(banyan.source.sql("select id, v, n from t", banyan.database))
    assert here ^ there == {(5500, "row", 0), (5500, "planted", 0)}
    own_target.sql("update t set v = 'row' where id = 5500", banyan.database)
    banyan.settle_and_compare()


def test_too_many_dirty_keys_become_ranges_and_are_repaired(own_target, migration):
    banyan = migration(SCHEMA, seed(6000), target=own_target, journal={"max_dirty_keys": 500})
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill(120 * kit.SLOW)
    banyan.admin.wait_clean(60 * kit.SLOW)
    own_target.stop()
    with banyan.wire() as client:
        for first in range(1000, 2000, 100):
            client.query(f"update t set n = n + 1 where id between {first} and {first + 99}").ok()
            assert banyan.admin.get("/journal")["dirty"] <= 500
    journal = banyan.admin.get("/journal")
    assert [it["reason"] for it in journal["suspects"]] == ["too_many_dirty_keys"], journal
    assert journal["collapsed_dirty_total"] > 0 and journal["max_dirty_keys"] == 500
    assert journal["dirty_tables"] == [{"table": "public.t", "dirty": journal["dirty"]}], journal
    metrics = banyan.admin.metrics()
    assert metrics["banyan_journal_collapsed_dirty_keys_total"] == journal["collapsed_dirty_total"]
    assert metrics["banyan_dirty_keys_by_table{table=\"public.t\"}"] == journal["dirty"]
    assert metrics["banyan_journal_bytes"] > 0
    banyan.restart()  # the suspicion and the keys last
    own_target.restart()
    banyan.settle_and_compare(120 * kit.SLOW)
