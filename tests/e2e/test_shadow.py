"""Shadow reads: a planted difference is found and confirmed with its fingerprint, equal reads are not reported."""
import contextlib
import json
import time

import pytest

import kit
from kit import AdminError, wait_until
from wire import SYNC, bind, execute, parse, query

SCHEMA = "create table t (id int primary key, v text, secret text); create table other (id int primary key, n numeric)"
ROWS = "insert into t select g, 'v' || g, 'secret' || g from generate_series(1, 200) g; insert into other select g, g / 3.0 from generate_series(1, 50) g"


@pytest.fixture
def dual_read(migration):
    banyan = migration(SCHEMA, ROWS, shadow={"min_samples": 1})
    banyan.sections["shadow"]["log"] = banyan.directory / "discrepancies.jsonl"
    banyan.restart()
    banyan.lead_to("DUAL_READ")
    return banyan


def connected(banyan):
    """A client whose session has its connection to the mirror: before that its reads are not shadowed."""
    client = banyan.wire()
    wait_until(lambda: client.query("begin; rollback").ok() and all(session["mirror_ready"] for session in banyan.admin.get("/sessions")["sessions"]),
               lambda: banyan.admin.get("/sessions"), 30 * kit.SLOW)
    return client


def settled(banyan):
    """Once nothing is pending any more."""
    time.sleep(0.3)
    return wait_until(lambda: (lambda found: found["pending"] == 0 and found)(banyan.admin.discrepancies()), lambda: banyan.admin.discrepancies(), 20)


@pytest.mark.short
def test_equal_reads_are_compared_and_not_reported(dual_read):
    before = dual_read.admin.get("/shadow")["matched"]
    with connected(dual_read) as client:
        for number in range(20):
            client.query(f"select * from t where id < {number * 10} order by id").ok()
            client.query("select count(*), min(v) from t").ok()
            client.query("select id from t limit 3").ok() if number == 0 else None
            client.extended("select t.v, o.n from t join other o using (id) where id = $1", [number], results=(1,)).ok()
            client.query("values (1), (2)").ok()
        client.send(parse("select n from other where id = $1", name="s"), *[bind([n], name="s") + execute() for n in range(10)], SYNC)
        client.reply().ok()
    wait_until(lambda: dual_read.admin.get("/shadow")["matched"] >= before + 60, lambda: dual_read.admin.get("/shadow"))
    found = settled(dual_read)
    assert found["confirmed"] == 0 and found["groups"] == [], found


@pytest.mark.short
def test_a_planted_difference_is_found_and_confirmed(dual_read):
    dual_read.target.sql("update t set v = 'planted' where id = 42", dual_read.database)
    with connected(dual_read) as client:
        assert client.value("select v from t where id = 42") == "v42"  # the client gets the primary's answer
        client.query("select v from t where id = 43").ok()
        client.extended("select id, v, secret from t where id = $1", [42]).ok()
    wait_until(lambda: dual_read.admin.discrepancies()["confirmed"] >= 2, lambda: dual_read.admin.discrepancies(), 20 * kit.SLOW)
    found = settled(dual_read)
    groups = found["groups"]
    assert len(groups) == 2, groups
    assert all(any("t" in table.split(".")[-1] for table in group["tables"]) and group["fingerprint"] for group in groups)
    assert {group["kind"] for group in groups} == {"rows"}
    assert "42" not in groups[0]["sql"] and "42" not in groups[1]["sql"]  # constants are taken out
    one = dual_read.admin.get(f"/discrepancies/{groups[0]['fingerprint']}")
    assert one["samples"]
    everything = json.dumps([one, groups, dual_read.admin.get(f"/discrepancies/{groups[1]['fingerprint']}")])
    assert "planted" not in everything and "secret42" not in everything  # redacted by default
    log = (dual_read.directory / "discrepancies.jsonl").read_text().splitlines()
    assert len(log) >= 2 and {json.loads(line)["fingerprint"] for line in log} == {group["fingerprint"] for group in groups}
    # It holds the gate shut until somebody says that it is known.
    gate = next(gate for gate in dual_read.admin.gates("SWITCHOVER") if gate["name"] == "shadow_mismatches")
    assert gate["verdict"] == "fail"
    for group in groups:
        dual_read.admin.post(f"/discrepancies/{group['fingerprint']}/acknowledge", {"note": "planted by a test"})
    assert dual_read.admin.discrepancies()["unacknowledged"] == 0


@pytest.mark.parametrize("plant, sql, kind", [
    ("delete from t where id = 7", "select * from t where id < 10", {"row_count", "rows"}),
    ("insert into t values (1000, 'extra')", "select id from t where id > 190 order by id", {"row_count", "rows"}),
    ("alter table t rename column secret to hidden", "select secret from t where id = 1", {"error"}),
    ("update other set n = n + 0.000001 where id = 3", "select sum(n) from other", {"rows"}),
], ids=["missing", "extra", "error", "value"])
def test_each_kind_of_difference_is_named(dual_read, plant, sql, kind):
    dual_read.target.sql(plant, dual_read.database)
    with connected(dual_read) as client:
        def confirmed():  # a session that is not connected to the mirror yet shadows nothing
            client.query(sql).ok()
            return dual_read.admin.discrepancies()["confirmed"] >= 1

        wait_until(confirmed, lambda: dual_read.admin.discrepancies(), 20 * kit.SLOW, pause=1)
    group = settled(dual_read)["groups"][0]
    assert group["kind"] in kind, group


@pytest.mark.short
def test_a_session_reads_its_own_writes_on_the_mirror(dual_read):
    with connected(dual_read) as client:
        for number in range(300, 330):
            client.query(f"insert into t values ({number}, 'new')").ok()
            client.query(f"select * from t where id = {number}").ok()
            client.query("begin").ok()
            client.query(f"update t set v = 'changed' where id = {number}").ok()
            client.query(f"select v from t where id = {number}").ok()
            client.query("rollback" if number % 2 else "commit").ok()
            client.query("select count(*) from t").ok()
    found = settled(dual_read)
    assert found["confirmed"] == 0, found


def test_reads_that_are_no_pure_selects_are_left_alone(dual_read):
    before = dual_read.admin.get("/shadow")["sent"]
    with connected(dual_read) as client:
        for sql in ("select now()", "select random()", "select pg_backend_pid()", "select clock_timestamp()", "select * from t where id = 1 for update",
                    "select nextval('pg_catalog.nope')", "show all", "select pg_advisory_lock(1)", "select gen_random_uuid(), id from t"):
            client.query(sql)
    settled(dual_read)
    assert dual_read.admin.get("/shadow")["sent"] == before


@pytest.mark.short
def test_sampling_can_be_changed_live(dual_read):
    dual_read.admin.call("PATCH", "/api/v1/shadow", {"share": 0})
    with connected(dual_read) as client:
        client.query("select 1 from t").ok()
        before = dual_read.admin.get("/shadow")["sent"]
        for _ in range(10):
            client.query("select * from t").ok()
        assert dual_read.admin.get("/shadow")["sent"] == before
        dual_read.admin.call("PATCH", "/api/v1/shadow", {"share": 1})
        for _ in range(10):
            client.query("select * from t").ok()
    wait_until(lambda: dual_read.admin.get("/shadow")["sent"] >= before + 8, lambda: dual_read.admin.get("/shadow"))
    with pytest.raises(AdminError):
        dual_read.admin.call("PATCH", "/api/v1/shadow", {"share": 1.5})


def test_after_the_switchover_reads_are_shadowed_the_other_way(dual_read):
    dual_read.lead_to("SWITCHOVER")
    dual_read.source.sql("update t set v = 'only on the source' where id = 9", dual_read.database)
    assert dual_read.sql("select v from t where id = 9") == [("v9",)]
    wait_until(lambda: dual_read.admin.discrepancies()["confirmed"] == 1, lambda: dual_read.admin.discrepancies(), 20 * kit.SLOW)


def test_a_frozen_mirror_delays_no_read(own_target, migration):
    banyan = migration(SCHEMA, ROWS, target=own_target, mirror={"commit_timeout_ms": 500, "connect_timeout_ms": 500, "lock_timeout_ms": 300})
    banyan.lead_to("DUAL_READ")
    with banyan.wire() as client:
        client.query("select count(*) from t").ok()
        own_target.freeze()
        began = time.monotonic()
        for _ in range(20):
            assert client.value("select count(*) from t") == "200"
        assert time.monotonic() - began < 3
        own_target.thaw()


@pytest.mark.short
def test_the_primary_has_a_head_start_and_the_mirror_reads_all_the_same(dual_read):
    """Beside the client's own read the mirror's would only take the machine's time."""
    def on_the_target():
        return dual_read.target.sql("select count(*) from pg_stat_activity where query like 'select v from t where id = 7%'", dual_read.database)[0][0]

    before = dual_read.admin.get("/shadow")["matched"]
    with connected(dual_read) as client, dual_read.source.connect(dual_read.database) as lock:
        lock.cursor().execute("begin; lock table t in access exclusive mode")
        client.send(query("select v from t where id = 7"))
        wait_until(lambda: dual_read.source.sql("select count(*) from pg_locks where not granted", dual_read.database)[0][0] == 1, "", 30 * kit.SLOW)
        time.sleep(0.3)
        assert on_the_target() == 0
        lock.rollback()
        client.reply().ok()
        wait_until(lambda: dual_read.admin.get("/shadow")["matched"] == before + 1, lambda: dual_read.admin.get("/shadow"), 30 * kit.SLOW)
        assert on_the_target() == 1


@pytest.mark.short
def test_reads_of_a_table_that_waits_for_repair_are_not_confirmed(dual_read):
    """What is not mirrored by row makes its table suspect; until that is repaired, a difference says nothing new."""
    with connected(dual_read) as client:
        client.query("create view v as select id, v from t").ok()
        for number in range(30):
            client.query(f"do $$ begin insert into t values ({1000 + number}, 'by a block'); end $$").ok()
            client.query("select count(*), max(id) from t").ok()
            client.extended("select v from t where id = $1", [1000 + number]).ok()
            client.query("select count(*) from v").ok()
    found = settled(dual_read)
    assert found["confirmed"] == 0 and found["groups"] == [], found
    shadow = dual_read.admin.get("/shadow")
    assert shadow["raced"] + shadow["inconclusive"] + shadow["matched"] > 0, shadow
    dual_read.settle_and_compare()


# --- run again by Banyan itself ---

@pytest.mark.short
def test_a_statement_that_is_slower_on_the_target_is_a_discrepancy_until_it_is_not(migration):
    schema = "create table big (id int primary key, n int); create index by_n on big (n)"
    banyan = migration(schema, "insert into big select g, g % 1000 from generate_series(1, 200000) g", shadow={
        "min_samples": 1, "rerun_share": 1.0, "rerun_duty": 1.0, "slower_factor": 3.0, "slower_by_ms": 2})
    banyan.lead_to("DUAL_READ")
    banyan.target.sql("drop index by_n", banyan.database)
    banyan.source.sql("vacuum analyze big", banyan.database)

    with connected(banyan) as client:
        def read_until(condition):
            def ask():
                for number in range(5):
                    client.query(f"select count(*) from big where n = {number}").ok()
                    client.query(f"select id from big where id = {number + 1}").ok()
                return condition()
            return wait_until(ask, lambda: banyan.admin.get("/shadow/times"), 60 * kit.SLOW)

        def slower():
            return [group for group in banyan.admin.discrepancies()["groups"] if group["kind"] == "slower"]

        groups = read_until(slower)
        assert len(groups) == 1 and "big where n" in groups[0]["sql"] and groups[0]["tables"] == ["big"], groups
        assert banyan.admin.get("/shadow")["reruns"]["slower"] == 1
        assert banyan.admin.metrics()["banyan_slower_statements"] == 1
        statements = banyan.admin.get("/shadow/times")["statements"]
        assert statements[0]["slower"] and statements[0]["target_us"] > 3 * statements[0]["source_us"]
        assert groups[0]["fingerprint"] == statements[0]["fingerprint"] + "-slower"
        one = banyan.admin.get(f"/discrepancies/{groups[0]['fingerprint']}")
        assert one["samples"][0]["times"]["target_us"] >= one["samples"][0]["times"]["source_us"] + 2000
        gate = next(gate for gate in banyan.admin.gates("SWITCHOVER") if gate["name"] == "shadow_mismatches")
        assert gate["verdict"] == "fail"
        told = banyan.ctl("shadow", "--times")
        assert told.returncode == 0 and "yes" in told.stdout.splitlines()[1], told.stdout

        banyan.target.sql("create index by_n on big (n)", banyan.database)
        banyan.target.sql("vacuum analyze big", banyan.database)
        read_until(lambda: not slower())
        assert banyan.admin.metrics()["banyan_slower_statements"] == 0
    assert banyan.admin.get("/shadow")["mismatched"] == 0


def test_how_often_the_primary_disagrees_with_itself_is_counted(migration):
    banyan = migration(SCHEMA, ROWS, shadow={"min_samples": 1, "rerun_share": 1.0, "rerun_duty": 1.0})
    banyan.lead_to("DUAL_READ")

    def reruns():
        return banyan.admin.get("/shadow")["reruns"]

    with connected(banyan) as client:
        def read_until(condition):
            def ask():
                for number in range(1, 20):
                    client.query(f"select v, n from t join other using (id) where id < {number}").ok()
                return condition()
            return wait_until(ask, reruns, 30 * kit.SLOW)

        read_until(lambda: reruns()["agreed"] >= 5)
        assert reruns()["disagreed"] == 0  # nobody writes

        def write(_, stop):
            with contextlib.closing(banyan.connect()) as connection, connection.cursor() as cursor:
                while not stop.is_set():
                    cursor.execute("update other set n = n + 1 where id = 1")

        with kit.Workers(1, write):
            read_until(lambda: reruns()["disagreed"] >= 3)
    found = settled(banyan)
    assert found["confirmed"] == 0, found  # which is what it is to be compared with
