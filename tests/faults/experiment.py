"""One run: a cell of the matrix and a seed. Leads a migration to the phase, lets clients work, does the
fault, heals, and asks everything that checker.py can ask.
"""
import contextlib
import json
import pathlib
import random
import shutil
import sqlite3
import threading
import time
import traceback

import checker
import kit
from banyan_admin import listed
from fault_relay import FaultRelay
from matrix import BEGINS, FAULTS, TRANSITIONS
from mirror_watch import MirrorWatch
from wire import Wire
from workload import Clients

MIRROR = {"commit_timeout_ms": 600, "lock_timeout_ms": 400, "connect_timeout_ms": 500, "probe_interval_ms": 200}
ORDER = ["INITIAL", "DUAL_WRITE", "DUAL_READ", "SWITCHOVER", "COMPLETE"]


# Of a former attempt, or of nobody knows what: stale rows, and rows that the source does not have.
EARLIER = """
insert into filler select g, 'stale' from generate_series(1, 900, 3) g;
insert into list select g, array['stale'] from generate_series(1, 12) g;
insert into account select g, 7 from generate_series(3, 20) g;
insert into receipt (token, key) select 'stale/' || g, g from generate_series(1, 20) g;
"""


class Run:
    def __init__(self, lab, seed, fault, phase, workload, control=False, environment=None):
        self.lab, self.seed, self.fault, self.phase, self.workload, self.control = lab, seed, fault, phase, workload, control
        self.environment = environment or {}
        self.draw = random.Random(f"{seed} {fault} {phase}")
        self.clusters = lab.clusters
        self.problems, self.timeline, self.skipped = [], [], None
        self.began = time.monotonic()
        self.deadline = 15 * kit.SLOW
        self.relays, self.banyan, self.clients, self.watch, self.transition = {}, None, None, None, None
        self.hit, self.committed, self.lost = set(), 0, 0
        self.small_disk = False
        self.directory = self.database = None

    @property
    def name(self):
        return f"{'control ' if self.control else ''}{self.fault}, {self.phase}, {self.workload}, seed {self.seed}"

    # --- for faults ---

    def note(self, text):
        self.timeline.append(f"{time.monotonic() - self.began:7.3f} {text}")

    def problem(self, text):
        self.problems.append(text)
        self.note(f"PROBLEM {text}")

    def skip(self, why):
        self.skipped = why

    def sleep(self, seconds):
        time.sleep(seconds)

    def away(self):
        """How long something is away: long enough for timeouts to pass, or not."""
        return self.draw.choice([0.05, 0.2, 0.5, 0.9, 1.4])

    @staticmethod
    def of_a_client(connection):
        return connection.parameters.get("application_name", "").startswith("faults-")

    def restart_banyan(self, ready=True):
        self.note("Banyan starts again")
        if self.banyan.process is not None and self.banyan.process.poll() is not None:
            self.banyan.process = None
        self.banyan.start(ready)
        self.banyan.ready_seen = ready

    @property
    def control_file(self):
        return self.banyan.directory / "sync"

    def arm(self, text):
        self.note(f"armed: {text or 'nothing'}")
        new = self.control_file.with_suffix(".new")
        new.write_text(text)
        new.rename(self.control_file)

    def wait_for_point(self, point, provoke):
        """Until it was hit and acted; False if that does not happen."""
        hits = pathlib.Path(f"{self.control_file}.hits")
        end, again = time.monotonic() + 12 + 3 * kit.SLOW, 0.0  # a flip may wait 10 s for a quiet moment
        while time.monotonic() < end:
            if hits.exists() and f"{point}!" in hits.read_text().split():
                self.note(f"at {point}")
                return True
            if time.monotonic() > again:
                again = time.monotonic() + 0.3
                provoke()
            time.sleep(0.01)
        self.note(f"{point} was not reached")
        self.skipped = f"{point} was not reached"
        return False

    # --- the run ---

    def run(self):
        try:
            self.prepare()
            self.live()
            self.judge()
        except Exception as error:  # pylint: disable=broad-except
            self.problem(f"{type(error).__name__}: {error}"[:1500])
            self.note(traceback.format_exc(limit=6))
        finally:
            with contextlib.suppress(Exception):
                self.heal()
            self.end()
        return self

    def prepare(self):
        self.database = self.lab.databases()
        self.directory = self.lab.room / self.database
        self.relays = {side: FaultRelay(cluster.port) for side, cluster in self.clusters.items()}
        if self.control:
            self.relays["client"] = FaultRelay(self.clusters["source"].port)
            self.clients = Clients(4, self.seed, self.dial, self.workload, self.deadline)
            return
        if BEGINS[self.phase] == "INITIAL" and self.draw.random() < 0.6:
            self.note("the target holds rows from earlier")
            self.clusters["target"].sql(EARLIER, self.database, "app")
        slow = {"max_chunk_rows": 60, "max_rows_per_second": 500} if self.phase == "backfill" else {"max_chunk_rows": 300}
        self.banyan = kit.Banyan(self.directory, self.clusters["source"], self.clusters["target"], self.database,
                                 mirror=MIRROR, backfill=slow, switchover={"deadline_ms": int(8000 * kit.SLOW)})
        for side in self.clusters:
            self.banyan.sections[side].update(port=self.relays[side].port, connect_timeout_ms=1500)
        if self.fault.startswith("disk"):
            self.small_disk = self.lab.small_disk(self.directory / "state")
        self.control_file.write_text("")
        self.banyan.environment = {"BANYAN_SYNC_FILE": str(self.control_file), **self.environment}
        self.banyan.ready_seen = True
        self.banyan.start()
        self.relays["client"] = FaultRelay(self.banyan.port)
        self.clients = Clients(4, self.seed, self.dial, self.workload, self.deadline)
        self.lead_to(BEGINS[self.phase])
        self.watch = MirrorWatch(self)
        self.note(f"phase {self.banyan.admin.phase()}")

    def dial(self, name, timeout):
        return Wire(self.relays["client"].port, database=self.database, application_name=name, timeout=timeout)

    def lead_to(self, phase):
        admin = self.banyan.admin
        while (now := admin.phase()) != phase:
            following = ORDER[ORDER.index(now) + 1]
            if now in ("DUAL_WRITE", "DUAL_READ"):
                admin.wait_backfill(60 * kit.SLOW)
                admin.wait_clean(30 * kit.SLOW)
            self.open_gates(following)
            admin.transition(following, seconds=30 * kit.SLOW)
        if phase == "DUAL_WRITE":
            admin.wait_backfill(60 * kit.SLOW)
            admin.wait_clean(30 * kit.SLOW)

    def open_gates(self, following):
        """Waits for them; reads through Banyan give the gate of shadow reads its samples."""
        def opened():
            if following in ("SWITCHOVER", "COMPLETE"):
                with Wire(self.banyan.port, database=self.database, timeout=self.deadline) as wire:
                    wire.query("select count(*) from mark")
            return all(gate["verdict"] == "pass" for gate in self.banyan.admin.gates(following))

        kit.wait_until(opened, lambda: f"gates: {[gate for gate in self.banyan.admin.gates(following) if gate['verdict'] != 'pass']}",
                       20 * kit.SLOW, 0.1)

    def live(self):
        self.clients.start()
        kit.wait_until(lambda: all(client.ready for client in self.clients.clients), "clients connected", self.deadline)
        kit.wait_until(lambda: self.clients.committed() > 10, "clients work", self.deadline)
        if self.phase == "backfill":
            self.banyan.admin.transition("DUAL_WRITE", seconds=20 * kit.SLOW)
        elif self.phase in ("flip", "complete") and not self.control:
            self.open_gates(TRANSITIONS[self.phase][1])
        if self.watch:
            self.watch.start()
        happens = FAULTS[self.fault][1]
        if self.phase in TRANSITIONS and not self.control:
            # Points are armed before the walk begins; other faults come at some moment of it.
            beginner = threading.Thread(target=self.begin_transition, args=(0.1 if hasattr(happens, "point") else 0.0,), daemon=True)
            beginner.start()
        time.sleep(0.0 if hasattr(happens, "point") else self.draw.random() * 0.4)
        self.note(f"fault: {self.fault}")
        happens(self)
        self.heal()
        self.note("healed")
        before = self.clients.committed()
        time.sleep(0.3)
        kit.wait_until(lambda: self.clients.committed() > before + 10, lambda: f"clients work again: {[client.codes for client in self.clients.clients]}",
                       20 * kit.SLOW)

    def begin_transition(self, delay):
        """Asks until it is accepted: with clients at work, a gate may be shut at that moment."""
        time.sleep(delay)
        end = time.monotonic() + 3 * kit.SLOW
        while self.transition is None and time.monotonic() < end and not self.clients.stopping.is_set():
            try:
                self.note(f"asks for {TRANSITIONS[self.phase][1]}")
                self.transition = self.banyan.admin.start_transition(TRANSITIONS[self.phase][1], source_phase=TRANSITIONS[self.phase][0])["id"]
            except kit.AdminError as error:
                self.note(f"refused: {error}"[:300])
                time.sleep(0.1)
            except OSError:
                return

    def heal(self):
        for relay in self.relays.values():
            relay.heal()
        for cluster in self.clusters.values():
            cluster.heal()

    # --- afterwards ---

    def judge(self):
        if not self.control:
            self.transition_ended()
        if self.watch:
            self.problems += self.watch.stop()
        self.problems += self.clients.stop()
        self.note("clients stopped")
        self.committed = self.clients.committed()
        self.lost = sum(client.lost for client in self.clients.clients)
        if self.control:
            self.problems += self.check_side("source", final=True)
            return
        status = self.banyan.admin.status()
        self.one_phase(status)
        if not status["mirroring"]:
            left = {name: status["journal"][name] for name in ("dirty", "in_flight", "limbo", "suspect_tables") if status["journal"][name]}
            if left:
                self.problem(f"in {status['phase']} the journal still has {left}")
        if status["phase"] == "INITIAL":
            self.problems += self.check_side("source")
            self.lead_to("DUAL_WRITE")  # what the target has by now is mended, whatever it is
            status = self.banyan.admin.status()
        if status["phase"] == "COMPLETE":
            self.problems += self.check_side("target", final=True)
        else:
            self.converge()
            self.problems += self.check_side("source", final=status["primary"] == "source")
            self.problems += self.check_side("target", final=status["primary"] == "target")
            self.equal()
        self.nothing_left(nobody=False)
        self.note("checked")

    def transition_ended(self):
        def ended():
            with contextlib.suppress(OSError):
                return self.banyan.admin.status()["transition"] is None
        kit.wait_until(ended, lambda: f"no transition under way: {self.banyan.admin.status()['transition']}", 20 * kit.SLOW)
        if self.transition:
            found = self.banyan.admin.get(f"/transitions/{self.transition}")
            self.note(f"transition {found['state']}: {found['error']}")

    def one_phase(self, status):
        """API, file and sessions agree, the phase is one of the two, and its primary takes writes."""
        allowed = TRANSITIONS.get(self.phase) or (("DUAL_WRITE",) if self.phase == "backfill" else (BEGINS[self.phase],))
        if status["phase"] not in allowed:
            self.problem(f"the phase is {status['phase']}, not one of {allowed}")
        with contextlib.closing(sqlite3.connect(f"file:{self.state_file()}?mode=ro", uri=True)) as state:
            rows = state.execute("select phase from phase_history order by id desc limit 1").fetchall()
        persisted = rows[0][0] if rows else "INITIAL"
        if persisted != status["phase"]:
            self.problem(f"the phase is {status['phase']}, the file has {persisted}")
        with Wire(self.relays["client"].port, database=self.database, timeout=self.deadline) as wire:
            wire.query("begin").ok()
            phases = {session["phase"] for session in listed(self.banyan.admin.get("/sessions"), "sessions")}
            if phases != {status["phase"]}:
                self.problem(f"the phase is {status['phase']}, sessions follow {phases}")
            wire.query("rollback").ok()
            number = int(wire.value("insert into mark (note) values ('after') returning id"))
        where = {side for side in self.clusters if checker.ask(self.clusters[side], self.database, f"select 1 from mark where id = {number}")}
        if status["primary"] not in where or (status["phase"] in ("INITIAL", "COMPLETE") and len(where) > 1):
            self.problem(f"a write with primary {status['primary']} in {status['phase']} went to {where}")

    def state_file(self):
        found = [path for path in (self.directory / "state").iterdir() if path.is_file() and path.read_bytes()[:15] == b"SQLite format 3"]
        assert len(found) == 1, found
        return found[0]

    def converge(self):
        admin = self.banyan.admin

        def quiet():
            journal = admin.get("/journal")
            return (journal["dirty"] == 0 and journal["in_flight"] == 0 and journal["limbo"] == 0 and journal["suspect_tables"] == 0
                    and (admin.phase() != "DUAL_WRITE" or admin.get("/backfill")["state"] == "done"))

        slow = time.monotonic() + 5 * kit.SLOW

        def noted():
            nonlocal slow
            if done := quiet():
                return done
            if time.monotonic() > slow:
                slow = time.monotonic() + 5 * kit.SLOW
                status = admin.status()
                self.note(f"not converged yet: {json.dumps(status['journal'])[:600]} {json.dumps(status['repair'])} {json.dumps(status['backfill'])[:200]}")
            return False

        try:
            kit.wait_until(noted, "", 30 * kit.SLOW, 0.1)
        except TimeoutError:
            self.problem(f"does not converge: {json.dumps(admin.get('/journal'))[:900]} backfill {json.dumps(admin.get('/backfill'))[:300]}")
        self.note("converged")

    def check_side(self, side, final=False):
        problems = checker.check_side(self.clusters[side], self.database, self.clients, side)
        if final:
            problems += checker.check_reads(self.clients.reads, self.clients.history, checker.lists(self.clusters[side], self.database))
        return problems

    def equal(self):
        for result in kit.comparison.compare(self.clusters["source"].dsn(self.database), self.clusters["target"].dsn(self.database), None, 0.0):
            if not result.equal:
                self.problem(f"source and target differ: {result}")

    def nothing_left(self, nobody):
        for side, cluster in self.clusters.items():
            end = time.monotonic() + 8 * kit.SLOW
            while (left := checker.leftovers(cluster, self.database, side, nobody)) and time.monotonic() < end:
                time.sleep(0.1)
            self.problems += left

    def end(self):
        if self.clients and not self.clients.stopping.is_set():
            self.clients.stop()
        if self.watch:
            self.watch.stop()
        if self.banyan:
            hits = pathlib.Path(f"{self.control_file}.hits")
            self.hit = {line for line in hits.read_text().split()} if hits.exists() else set()
            try:
                self.banyan.close()
                if not self.problems:
                    self.nothing_left(nobody=True)
            except Exception as error:  # pylint: disable=broad-except
                self.problem(f"at the end: {error}"[:3000])
        for relay in self.relays.values():
            relay.close()
        self.note("ended")

    def keep(self, directory):
        """Everything about it, for whoever looks into a failure."""
        directory.mkdir(parents=True, exist_ok=True)
        name = "".join(letter if letter.isalnum() else "-" for letter in self.name)
        history = [txn.describe() for txn in sorted(self.clients.history, key=lambda txn: txn.began)] if self.clients else []
        path = directory / f"{name}.json"
        path.write_text(json.dumps({"seed": self.seed, "fault": self.fault, "phase": self.phase, "workload": self.workload, "control": self.control,
                                    "environment": self.environment, "problems": self.problems, "timeline": self.timeline, "began": self.began,
                                    "codes": [client.codes for client in self.clients.clients] if self.clients else [], "history": history}, indent=1))
        with contextlib.suppress(OSError, TypeError):
            shutil.copy(self.directory / "banyan.log", path.with_suffix(".log"))
        return path
