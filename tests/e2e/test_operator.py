"""The admin API and banyanctl, from outside."""
import json
import signal
import subprocess
import time

import pytest

import kit
from banyan_admin import listed

SCHEMA = "create table t (id int primary key, v text)"


@pytest.mark.short
def test_tokens_guard_what_changes_and_what_is_seen(migration):
    admin = migration(SCHEMA).admin
    body = {"from": "INITIAL", "to": "DUAL_WRITE", "reason": "test", "dry_run": True}
    for method, path, token, expected in [
        ("GET", "/livez", "", 200), ("GET", "/readyz", "", 200),
        ("GET", "/api/v1/status", "wrong", 401), ("GET", "/api/v1/status", "viewer-secret", 200),
        ("POST", "/api/v1/transitions", "wrong", 401), ("POST", "/api/v1/transitions", "viewer-secret", 403),
    ]:
        status, headers, content = admin.request(method, path, body if method == "POST" else None, token=token)
        assert status == expected, (method, path, token, content)
        if status >= 400:
            assert headers["Content-Type"].startswith("application/problem+json")
            assert {"type", "title", "status"} <= set(json.loads(content))
    assert admin.request("POST", "/api/v1/transitions", body, token="operator-secret")[0] in (200, 202)


@pytest.mark.short
def test_wrong_requests_get_problems_not_changes(migration):
    banyan = migration(SCHEMA)
    for method, path, body, expected in [
        ("GET", "/api/v1/nothing", None, 404), ("GET", "/api/v1/transitions/t-999999", None, 404), ("DELETE", "/api/v1/status", None, 405),
        ("POST", "/api/v1/transitions", {}, 400), ("POST", "/api/v1/transitions", {"from": "INITIAL", "to": "NOWHERE", "reason": "x"}, 400),
        ("POST", "/api/v1/transitions", {"from": "INITIAL", "to": "DUAL_WRITE", "reason": "x", "unknown": 1}, 400),
        ("POST", "/api/v1/verifications", {"tables": ["public.t"]}, 409), ("GET", "/api/v1/gates?to=NOWHERE", None, 400),
    ]:
        status, headers, _ = banyan.admin.request(method, path, body)
        assert status == expected, (method, path, body, status)
        assert headers["Content-Type"].startswith("application/problem+json")
    status, _, _ = banyan.admin.request("GET", "/api/v1/status", headers={"Host": "evil.example.com"})
    assert status in (400, 403, 421)
    assert banyan.admin.phase() == "INITIAL"


@pytest.mark.short
def test_a_whole_migration_is_in_the_audit_log_and_its_chain_holds(migration):
    banyan = migration(SCHEMA, "insert into t select generate_series(1, 10)")
    banyan.lead_to("COMPLETE")
    entries = listed(banyan.admin.get("/audit?limit=100"), "audit")
    text = json.dumps(entries)
    for phase in ("DUAL_WRITE", "DUAL_READ", "SWITCHOVER", "COMPLETE"):
        assert phase in text
    for newer, older in zip(entries, entries[1:]):
        assert newer["previous"] == older["hash"]
    transitions = listed(banyan.admin.get("/transitions"), "transitions")
    assert [transition["to"] for transition in transitions if transition["state"] == "done"] == ["COMPLETE", "SWITCHOVER", "DUAL_READ", "DUAL_WRITE"]


@pytest.mark.short
def test_metrics_count_what_happened(migration):
    banyan = migration(SCHEMA)
    banyan.lead_to("DUAL_WRITE")
    with banyan.wire() as client:
        for number in range(10):
            client.query(f"insert into t values ({number}, 'x')").ok()
    values = banyan.admin.metrics()
    assert values and all(name.startswith(("banyan_", "process_", "exposer_")) for name in values), list(values)[:5]
    assert not [name for name in values if "insert into" in name]
    assert any("DUAL_WRITE" in name or "dual_write" in name for name, value in values.items() if value == 1)


@pytest.mark.short
def test_banyanctl_shows_and_leads(migration):
    banyan = migration(SCHEMA, "insert into t select generate_series(1, 10)")
    status = banyan.ctl("status", "--json")
    assert status.returncode == 0, status.stderr
    assert json.loads(status.stdout)["phase"] == "INITIAL"
    assert "INITIAL" in banyan.ctl("status").stdout
    gates = banyan.ctl("gates", "--json")
    assert gates.returncode == 0, gates.stderr
    json.loads(gates.stdout)
    done = banyan.ctl("advance", "--yes", "--reason", "test")
    assert done.returncode == 0, done.stdout + done.stderr
    assert banyan.admin.phase() == "DUAL_WRITE"
    banyan.admin.wait_backfill()
    assert json.loads(banyan.ctl("backfill", "--json").stdout)["state"] == "done"
    assert json.loads(banyan.ctl("discrepancies", "--json").stdout)["confirmed"] == 0
    done = banyan.ctl("rollback", "--yes", "--reason", "test")
    assert done.returncode == 0, done.stdout + done.stderr
    assert banyan.admin.phase() == "INITIAL"


@pytest.mark.short
def test_banyanctl_exit_codes_tell_failures_apart(migration):
    banyan = migration(SCHEMA)
    usage = banyan.ctl("no-such-command")
    denied = banyan.ctl("status", token="wrong")
    refused = banyan.ctl("rollback", "--yes", "--reason", "there is nothing before INITIAL")
    unconfirmed = banyan.ctl("advance", "--reason", "nobody types the phase")
    assert banyan.admin.phase() == "INITIAL"
    banyan.stop()
    down = banyan.ctl("status")
    assert [outcome.returncode for outcome in (usage, unconfirmed, refused, down, denied)] == [1, 1, 2, 3, 5]
    for outcome in (usage, denied, refused, unconfirmed, down):
        assert outcome.stderr or outcome.stdout
        assert "\x1b" not in outcome.stderr + outcome.stdout


@pytest.mark.short
def test_version_and_check_config(migration):
    banyan = migration(start=False)
    banyan.write_config()
    version = subprocess.run([kit.BINARY, "--version"], stdout=subprocess.PIPE, text=True, timeout=20, check=False)
    assert version.returncode == 0 and version.stdout.strip()
    checked = subprocess.run([kit.BINARY, "--check-config", "--config", banyan.config_file], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             text=True, timeout=20, check=False)
    assert checked.returncode == 0, checked.stdout


def test_a_second_sigterm_does_not_cut_the_shutdown_short(migration):
    banyan = migration("create table t (id int primary key)")
    client = banyan.wire()
    client.query("begin; insert into t values (1)").ok()  # waited for
    for _ in range(20):
        banyan.process.send_signal(signal.SIGTERM)
        time.sleep(0.01)
    client.query("commit").ok()
    assert banyan.process.wait(20) == 0
    assert banyan.source.sql("select count(*) from t", banyan.database) == [(1,)]
