"""A Prometheus of the test's own looks at a real Banyan through an incident: the right alerts fire, and end.

It also keeps every series it meets, and no rule or board may name one that a real Banyan never had.
"""
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request

import kit
import pytest
import yaml
from certificates import Authority
from kit import wait_until
from shipped import RULES, alerts, described_counters, expressions, selectors, tool

SCHEMA = "create table t (id int primary key, v text)"
ROWS = "insert into t select g, 'v' || g from generate_series(1, 100) g"


class Prometheus:
    """Our rules, a scrape every half a second, and every `for` cut down to a second."""

    def __init__(self, directory, banyan):
        self.directory = directory
        directory.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        rules = yaml.safe_load(RULES.read_text())
        for group in rules["groups"]:
            for rule in group["rules"]:
                if "for" in rule:
                    rule["for"] = "1s"
        (directory / RULES.name).write_text(yaml.safe_dump(rules))
        token = directory / "token"
        token.write_text(kit.TOKENS["viewer"])
        (directory / "prometheus.yml").write_text(yaml.safe_dump({
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"}, "rule_files": [RULES.name],
            "scrape_configs": [{"job_name": "banyan", "authorization": {"credentials_file": str(token)},
                                "static_configs": [{"targets": [f"127.0.0.1:{banyan.admin_port}"]}]}]}))
        self.process = None

    def __enter__(self):
        with open(self.directory / "log", "wb") as log:
            self.process = subprocess.Popen(
                [tool("prometheus"), f"--config.file={self.directory}/prometheus.yml", f"--storage.tsdb.path={self.directory}/data",
                 f"--web.listen-address=127.0.0.1:{self.port}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "GOMAXPROCS": "1"})
        wait_until(self.ready, lambda: (self.directory / "log").read_text(), 30 * kit.SLOW, 0.2)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20) as answer:
            return json.loads(answer.read())

    def ready(self):
        assert self.process.poll() is None, (self.directory / "log").read_text()
        try:
            return self.get("/api/v1/query?query=" + urllib.parse.quote('up{job="banyan"} == 1'))["data"]["result"]
        except OSError:
            return False

    def firing(self):
        return {alert["labels"]["alertname"] for alert in self.get("/api/v1/alerts")["data"]["alerts"] if alert["state"] == "firing"}

    def wait_firing(self, *names, seconds=40):
        wait_until(lambda: set(names) <= self.firing(), lambda: f"{names} among {self.firing()}", seconds * kit.SLOW, 0.3)

    def wait_silent(self, *names, seconds=40):
        wait_until(lambda: not set(names) & self.firing(), lambda: f"none of {names} among {self.firing()}", seconds * kit.SLOW, 0.3)

    def series(self):
        """{metric: [labels, ...]} of all it ever scraped."""
        found = {}
        query = urllib.parse.urlencode({"match[]": '{__name__=~"banyan_.*|up"}', "start": time.time() - 3600})
        for labels in self.get(f"/api/v1/series?{query}")["data"]:
            found.setdefault(labels.pop("__name__"), []).append(labels)
        return found

    def rule_errors(self):
        return [(rule["name"], rule["lastError"]) for group in self.get("/api/v1/rules")["data"]["groups"]
                for rule in group["rules"] if rule.get("lastError")]


def metric_names(banyan):
    return {re.match(r"\w+", line).group() for line in banyan.admin.metrics()}


@pytest.fixture(scope="module")
def seen():
    """What the Prometheus of the first test met, for the second."""
    return {}


def test_alerts_fire_and_end_through_an_incident(migration, own_target, room, seen):
    certificate, key = Authority(room / "authority").sign("banyan", "localhost", ["DNS:localhost"])  # for two days
    banyan = migration(SCHEMA, ROWS, target=own_target, mirror={"probe_interval_ms": 200, "longest_probe_interval_ms": 500},
                       listen={"sslmode": "allow", "ssl_cert_file": certificate, "ssl_key_file": key})
    with Prometheus(room / "prometheus", banyan) as prometheus:
        banyan.lead_to("DUAL_READ")
        prometheus.wait_firing("BanyanCertificateEnds")
        prometheus.wait_silent(*(alert for alert in alerts() if alert not in ("BanyanVerificationOld", "BanyanCertificateEnds")))

        # A row is changed behind Banyan's back, and somebody reads it.
        own_target.sql("update t set v = 'planted' where id = 42", banyan.database)
        assert banyan.sql("select v from t where id = 42") == [("v42",)]
        prometheus.wait_firing("BanyanDiscrepanciesConfirmed")

        # The mirror dies while clients write: they notice nothing.
        own_target.stop()
        client = banyan.connect()
        with client.cursor() as cursor:
            for number in range(1, 20):
                cursor.execute("update t set v = 'written without a mirror' where id = %s", (number,))
        prometheus.wait_firing("BanyanMirrorBreakerOpen", "BanyanMirrorUnreachable")
        assert not {"BanyanDown", "BanyanPrimaryUnreachable", "BanyanJournalFailing", "BanyanLeaseExpired"} & prometheus.firing()
        assert "banyan_dirty_keys_by_table" in metric_names(banyan)

        # It comes back; then the runbook's way with the discrepancy.
        own_target.restart()
        prometheus.wait_silent("BanyanMirrorBreakerOpen", "BanyanMirrorUnreachable")
        banyan.admin.wait_clean(60 * kit.SLOW)
        repaired = banyan.ctl("verify", "--tables", "public.t", "--repair", "--wait")
        assert repaired.returncode in (0, 2), repaired.stdout + repaired.stderr
        assert banyan.ctl("verify", "--tables", "public.t", "--wait").returncode == 0
        fingerprint = banyan.admin.discrepancies()["groups"][0]["fingerprint"]
        assert banyan.ctl("discrepancies", fingerprint, "--ack", "--note", "planted").returncode == 0
        prometheus.wait_silent("BanyanDiscrepanciesConfirmed")

        # Statements that bring the rarer series along, and a flip.
        banyan.sql("do $$ begin update t set v = 'opaque' where id = 1; end $$")
        banyan.sql("create index concurrently on t (v)")
        prometheus.wait_firing("BanyanNotMirrored")
        banyan.lead_to("SWITCHOVER")
        wait_until(lambda: "banyan_switchover_pause_seconds" in prometheus.series(), prometheus.series, 20 * kit.SLOW)
        time.sleep(2)  # as long as anything must be so to fire here
        assert not prometheus.firing() & {"BanyanSessionsNotAdopted", "BanyanHeld", "BanyanLeaseExpired"}, banyan.ctl("sessions").stdout
        assert not prometheus.rule_errors()
        seen.update(prometheus.series())
        client.close()

        # Now it is the primary that dies.
        own_target.stop()
        prometheus.wait_firing("BanyanPrimaryUnreachable")
        assert "BanyanMirrorUnreachable" not in prometheus.firing()
        own_target.restart()
        prometheus.wait_silent("BanyanPrimaryUnreachable")

        # Banyan itself ends.
        banyan.stop()
        prometheus.wait_firing("BanyanDown")
        banyan.start()
        prometheus.wait_silent("BanyanDown")


def test_rules_and_boards_name_only_what_a_real_banyan_shows(seen):
    assert len(seen) > 50, "the test before this one has not run through"
    recorded = {name for name, _ in expressions() if ":" in name and " " not in name}
    # Reasons are words that code comes upon; causes and the like are always shown.
    free = {"event", "reason"}
    for where, expression in expressions():
        for name, labels in selectors(expression):
            if name in recorded or name.startswith("up"):
                continue
            assert name in seen or name in described_counters(), (where, name)
            for label, value in labels.items():
                if label in ("job", "instance"):
                    continue
                values = {series.get(label) for series in seen[name]}
                assert values != {None}, (where, name, label)
                assert value is None or label in free or value in values, (where, name, label, value, values)
