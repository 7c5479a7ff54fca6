"""SIGHUP and `banyanctl reload`: what can change does, the rest is named, and a broken file changes nothing."""
import json
import signal

import psycopg2
import pytest

import kit
from kit import wait_until
from wire import fields_of

SCHEMA = "create table t (id int primary key, v text)"


def hup(banyan):
    """SIGHUP with the sections as they are; returns what the log says of it."""
    before = len(banyan.log())
    banyan.write_config()
    banyan.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "reload: " in banyan.log()[before:], banyan.log, 20 * kit.SLOW)
    wait_until(lambda: [entry["action"] for entry in banyan.admin.get("/audit?limit=1")["audit"]] == ["config.reload"], "audited", 20 * kit.SLOW)
    return banyan.log()[before:]


def last_errors(client):
    return [fields_of(body)["C"] for kind, body in client.wait_closed(30 * kit.SLOW) if kind == b"E"]


@pytest.mark.short
def test_live_keys_take_effect_and_the_others_are_named(migration):
    banyan = migration(SCHEMA, limits={"max_clients": 1}, switchover={"deadline_ms": 40000})
    first = banyan.wire()
    with pytest.raises(psycopg2.OperationalError, match="too many clients"):
        banyan.connect()
    banyan.sections["limits"] = {"max_clients": 2, "idle_in_transaction_timeout_ms": 300}
    banyan.sections["log"] = {"level": "debug"}
    banyan.sections["proxy"] = {**banyan.sections["proxy"], "threads": 3}
    banyan.sections["shadow"] = {"min_samples": 77, "share": 0.5}
    banyan.sections["admin.tokens"] = [token for token in banyan.sections["admin.tokens"] if token["name"] != "viewer"]
    log = hup(banyan)
    for words in ("limits.max_clients takes effect", "log.level takes effect", "admin.tokens[].sha256 takes effect",
                  "proxy.threads needs a restart; it keeps 2"):
        assert words in log, log
    banyan.sql("insert into t values (1, 'a second client')")
    # A session that was there before follows too.
    first.query("begin").ok()
    assert last_errors(first) == ["25P03"]
    shadow = banyan.admin.get("/shadow")
    assert (shadow["minimum_samples"], shadow["share"]) == (77, 0.5)
    assert banyan.admin.request("GET", "/api/v1/status", token="viewer-secret")[0] == 401
    # Again, without changes: what needs a restart still does.
    report = banyan.ctl("reload", "--json")
    assert report.returncode == 0, report.stderr
    answer = json.loads(report.stdout)
    assert answer["applied"] == []
    # It was started with port 0, and the file names the ports that came of it.
    assert answer["restart"] == [{"key": "admin.port", "keeps": "0"}, {"key": "listen.port", "keeps": "0"}, {"key": "proxy.threads", "keeps": "2"}]
    assert "needs a restart" in banyan.ctl("reload").stdout


@pytest.mark.short
def test_a_broken_file_changes_nothing(migration):
    banyan = migration(SCHEMA, limits={"max_clients": 1})
    banyan.sections["limits"] = {"max_clients": 5, "max_clientz": 5}
    log = hup(banyan)
    assert "stay as they were" in log
    assert "limits.max_clientz: is not a known key" in log and "banyan.toml:" in log
    refused = banyan.ctl("reload")
    assert refused.returncode == 2 and "max_clientz" in refused.stderr
    with banyan.wire():
        with pytest.raises(psycopg2.OperationalError, match="too many clients"):
            banyan.connect()
    assert banyan.admin.get("/audit?limit=1")["audit"][0]["result"].startswith("refused")


def test_a_new_password_of_a_role_is_used_for_mirrors_to_come(migration):
    banyan = migration(SCHEMA, mirror={"logins": ["users"], "allow_cleartext": "always"})
    users = banyan.sections["users"]
    banyan.sections["users"] = [{**user, "target_password": "wrong"} if user["name"] == "cleartext_user" else user for user in users]
    hup(banyan)
    banyan.lead_to("DUAL_WRITE")
    with banyan.wire("cleartext_user"):
        wait_until(lambda: not all(s["mirror_ready"] for s in banyan.admin.get("/sessions")["sessions"]), "no mirror", 20 * kit.SLOW)
    banyan.sections["users"] = users
    assert "users[].target_password takes effect" in hup(banyan)
    with banyan.wire("cleartext_user"):
        wait_until(lambda: all(s["mirror_ready"] for s in banyan.admin.get("/sessions")["sessions"]),
                   lambda: banyan.admin.get("/sessions"), 20 * kit.SLOW)
