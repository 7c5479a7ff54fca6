"""The dashboard in a browser, at the program's own `/`, against live databases.

BANYAN_DASHBOARD_URL        another address of the page; {port} in it becomes the admin API's port
BANYAN_DASHBOARD_SHOTS      a directory for screenshots
BANYAN_DASHBOARD_NODE_MODULES  node_modules that is there already, instead of npm ci
"""
import contextlib
import json
import os
import pathlib
import re
import subprocess
import threading
import time

import pytest

import kit
from kit import TOKENS, wait_until
from relay import Relay

HERE = pathlib.Path(__file__).resolve().parent
SCHEMA = "create table item (id int primary key, name text, price numeric, secret text)"
ROWS = "insert into item select g, 'name ' || g, g / 4.0, 'secret ' || g from generate_series(1, 500) g"
HOSTILE_TABLE = "<script>window.hostile=1</script>"
HOSTILE_COLUMN = "<img src=x onerror=window.hostile=2>"
HOSTILE_APPLICATION = "<b onclick=alert(1)>app</b>"


@pytest.fixture
def browse(node_modules):
    """browse(banyan, scenario, **context) runs a scenario; its output."""
    def run(banyan, scenario, **context):
        url = os.environ.get("BANYAN_DASHBOARD_URL", "http://127.0.0.1:{port}").format(port=banyan.admin_port)
        done = subprocess.run(["node", HERE / f"{scenario}.mjs"], input=json.dumps({"url": url + "/", "tokens": TOKENS, **context}), text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=140 * kit.SLOW, check=False,
                              env={**os.environ, "BANYAN_DASHBOARD_NODE_MODULES": str(node_modules)})
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    return run


def plant(banyan, change, read):
    """A difference on the target, and the read that finds it; its fingerprint."""
    known = {group["fingerprint"] for group in banyan.admin.discrepancies()["groups"]}
    banyan.target.sql(change, banyan.database)
    banyan.sql(read)
    return wait_until(lambda: next((group["fingerprint"] for group in banyan.admin.discrepancies()["groups"] if group["fingerprint"] not in known), None),
                      lambda: banyan.admin.discrepancies(), 20 * kit.SLOW)


def test_sign_in_phases_and_a_gate_that_says_why_it_is_shut(migration, browse):
    banyan = migration(SCHEMA + "; create table keyless (v text)", ROWS)
    browse(banyan, "sign_in")
    assert banyan.admin.phase() == "INITIAL"


def test_a_change_of_phase_needs_the_phases_name_and_can_be_taken_back(migration, browse):
    banyan = migration(SCHEMA, ROWS)
    browse(banyan, "change", **{"from": "INITIAL", "to": "DUAL_WRITE"})
    assert banyan.admin.phase() == "DUAL_WRITE"
    banyan.admin.wait_backfill(60 * kit.SLOW)
    banyan.admin.wait_clean(60 * kit.SLOW)
    browse(banyan, "change", **{"from": "DUAL_WRITE", "to": "INITIAL", "back": True})
    assert banyan.admin.phase() == "INITIAL"
    entry = next(entry for entry in banyan.admin.get("/audit")["audit"] if entry["action"] == "transition.create")
    assert (entry["actor"], entry["reason"]) == ("operator", "a test of the dashboard")


def rows(cluster, database, sql):
    """{key: (text or None, ...)} as the server prints it."""
    return {row[0]: row for row in cluster.sql(sql, database)}


def test_the_cells_shown_as_differing_are_those_that_sql_finds(migration, browse):
    banyan = migration(SCHEMA, ROWS, shadow={"min_samples": 1, "redact": False})
    banyan.lead_to("DUAL_READ")
    columns = ["id", "name", "price", "secret"]
    plant(banyan, "update item set name = 'planted', secret = null where id = 42; delete from item where id = 43; update item set price = 0.5 where id = 44",
          "select id, name, price, secret from item where id between 40 and 45 order by id")
    shown = json.loads(browse(banyan, "discrepancy", name="values", link="SELECT id, name, price, secret".lower(), acknowledge="planted by <b>a test</b>"))
    truth = "select id::text, name, price::text, secret from item where id between 40 and 45"
    here, there = rows(banyan.source, banyan.database, truth), rows(banyan.target, banyan.database, truth)
    expected = {(side, key): [(cell, other.get(key) is not None and cell != other[key][at]) for at, cell in enumerate(row)]
                for side, mine, other in (("primary", here, there), ("mirror", there, here))
                for key, row in mine.items() if other.get(key) != row}
    assert shown["columns"] == columns
    text = {"NULL": None}
    assert {(row["side"].split()[0], row["cells"][0]["text"]): [(text.get(cell["text"], cell["text"]), cell["differs"]) for cell in row["cells"]]
            for row in shown["rows"]} == expected
    assert all(cell["differs"] == cell["marked"] for row in shown["rows"] for cell in row["cells"])
    assert [row["head"] for row in shown["rows"] if "alone" in row["side"]] == ["− only on the primary"]
    group = banyan.admin.discrepancies()["groups"][0]
    assert (group["acknowledged_by"], group["note"]) == ("operator", "planted by <b>a test</b>")


def test_redacted_cells_are_shown_as_such(migration, browse):
    banyan = migration(SCHEMA, ROWS)
    banyan.lead_to("DUAL_READ")
    plant(banyan, "update item set name = 'other' where id = 7", "select id, name, secret from item where id = 7")
    shown = json.loads(browse(banyan, "discrepancy", name="redacted", link="select id, name, secret"))
    primary, mirror = shown["rows"]
    assert shown["hidden"] and [cell["differs"] for cell in primary["cells"]] == [False, True, False]
    assert "redacted" in primary["cells"][1]["text"] and "text, 6 bytes" in primary["cells"][1]["text"]
    assert "text, 5 bytes" in mirror["cells"][1]["text"]


def hostile_migration(migration):
    table, column = f'"{HOSTILE_TABLE}"', f'"{HOSTILE_COLUMN}"'
    banyan = migration(f"create table {table} (id int primary key, {column} text); {SCHEMA}", f"insert into {table} values (1, 'a'); {ROWS}")
    banyan.lead_to("DUAL_READ")
    return banyan, table, column


def test_names_that_are_html_are_shown_as_text(migration, browse):
    banyan, table, column = hostile_migration(migration)
    plant(banyan, f"update {table} set {column} = '<script>window.hostile=3</script>'", f"select id, {column} from {table}")
    with contextlib.closing(banyan.connect(application_name=HOSTILE_APPLICATION)):
        browse(banyan, "hostile", table=HOSTILE_TABLE, column=HOSTILE_COLUMN, application=HOSTILE_APPLICATION)


def test_shut_gates_are_overridden_by_an_admin_only(migration, browse):
    banyan = migration(SCHEMA, ROWS)
    banyan.lead_to("DUAL_READ")
    plant(banyan, "update item set name = 'other' where id = 7", "select id, name, secret from item where id = 7")
    banyan.feed_shadow_reads()
    browse(banyan, "override")
    assert banyan.admin.phase() == "SWITCHOVER"
    transition = banyan.admin.get("/transitions")["transitions"][0]
    assert transition["override_gates"] and transition["actor"] == "admin" and transition["reason"] == "known, and repaired later"


def test_a_transition_that_waits_can_be_cancelled(migration, browse):
    banyan = migration(SCHEMA, ROWS, switchover={"deadline_ms": 120_000})
    with contextlib.closing(banyan.connect(autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute("update item set price = 0 where id = 1")  # keeps its phase until it ends
        browse(banyan, "running")
    assert banyan.admin.phase() == "INITIAL"


def test_it_says_how_fresh_it_is(migration, browse):
    browse(migration(SCHEMA, ROWS), "fresh")


def test_ten_thousand_discrepancies_and_none(migration, browse):
    browse(migration(SCHEMA, ROWS), "many")


def test_without_a_mouse(migration, browse):
    browse(migration(SCHEMA, ROWS), "keyboard")


class Slow(Relay):
    """As a Relay, but each way takes a hundredth of a second more."""

    def pump(self, one, other):
        class Late:
            @staticmethod
            def recv(size):
                data = one.recv(size)
                time.sleep(0.01)
                return data

            shutdown, close = one.shutdown, one.close

        super().pump(Late, other)


def quantile(share, readings, name):
    """Of what was counted between two readings of /metrics, as Prometheus reckons it; seconds."""
    def counts(reading):
        found = [(float(le), int(count)) for le, count in re.findall(rf'^{re.escape(name)}le="([^"]+)"}} (\d+)$', reading, re.M)]
        assert len(found) > 5, (name, reading)
        return found

    cumulative = [(bound, after - before) for (bound, after), (_, before) in zip(counts(readings[1]), counts(readings[0]))]
    wanted = share * cumulative[-1][1]
    assert wanted > 0, f"{name}: nothing was timed"
    lower = (0.0, 0)
    for upper in cumulative:
        if upper[1] >= wanted:
            return lower[0] if upper[0] == float("inf") else lower[0] + (upper[0] - lower[0]) * (wanted - lower[1]) / (upper[1] - lower[1])
        lower = upper
    raise AssertionError(cumulative)


def number(shown, unit):
    """Of "1,234 ms" and the like."""
    text, its_unit = shown.split()
    assert its_unit == unit, shown
    return float(text.replace(",", "").replace("K", "")) * (1000 if text.endswith("K") else 1)


def test_quantiles_of_histograms():
    subprocess.run(["node", HERE / "histogram.mjs"], check=True, timeout=60)


def test_response_times_and_overhead_are_those_of_the_metrics(migration, browse, target):
    banyan = migration(SCHEMA, ROWS, start=False)
    far = Slow(target.port)
    banyan.sections["target"]["port"] = far.port
    banyan.start().lead_to("DUAL_READ")

    def traffic(_, stop):
        with contextlib.closing(banyan.connect()) as connection, connection.cursor() as cursor:
            while not stop.is_set():
                cursor.execute("select * from item where id = 1")
                cursor.execute("update item set price = price + 1 where id = 2")

    try:
        with kit.Workers(1, traffic):
            found = json.loads(browse(banyan, "latency", readings=4))
    finally:
        banyan.stop()
        far.close()
    real = {f"{side} p{percent}": 1e3 * quantile(percent / 100, found["readings"], f'banyan_server_response_seconds_bucket{{side="{side}",')
            for side in ("source", "target") for percent in (50, 99)}
    own = {f"p{percent}": 1e6 * quantile(percent / 100, found["readings"], "banyan_overhead_seconds_bucket{") for percent in (50, 99)}
    shown = found["shown"]
    # As many digits are shown as a small number needs.
    assert {name: number(text, "ms") for name, text in shown["Response time"].items()} == pytest.approx(real, rel=0.06, abs=0.006)
    assert {name: number(text, "µs") for name, text in shown["Banyan's overhead"].items()} == pytest.approx(own, rel=0.06, abs=0.006)
    assert real["source p50"] < real["target p50"] > 10  # it is far away


def test_a_statement_that_is_slower_on_the_target(migration, browse):
    banyan = migration("create table big (id int primary key, n int); create index by_n on big (n)", "insert into big select g, g % 1000 from generate_series(1, 200000) g",
                       shadow={"min_samples": 1, "rerun_share": 1.0, "rerun_duty": 1.0, "slower_factor": 3.0, "slower_by_ms": 2})
    banyan.lead_to("DUAL_READ")
    banyan.target.sql("drop index by_n", banyan.database)
    with contextlib.closing(banyan.connect()) as connection, connection.cursor() as cursor:
        def fine():
            cursor.execute("select id from big where id = 7")
            return banyan.admin.get("/shadow/times")["statements"]

        wait_until(fine, lambda: banyan.admin.get("/shadow"), 60 * kit.SLOW)

        def slower():
            cursor.execute("select count(*) from big where n = 7")
            return next((group for group in banyan.admin.discrepancies()["groups"] if group["kind"] == "slower"), None)

        group = wait_until(slower, lambda: banyan.admin.get("/shadow/times"), 60 * kit.SLOW)
    found = json.loads(browse(banyan, "slower", fingerprint=group["fingerprint"]))
    told = banyan.admin.get("/shadow/times")["statements"]
    assert [row[0] for row in found["rows"]] == [statement["sql"] for statement in told]
    assert found["rows"][0][-1].endswith("slower on the target") and "slower" not in found["rows"][1][-1]
    assert [int(row[4].replace(",", "")) for row in found["rows"]] == [statement["runs"] for statement in told]
    times = banyan.admin.get(f"/discrepancies/{group['fingerprint']}")["samples"][0]["times"]
    assert number(found["facts"]["Target"], "ms") == pytest.approx(times["target_us"] / 1000, abs=0.06)


def test_every_page_in_both_themes_and_three_sizes(migration, browse):
    banyan = migration(SCHEMA + "; create table visits (id bigserial primary key, at timestamptz not null default now())", ROWS)
    banyan.lead_to("DUAL_READ")
    fingerprint = plant(banyan, "update item set name = 'other' where id = 7", "select id, name, secret from item where id = 7")
    plant(banyan, "delete from item where id = 8", "select count(*) from item")
    stop = threading.Event()

    def traffic():
        with contextlib.closing(banyan.connect(application_name="shop")) as connection, connection.cursor() as cursor:
            while not stop.wait(0.02):
                cursor.execute("insert into visits default values")
                cursor.execute("select * from item where id = 1")

    thread = threading.Thread(target=traffic, daemon=True)
    thread.start()
    try:
        browse(banyan, "looks", axe=True, settle_ms=int(os.environ.get("BANYAN_DASHBOARD_SETTLE_MS", "4000")), fingerprint=fingerprint, table="public.item")
    finally:
        stop.set()
        thread.join(20)
