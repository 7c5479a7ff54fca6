"""Banyan's admin API for scripts: the standard library alone. Shapes: router/migration/README.md."""
import json
import time
import urllib.error
import urllib.request

PHASES = ["INITIAL", "DUAL_WRITE", "DUAL_READ", "SWITCHOVER", "COMPLETE"]
FINISHED = {"done", "rejected", "aborted", "timed_out", "failed"}


class AdminError(Exception):
    """An answer other than 2xx; `problem` is its RFC 9457 body."""

    def __init__(self, method, path, status, problem):
        super().__init__(f"{method} {path}: {status} {json.dumps(problem)[:2000]}")
        self.status = status
        self.problem = problem

    @property
    def type(self):
        return str(self.problem.get("type", "")).rsplit("/", 1)[-1].rsplit(":", 1)[-1] if isinstance(self.problem, dict) else ""


class TransitionError(Exception):
    """A transition that did not end as done; `transition` is the resource."""

    def __init__(self, transition):
        gates = [f"{gate['name']} {gate['verdict']}: {gate.get('explanation')}"
                 for gate in transition.get("gates") or [] if gate["verdict"] != "pass"]
        super().__init__(f"{transition.get('from')} -> {transition.get('to')} {transition.get('state')}: "
                         f"{transition.get('error')} {'; '.join(gates)} {transition.get('log')}")
        self.transition = transition


def wait_until(condition, what, seconds=30.0, pause=0.05):
    """condition() until it returns something true, which is returned; else TimeoutError."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(pause)


class Admin:
    def __init__(self, url, token):
        self.url = url.rstrip("/")
        self.token = token

    def request(self, method, path, body=None, token=None, headers=None, timeout=60):
        """(status, headers, body as bytes); never raises for a status."""
        request = urllib.request.Request(self.url + path, method=method)
        token = self.token if token is None else token
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def call(self, method, path, body=None):
        status, _, content = self.request(method, path, body)
        try:
            value = json.loads(content) if content else None
        except ValueError:
            value = {"detail": content.decode(errors="replace")}
        if not 200 <= status < 300:
            raise AdminError(method, path, status, value)
        return value

    def get(self, path):
        return self.call("GET", "/api/v1" + path)

    def post(self, path, body=None):
        return self.call("POST", "/api/v1" + path, body if body is not None else {})

    # --- reading ---

    def status(self):
        return self.get("/status")

    def phase(self):
        return self.status()["phase"]

    def dirty(self):
        return self.status()["journal"]["dirty"]

    def gates(self, to):
        return listed(self.get(f"/gates?to={to}"), "gates")

    def tables(self):
        return {table["name"]: table for table in listed(self.get("/tables"), "tables")}

    def discrepancies(self):
        return self.get("/discrepancies")

    def metrics(self):
        """{"name{labels}": value} from /metrics."""
        values = {}
        for line in self.request("GET", "/metrics")[2].decode().splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                values[name] = float(value)
        return values

    # --- changing ---

    def start_transition(self, to, reason="test", source_phase=None, **extra):
        body = {"from": source_phase or self.phase(), "to": to, "reason": reason, **extra}
        return self.post("/transitions", body)

    def transition(self, to, reason="test", seconds=60, **extra):
        """Asks for a phase and waits for it; TransitionError unless it is done."""
        transition = self.start_transition(to, reason, **extra)

        def finished():
            nonlocal transition
            transition = self.get(f"/transitions/{transition['id']}")
            return transition["state"] in FINISHED

        wait_until(finished, lambda: f"transition: {transition}", seconds)
        if transition["state"] != "done":
            raise TransitionError(transition)
        return transition

    def wait_backfill(self, seconds=120):
        def done():
            backfill = self.get("/backfill")
            if backfill["state"] == "failed":
                raise AssertionError(f"backfill failed: {backfill}")
            return backfill["state"] == "done" and backfill

        return wait_until(done, lambda: f"backfill done: {self.get('/backfill')}", seconds, 0.1)

    def wait_clean(self, seconds=60):
        """Until no key is dirty, no commit in flight and no table suspect."""
        def clean():
            journal = self.get("/journal")
            return journal["dirty"] == 0 and journal["in_flight"] == 0 and journal["suspect_tables"] == 0

        wait_until(clean, lambda: f"nothing dirty, nothing suspect: {self.get('/journal')}", seconds)

    def wait_no_dirty(self, seconds=60):
        wait_until(lambda: self.dirty() == 0, lambda: f"no dirty key: {self.get('/journal')}", seconds)

    def verify(self, tables=None, repair=False, seconds=120):
        """Starts a verification, waits for its end and returns it."""
        body = {"repair": repair}
        if tables:
            body["tables"] = tables
        verification = self.post("/verifications", body)

        def finished():
            nonlocal verification
            verification = self.get(f"/verifications/{verification['id']}")
            return verification["state"] not in ("queued", "running")

        wait_until(finished, lambda: f"verification: {verification}", seconds, 0.1)
        return verification


def listed(value, name):
    """An array, whether bare or inside an object."""
    return value[name] if isinstance(value, dict) else value
