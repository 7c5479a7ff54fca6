"""The admin API as operators and their tools meet it: its description, live events, TLS, hooks, preflight, attacks."""
import contextlib
import http.client
import http.server
import json
import os
import pty
import socket
import ssl
import stat
import subprocess
import threading
import time

import pytest

import kit
from certificates import Authority
from kit import wait_until

SCHEMA = "create table t (id int primary key, v text); create sequence s"
TROUBLES = "; create table keyless (a int); create unlogged table u (id int primary key)"


class Events:
    """One GET /api/v1/events, as a list of the states it was sent."""

    def __init__(self, banyan, token="viewer-secret"):
        self.states = []
        self.connection = http.client.HTTPConnection("127.0.0.1", int(banyan.admin.url.rsplit(":", 1)[1]), timeout=60 * kit.SLOW)
        self.connection.request("GET", "/api/v1/events", headers={"Authorization": f"Bearer {token}"})
        self.answer = self.connection.getresponse()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        try:
            for line in self.answer:
                if line.startswith(b"data: "):
                    self.states.append(json.loads(line[6:]))
        except (OSError, ValueError):
            pass

    def wait(self, condition):
        wait_until(lambda: any(condition(state) for state in list(self.states)), lambda: self.states[-1:], 60 * kit.SLOW)
        return next(state for state in self.states if condition(state))

    def close(self):
        with_socket = self.connection.sock or self.answer.fp.raw._sock
        with_socket.shutdown(socket.SHUT_RDWR)
        self.thread.join(30)


def described(banyan):
    """A checker of answers by the description that Banyan itself serves."""
    jsonschema = pytest.importorskip("jsonschema")
    status, _, body = banyan.admin.request("GET", "/api/v1/openapi.json", token="")
    assert status == 200
    document = json.loads(body)

    def check(method, path, status, answer, pattern=None):
        operation = document["paths"][pattern or path][method]
        responses = operation["responses"]
        content = (responses.get(str(status)) or responses["default"])["content"]
        schema = next(iter(content.values()))["schema"]
        jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(answer)

    return document, check


@pytest.mark.short
def test_every_answer_is_as_the_description_says(migration):
    banyan = migration(SCHEMA, "insert into t select g, 'x' from generate_series(1, 50) g")
    document, check = described(banyan)

    def look(path, pattern=None):
        status, headers, body = banyan.admin.request("GET", path)
        answer = json.loads(body)
        check("get", path.partition("?")[0], status, answer, pattern)
        return answer

    def look_at_all():
        for path, methods in document["paths"].items():
            if "get" in methods and "{" not in path and not path.endswith(("/events", "/metrics", "/openapi.json")):
                look(path)

    look_at_all()
    assert look("/api/v1/gates?to=DUAL_WRITE")["gates"]
    for method, path, body, pattern in [
        ("post", "/api/v1/transitions", {"from": "INITIAL", "to": "DUAL_WRITE", "reason": "r", "dry_run": True}, None),
        ("post", "/api/v1/transitions", {"from": "DUAL_READ", "to": "SWITCHOVER", "reason": "r"}, None),
        ("delete", "/api/v1/transitions/t-000099", {}, "/api/v1/transitions/{id}"),
    ]:
        status, _, answer = banyan.admin.request(method.upper(), path, body)
        check(method, path, status, json.loads(answer), pattern)
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill()
    banyan.lead_to("DUAL_READ")
    with banyan.wire() as client:
        client.query("insert into t values (100, 'y')").ok()
        banyan.target.sql("update t set v = 'planted' where id = 7", banyan.database, "postgres")
        for _ in range(20):
            client.query("select * from t where id = 7").ok()
        wait_until(lambda: banyan.admin.get("/discrepancies")["groups"], "found", 60 * kit.SLOW)
        group = banyan.admin.get("/discrepancies")["groups"][0]["fingerprint"]
        look_at_all()
        look(f"/api/v1/discrepancies/{group}", "/api/v1/discrepancies/{fingerprint}")
    look("/api/v1/tables/public.t", "/api/v1/tables/{name}")
    look("/api/v1/transitions/t-000001", "/api/v1/transitions/{id}")
    for method, path, body, pattern in [
        ("post", f"/api/v1/discrepancies/{group}/acknowledge", {"note": "seen"}, "/api/v1/discrepancies/{fingerprint}/acknowledge"),
        ("post", "/api/v1/verifications", {"tables": ["public.t"], "repair": True}, None),
        ("post", "/api/v1/backfill/pause", {}, "/api/v1/backfill/{action}"),
        ("post", "/api/v1/backfill/resume", {}, "/api/v1/backfill/{action}"),
        ("patch", "/api/v1/shadow", {"share": 0.5}, None),
        ("post", "/api/v1/config/reload", {}, None),
        ("put", "/api/v1/capture", {}, None),
        ("delete", "/api/v1/capture", {}, None),
    ]:
        status, _, answer = banyan.admin.request(method.upper(), path, body)
        assert status in (200, 202, 409), answer
        check(method, path, status, json.loads(answer), pattern)
    wait_until(lambda: banyan.admin.get("/verifications")["verifications"][0]["state"] == "different", "verified", 60 * kit.SLOW)
    look_at_all()
    look("/api/v1/verifications/v-000001", "/api/v1/verifications/{id}")


@pytest.mark.short
def test_events_follow_the_migration(migration):
    banyan = migration(SCHEMA)
    events = Events(banyan)
    first = events.wait(lambda state: state["status"]["phase"] == "INITIAL")
    banyan.lead_to("DUAL_WRITE")
    later = events.wait(lambda state: state["status"]["phase"] == "DUAL_WRITE" and state["status"]["transition"] is None)
    for resource in ("transitions", "tables", "audit"):
        assert first["revisions"][resource] != later["revisions"][resource]
    events.close()
    status, _, _ = banyan.admin.request("GET", "/api/v1/events", token="wrong")
    assert status == 401


def test_events_end_when_the_token_does(migration):
    banyan = migration(SCHEMA)
    events = Events(banyan)
    events.wait(lambda state: True)
    assert events.thread.is_alive()
    past = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 1))
    banyan.sections["admin.tokens"] = [{**token, **({"expires": past} if token["name"] == "viewer" else {})}
                                       for token in banyan.sections["admin.tokens"]]
    banyan.write_config()
    banyan.admin.post("/config/reload", {})
    events.thread.join(120 * kit.SLOW)
    assert not events.thread.is_alive()
    status, _, body = banyan.admin.request("GET", "/api/v1/status", token="viewer-secret")
    assert status == 401 and b"token-expired" in body


@pytest.mark.short
def test_preflight_names_what_is_in_the_way_and_drift_is_watched(migration):
    banyan = migration(SCHEMA + TROUBLES)
    banyan.source.sql("create index on t (v); select lo_create(0)", banyan.database)
    banyan.target.sql("alter table t alter v type varchar(10)", banyan.database)
    banyan.target.sql(f'alter database "{banyan.database}" set timezone = \'Asia/Tokyo\'')
    answer = banyan.admin.get("/preflight")
    found = {(finding["name"], finding["subject"]): finding for finding in answer["findings"] if finding["severity"] != "ok"}
    assert found["tables_capturable", "public.keyless"]["severity"] == "block"
    assert "varchar" in found["schema_drift", "column public.t.v"]["what"] or "character varying" in found["schema_drift", "column public.t.v"]["what"]
    assert found["schema_drift", "index public.t_v_idx"]["severity"] == "warn"
    assert found["unlogged", "public.u"] and found["large_objects", ""]
    setting = found["settings", "TimeZone"]
    assert answer["blocks"] == sum(finding["severity"] == "block" for finding in answer["findings"])
    # What it says to do does it.
    banyan.target.sql(setting["fix"].partition("--")[0], banyan.database)
    banyan.target.sql("alter table t alter v type text; create index on t (v)", banyan.database)
    banyan.source.sql("select lo_unlink(oid) from pg_largeobject_metadata", banyan.database)
    for cluster in (banyan.source, banyan.target):
        cluster.sql("alter table keyless add primary key (a); alter table u set logged", banyan.database)
    time.sleep(5.1)  # the answer may be so old
    answer = banyan.admin.get("/preflight")
    assert not [finding for finding in answer["findings"] if finding["severity"] == "block"], answer
    assert not [finding for finding in answer["findings"] if finding["name"] in ("settings", "schema_drift", "unlogged") and finding["severity"] != "ok"]
    done = banyan.ctl("preflight")
    assert done.returncode == 0, done.stdout + done.stderr

    banyan.lead_to("DUAL_WRITE")
    banyan.target.sql("drop index t_v_idx", banyan.database)

    def drifted():
        drift = banyan.admin.status()["schema_drift"]
        return drift and drift["subjects"] == ["index public.t_v_idx"]

    wait_until(drifted, lambda: banyan.admin.status()["schema_drift"], 130 * kit.SLOW)


def executable(path, text):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.short
def test_hooks_are_told_and_may_refuse(migration, tmp_path):
    log = tmp_path / "log"
    verdict = tmp_path / "verdict"
    verdict.write_text("echo 'not on a Friday' >&2; exit 1")
    before = executable(tmp_path / "before", f'cat > {tmp_path}/told; echo "$BANYAN_HOOK $BANYAN_FROM $BANYAN_TO $1" >> {log}; . {verdict}')
    after = executable(tmp_path / "after", f'echo "$BANYAN_HOOK $BANYAN_STATE" >> {log}')
    banyan = migration(SCHEMA, hooks={"before_transition": [before, "argument"], "after_transition": [after], "timeout_ms": int(2000 * kit.SLOW)})
    with pytest.raises(kit.TransitionError) as error:
        banyan.admin.transition("DUAL_WRITE")
    refused = error.value.transition
    assert refused["state"] == "rejected" and "not on a Friday" in refused["error"], refused
    assert banyan.admin.phase() == "INITIAL"
    assert json.loads((tmp_path / "told").read_text())["id"] == refused["id"]
    verdict.write_text("sleep 1000")
    with pytest.raises(kit.TransitionError, match="longer than"):
        banyan.admin.transition("DUAL_WRITE")
    verdict.write_text("echo fine")
    banyan.admin.transition("DUAL_WRITE")
    assert banyan.admin.phase() == "DUAL_WRITE"
    wait_until(lambda: len(log.read_text().splitlines()) == 6, log.read_text, 30 * kit.SLOW)
    lines = log.read_text().splitlines()
    assert lines.count("before_transition INITIAL DUAL_WRITE argument") == 3
    assert sorted(line for line in lines if line.startswith("after")) == ["after_transition done", "after_transition rejected", "after_transition rejected"]


class Hooked(http.server.BaseHTTPRequestHandler):
    """Remembers what is posted, and answers what it is told to."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, dict(self.headers), json.loads(body)))
        status, text, pause = self.server.answer
        time.sleep(pause)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        with contextlib.suppress(BrokenPipeError):  # who waited has given up
            self.end_headers()
            self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def web_server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hooked) as server:
        server.seen, server.answer, server.daemon_threads = [], (200, "fine", 0), True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.short
def test_a_webhook_is_told_and_may_refuse(migration, web_server):
    address = f"http://127.0.0.1:{web_server.server_port}/"
    banyan = migration(SCHEMA, hooks={"before_transition": [address + "before", "Authorization: Bearer 5f2a"],
                                      "after_transition": [address + "after"], "timeout_ms": int(2000 * kit.SLOW)})
    for answer, why in (((403, "not on a Friday", 0), "status 403: not on a Friday"), ((302, "", 0), "status 302"),
                        ((200, "", 5 * kit.SLOW), "longer than")):
        web_server.answer = answer
        with pytest.raises(kit.TransitionError, match=why) as error:
            banyan.admin.transition("DUAL_WRITE")
        assert error.value.transition["state"] == "rejected"
        assert banyan.admin.phase() == "INITIAL"
    web_server.answer = (204, "", 0)
    banyan.admin.transition("DUAL_WRITE")
    assert banyan.admin.phase() == "DUAL_WRITE"
    wait_until(lambda: [path for path, *_ in web_server.seen].count("/after") == 4, lambda: str(web_server.seen), 60 * kit.SLOW)
    path, headers, transition = web_server.seen[0]
    assert path == "/before" and transition["to"] == "DUAL_WRITE" and transition["state"] == "checking", transition
    assert headers["Authorization"] == "Bearer 5f2a" and headers["Content-Type"] == "application/json"
    assert (headers["Banyan-Hook"], headers["Banyan-From"], headers["Banyan-To"]) == ("before_transition", "INITIAL", "DUAL_WRITE")
    ends = [headers["Banyan-State"] for path, headers, _ in web_server.seen if path == "/after"]
    assert sorted(ends) == ["done", "rejected", "rejected", "rejected"]
    assert "/elsewhere" not in [path for path, *_ in web_server.seen]


@pytest.mark.short
def test_a_webhook_that_is_not_there_stops_the_transition_and_says_so(migration):
    with socket.socket() as unused:  # bound, and not listening
        unused.bind(("127.0.0.1", 0))
        banyan = migration(SCHEMA, hooks={"before_transition": [f"https://127.0.0.1:{unused.getsockname()[1]}/"]})
        with pytest.raises(kit.TransitionError, match="cannot be called"):
            banyan.admin.transition("DUAL_WRITE")
    assert banyan.admin.phase() == "INITIAL"


@pytest.mark.short
def test_tls_and_client_certificates(migration, tmp_path):
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.sign("server", "banyan", ["IP:127.0.0.1"])
    mine, my_key = authority.sign("client", "olga")
    banyan = migration(SCHEMA, start=False)
    banyan.sections["admin"] = {**banyan.sections["admin"], "sslmode": "verify-ca", "ssl_cert_file": str(certificate),
                                "ssl_key_file": str(key), "ssl_ca_file": str(authority.crt)}
    banyan.write_config()
    log = open(banyan.directory / "banyan.log", "ab")
    banyan.process = subprocess.Popen([kit.BINARY, "--config", banyan.config_file], stdout=log, stderr=log, start_new_session=True)
    file = banyan.directory / "admin-port"
    wait_until(lambda: file.exists() and file.read_text().strip(), banyan.log, 30 * kit.SLOW)
    port = int(file.read_text())

    def get(path, context):
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=30 * kit.SLOW)
        try:
            connection.request("GET", path, headers={"Authorization": "Bearer operator-secret"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    with_certificate = ssl.create_default_context(cafile=str(authority.crt))
    with_certificate.load_cert_chain(str(mine), str(my_key))
    assert get("/api/v1/phase", with_certificate)[0] == 200
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
        get("/api/v1/phase", ssl.create_default_context(cafile=str(authority.crt)))
    with socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
        plain.sendall(b"GET /api/v1/phase HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with pytest.raises((ConnectionError, AssertionError)):
            assert b"phase" in plain.recv(1000)
    done = subprocess.run([kit.CTL, "--url", f"https://127.0.0.1:{port}", "--cacert", authority.crt, "--cert", mine, "--key", my_key, "--json", "status"],
                          env={"BANYAN_TOKEN": "operator-secret"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 0 and json.loads(done.stdout)["phase"] == "INITIAL", done
    done = subprocess.run([kit.CTL, "--url", f"https://127.0.0.1:{port}", "--cert", mine, "--key", my_key, "status"],
                          env={"BANYAN_TOKEN": "operator-secret"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 3 and "certificate verify failed" in done.stderr, done
    banyan.process.terminate()
    assert banyan.process.wait(30 * kit.SLOW) == 0
    banyan.process = None
    log.close()


@pytest.mark.short
def test_attacks_are_refused_and_the_data_path_does_not_notice(migration):
    banyan = migration(SCHEMA)
    host, port = "127.0.0.1", int(banyan.admin.url.rsplit(":", 1)[1])
    phase_before = banyan.admin.phase()
    sockets = []
    with banyan.wire() as client:
        client.query("insert into t values (1, 'a')").ok()
        for name in ("evil.example.org", "127.0.0.1.evil.example.org"):  # DNS rebinding
            for path in ("/api/v1/status", "/", "/metrics"):
                assert banyan.admin.request("GET", path, headers={"Host": name})[0] == 421
        document = json.loads(banyan.admin.request("GET", "/api/v1/openapi.json", token="")[2])
        changes = [(method.upper(), path.replace("{", "").replace("}", "")) for path, methods in document["paths"].items()
                   for method in methods if method != "get"]
        assert len(changes) > 8
        for method, path in changes:
            for headers in ({"Origin": "https://evil.example.org"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}):
                assert banyan.admin.request(method, path, {}, headers=headers)[0] == 403, (method, path)
            assert banyan.admin.request(method, path, {}, token="nobody")[0] == 401
            assert banyan.admin.request(method, path, {}, token="viewer-secret")[0] == 403
        # Slow headers, bodies without end, a thousand connections.
        for _ in range(1000):
            try:
                one = socket.create_connection((host, port), timeout=5)
                one.sendall(b"GET /api/v1/status HTTP/1.1\r\nX-Slow: ")
                sockets.append(one)
            except OSError:
                pass
        for number in range(2, 50):
            client.query(f"insert into t values ({number}, 'during')").ok()
        for one in sockets:
            one.close()
        wait_until(lambda: banyan.admin.request("GET", "/api/v1/status")[0] == 200, "served again", 60 * kit.SLOW)
        huge = socket.create_connection((host, port), timeout=30)
        huge.sendall(b"POST /api/v1/transitions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                     b"Authorization: Bearer operator-secret\r\nContent-Length: 100000000000\r\n\r\n")
        assert b" 413 " in huge.recv(100)
        huge.close()
        client.query("select count(*) from t").ok()
    assert banyan.admin.phase() == phase_before


def on_a_terminal(banyan, *arguments):
    """banyanctl's output and exit code on a pseudo-terminal."""
    main, other = pty.openpty()
    process = subprocess.Popen([kit.CTL, *arguments], stdin=other, stdout=other, stderr=other, close_fds=True,
                               env={"BANYAN_URL": banyan.admin.url, "BANYAN_TOKEN": "admin-secret", "TERM": "xterm"})
    os.close(other)
    output = b""
    try:
        while chunk := os.read(main, 65536):
            output += chunk
    except OSError:  # its end, on a terminal
        pass
    os.close(main)
    return output.decode(), process.wait(30)


@pytest.mark.short
def test_banyanctl_rewrites_a_terminal_and_writes_lines_into_a_pipe(migration):
    banyan = migration(SCHEMA, "insert into t select g, 'x' from generate_series(1, 5000) g; analyze t")
    text, code = on_a_terminal(banyan, "watch", "--count", "2", "--interval", "0.2")
    assert code == 0 and text.count("\x1b[H\x1b[2J") == 2 and "\x1b[1m[INITIAL]" in text
    piped = banyan.ctl("watch", "--count", "2", "--interval", "0.2")
    assert piped.returncode == 0 and "\x1b" not in piped.stdout and len(piped.stdout.splitlines()) == 2, piped.stdout
    text, code = on_a_terminal(banyan, "advance", "--yes", "--reason", "test")
    assert code == 0 and "\x1b[32mtransition" in text
    text, code = on_a_terminal(banyan, "backfill", "--wait")
    assert code == 0 and "[##############################] 100 %" in text, text
    for arguments, expected in ((("verify", "--wait"), 0), (("nonsense",), 1), (("advance", "--to", "complete", "--yes"), 2),
                                (("status", "--url", "http://127.0.0.1:1"), 3), (("status", "--token", "wrong"), 5)):
        assert banyan.ctl(*arguments).returncode == expected, arguments
    with banyan.wire() as holder:
        holder.query("begin; update t set v = 'y' where id = 1").ok()
        assert banyan.ctl("advance", "--yes", "--deadline", "1").returncode in (2, 4)
        holder.query("rollback").ok()
    for shell in ("bash", "zsh", "fish"):
        script = banyan.ctl("completion", shell)
        assert script.returncode == 0 and "preflight" in script.stdout
    completed = subprocess.run(["bash", "-c", "source /dev/stdin; COMP_WORDS=(banyanctl back); COMP_CWORD=1; _banyanctl; echo ${COMPREPLY[@]}"],
                               input=banyan.ctl("completion", "bash").stdout, stdout=subprocess.PIPE, text=True, check=True, timeout=30)
    assert completed.stdout.split() == ["backfill"]
