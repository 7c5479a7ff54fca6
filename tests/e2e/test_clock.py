"""Banyan's wall clock jumps, by hours, forward and back: what it measures it measures with another clock."""
import pathlib
import threading
import time

import pytest

import kit
from kit import wait_until

LIBRARY = pathlib.Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
SCHEMA = "create table t (id int primary key, v text, n int not null default 0)"


def test_jumps_of_the_clock_cost_nobody_anything(migration, tmp_path):
    assert LIBRARY.exists(), "deploy/install-packages installs it"
    clock = tmp_path / "clock"
    clock.write_text("+0")
    banyan = migration(SCHEMA, "insert into t select g, 'seed' from generate_series(1, 500) g", start=False,
                       limits={"idle_in_transaction_timeout_ms": int(30000 * kit.SLOW)})
    banyan.environment.update({"LD_PRELOAD": str(LIBRARY), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
                               "FAKETIME_DONT_FAKE_MONOTONIC": "1"})
    banyan.start()
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill(60 * kit.SLOW)
    over = threading.Event()
    problems, written = [], [0]

    def write():
        try:
            with banyan.wire() as client:
                while not over.is_set():
                    written[0] += 1
                    client.query(f"update t set n = n + 1 where id = {written[0] % 500 + 1}").ok()
                    time.sleep(0.005)
        except Exception as error:  # pylint: disable=broad-except
            problems.append(error)

    def jump(offset, hours):
        before = banyan.admin.status()["journal"]["journaled_total"]
        clock.write_text(offset)
        wait_until(lambda: banyan.admin.status()["journal"]["journaled_total"] > before + 50, "writers go on", 60 * kit.SLOW)
        # The clock is seen to be faked: the probe looks every 3 s.
        wait_until(lambda: abs(banyan.admin.status()["source"]["checked_unix_ms"] / 1000 - time.time() - hours * 3600) < 600,
                   banyan.admin.status, 30 * kit.SLOW)
        status = banyan.admin.status()
        assert status["lease"]["state"] == "held" and status["breaker"]["state"] == "closed", status
        assert status["journal"]["oldest_in_flight_ms"] < 60_000 and status["sessions"]["oldest_transaction_ms"] < 60_000, status

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with banyan.wire() as idle:
            idle.query("begin; insert into t values (1000, 'open while the clock jumps')").ok()
            jump("+3h", 3)
            jump("-20h", -20)
            idle.query("commit").ok()
        banyan.admin.wait_clean(60 * kit.SLOW)
        clock.write_text("+40h")  # in the middle of a change of phase with its deadline
        banyan.lead_to("DUAL_READ")
        clock.write_text("-40h")
        assert banyan.admin.get("/audit/check")["intact"] is True
    finally:
        over.set()
        writer.join(30 * kit.SLOW)
    assert not problems, problems
    jump_free = banyan.admin.status()
    assert jump_free["lease"]["state"] == "held"
    banyan.restart()  # what was stored at another time is taken up
    banyan.settle_and_compare(90)


@pytest.mark.short
def test_a_token_that_has_expired_by_the_clock_is_refused(migration):
    banyan = migration(SCHEMA, start=False)
    banyan.sections["admin.tokens"] = [{**token, **({"expires": "2020-01-01"} if token["name"] == "viewer" else {})}
                                       for token in banyan.sections["admin.tokens"]]
    banyan.start()
    assert banyan.admin.request("GET", "/api/v1/status", token="viewer-secret")[0] == 401
    assert banyan.admin.request("GET", "/api/v1/status", token="operator-secret")[0] == 200
