"""Cancelling: on whatever is primary now, never a later query; and nothing goes on running for nobody."""
import random
import socket
import struct
import threading

import pytest

from kit import Workers, wait_until
from wire import cancel, query

ROWS = "insert into t select g, 'x' from generate_series(1, 2000) g"
SCHEMA = "create table t (id int primary key, v text)"
LONG_READ = "select count(*) from t a, t b, t c where a.v = b.v and b.v = c.v"


def running(cluster, banyan, text):
    return cluster.sql("select count(*) from pg_stat_activity where datname = %s and state <> 'idle' and query like %s and pid <> pg_backend_pid()",
                       parameters=(banyan.database, text + "%"))[0][0]


def vanish(client):
    """RST in place of a goodbye."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()


@pytest.mark.short
def test_a_key_from_before_the_switchover_cancels_on_the_new_primary(migration):
    banyan = migration(SCHEMA, ROWS)
    banyan.lead_to("DUAL_READ")
    with banyan.wire() as client:
        assert int(client.value("select pg_backend_pid()")) == client.process_id
        banyan.lead_to("SWITCHOVER")
        replies = []
        thread = threading.Thread(target=lambda: replies.append(client.query("select pg_sleep(60)")))
        thread.start()
        wait_until(lambda: running(banyan.target, banyan, "select pg_sleep") == 1, "it sleeps on the target")
        cancel(banyan.port, client.process_id, client.secret)
        thread.join(30)
        assert [error["C"] for error in replies[0].errors] == ["57014"]
        assert client.value("select 1") == "1"


@pytest.mark.short
@pytest.mark.parametrize("phase", ["INITIAL", "DUAL_WRITE", "DUAL_READ"])
def test_a_client_that_vanished_leaves_nothing_running_on_either_side(migration, phase):
    banyan = migration(SCHEMA, ROWS)
    banyan.lead_to(phase)
    sql = LONG_READ if phase == "DUAL_READ" else "select pg_sleep(300)"
    for leave in (vanish, lambda client: client.socket.close()):
        client = banyan.wire()
        client.send(query(sql))
        for cluster in (banyan.source, banyan.target) if phase == "DUAL_READ" else (banyan.source,):
            wait_until(lambda cluster=cluster: running(cluster, banyan, sql) == 1, "it runs")
        leave(client)
        for cluster in (banyan.source, banyan.target):
            wait_until(lambda cluster=cluster: running(cluster, banyan, sql) == 0, "nothing is left running", 20)


@pytest.mark.short
def test_a_client_that_vanished_while_its_mirror_waits_for_a_lock_leaves_no_statement_there(migration):
    banyan = migration(SCHEMA, ROWS, mirror={"commit_timeout_ms": 100000, "lock_timeout_ms": 90000})
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill()
    locker = banyan.target.connect(banyan.database, autocommit=False)
    locker.cursor().execute("lock table t in share mode")
    client = banyan.wire()
    client.query("begin").ok()
    client.query("truncate t").ok()
    wait_until(lambda: running(banyan.target, banyan, 'TRUNCATE TABLE "public"."t"') == 1, "the mirror waits for the lock")
    client.send(query("commit"))
    vanish(client)
    wait_until(lambda: running(banyan.target, banyan, 'TRUNCATE TABLE "public"."t"') == 0, "its statement has ended there", 20)
    wait_until(lambda: banyan.source.sql("select count(*) from pg_stat_activity where datname = %s and usename = 'app'",
                                         parameters=(banyan.database,)) == [(0,)], "no backend is left", 20)
    locker.rollback()
    locker.close()
    assert banyan.source.sql("select count(*) from t", banyan.database) == [(2000,)]
    banyan.settle_and_compare()


@pytest.mark.short
def test_a_cancel_that_comes_late_never_hits_a_later_query(migration):
    banyan = migration(SCHEMA, ROWS)
    cancelled = []

    def work(number, stop):
        dice = random.Random(number)
        with banyan.wire() as client:
            for _ in range(150):
                if stop.is_set():
                    break
                # Sent when the query is about to end: some hit it, some come too late for it.
                asking = threading.Thread(target=cancel, args=(banyan.port, client.process_id, client.secret))
                client.send(query(f"select pg_sleep({dice.choice((0.0005, 0.002, 0.004))})"))
                asking.start()
                cancelled.extend(error["C"] for error in client.reply().errors)
                following = [] if asking.is_alive() else [client.query("select 'a later one'") for _ in range(3)]
                asking.join()
                following += [client.query("select 'a later one'") for _ in range(3)]
                assert [reply.errors for reply in following if reply.errors] == []

    with Workers(4, work) as workers:
        for thread in workers.threads:
            thread.join(120)
    assert set(cancelled) == {"57014"}, "no cancel has hit anything: the test shows nothing"
