"""Runs a scenario on two clusters with a Banyan of its own, and says what went wrong."""
import base64
import collections
import contextlib
import pathlib
import queue
import shutil
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]
import checker  # noqa: E402
import kit  # noqa: E402
from banyan_admin import AdminError, TransitionError  # noqa: E402
from wire import (COPY_DONE, SYNC, Closed, Wire, WireError, bind, copy_data, describe, execute, parse, query)  # noqa: E402

BLOCKED = 0.04  # seconds after which a statement is taken to wait for another client
UNVERIFIED = "not verified since the backfill"
# Classes that no statement of ours may cause: connection, internal, operator intervention.
UNEXPECTED = ("08", "57P", "XX", "F0", "58")
# Gates that say by name what Banyan does not mirror, and that an operator overrides.
NAMED = {"tables_capturable", "large_objects"}
PATIENCE = 45 * kit.SLOW


class Failure(Exception):
    """`kind`: unequal, lost, sequence, stuck, hang, error, crash."""

    def __init__(self, kind, text):
        super().__init__(f"{kind}: {text}")
        self.kind, self.text = kind, text


class Client:
    """One connection, worked by a thread, its operations in order."""

    def __init__(self, run, number, direct):
        self.run, self.number, self.direct = run, number, direct
        self.wire = None
        self.kills = 0  # of Banyan, before the connection was made
        self.operations = queue.Queue()
        self.busy = 0
        self.idle = threading.Condition()
        self.receipts = []  # of the transaction under way
        self.acknowledged, self.unsure = set(), set()
        self.status = "I"
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def submit(self, operation):
        with self.idle:
            self.busy += 1
        self.operations.put(operation)

    def wait(self, seconds):
        with self.idle:
            return self.idle.wait_for(lambda: self.busy == 0, seconds)

    def work(self):
        while (operation := self.operations.get()) is not None:
            try:
                if self.run.failure is None:
                    self.perform(operation)
            except Failure as failure:
                self.run.fail(failure)
            except Exception as error:  # pylint: disable=broad-except
                self.run.fail(Failure("error", f"client {self.number}, {operation}: {error!r}"))
            finally:
                with self.idle:
                    self.busy -= 1
                    self.idle.notify_all()

    def connect(self):
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if self.direct:
                    return Wire(self.run.source.port, "app", self.run.database, timeout=PATIENCE)
                return self.run.banyan.wire(application_name=f"client{self.number}")
            except (Closed, OSError, WireError):
                if self.run.failure or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def perform(self, operation):
        try:
            if self.wire is None:
                self.kills = self.run.kills
                self.wire = self.connect()
                self.status = "I"
            reply = getattr(self, operation["do"])(operation)
            self.note(operation, reply)
        except TimeoutError:
            raise Failure("hang", f"client {self.number}: {operation}") from None
        except (Closed, OSError) as error:
            self.unsure.update(self.receipts)
            self.receipts = []
            self.wire = None
            if self.kills == self.run.kills and not self.run.killing and not self.direct:
                raise Failure("error", f"client {self.number} lost its connection in {operation}: {error!r}") from None

    def note(self, operation, reply):
        if reply is None:
            return
        for error in reply.errors:
            self.run.errors[error.get("C")] += 1
            self.run.examples[(error.get("C"), error.get("M"))] = operation
            if str(error.get("C")).startswith(UNEXPECTED):
                raise Failure("error", f"client {self.number}, {operation}: {error}")
            if error.get("C") == "42601":
                self.run.syntax_errors.append(str(operation)[:200])
        self.run.statements += 1
        self.status = reply.status
        if reply.errors and self.status == "I":
            self.receipts = []  # rolled back, by COMMIT too
        elif reply.tags and reply.tags[-1] == "ROLLBACK":
            self.receipts = []
        elif self.status == "I" or "COMMIT" in reply.tags:
            self.acknowledged.update(self.receipts)
            self.receipts = []

    # --- what an operation does; each gives the Reply ---

    def simple(self, operation):
        return self.wire.query(operation["sql"])

    def extended(self, operation):
        return self.wire.extended(operation["sql"], operation.get("parameters", ()), results=(1,) if operation.get("binary") else ())

    def pipeline(self, operation):
        for sql in operation["sqls"]:
            self.wire.send(parse(sql), bind(), execute())
        self.wire.send(SYNC)
        return self.wire.reply()

    def prepare(self, operation):
        self.wire.send(parse(operation["sql"], operation["name"]), SYNC)
        return self.wire.reply()

    def execute(self, operation):
        self.wire.send(bind(operation["parameters"], operation["name"]), describe(), execute(), SYNC)
        return self.wire.reply()

    def receipt(self, operation):
        self.receipts.append(operation["number"])
        reply = self.wire.query(f"insert into receipts (client, number) values ({self.number}, {operation['number']})")
        if reply.errors:
            self.receipts.pop()
        return reply

    def copy(self, operation):
        data = operation["data"].encode() if "data" in operation else base64.b64decode(operation["data64"])
        self.wire.send(query(operation["sql"]))
        reply = self.wire.reply(until=b"GZ")
        if b"G" not in reply.kinds.encode():
            return reply
        self.wire.send(copy_data(data), COPY_DONE)
        return self.wire.reply()

    def copy_binary(self, operation):
        """The rows in COPY's binary format, made by the primary itself from a table of the same columns.

        It does not touch the table: somebody may wait to change it who waits for this client.
        """
        names = ", ".join(operation["columns"])
        wanted = ", ".join(f"'{name}'" for name in operation["columns"])
        types = (f"select string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' order by array_position(array[{wanted}], attname::text)) "
                 f"from pg_attribute where attrelid = '{operation['table']}'::regclass and attname in ({wanted})")
        primary = self.run.primary()
        with contextlib.closing(Wire(primary.port, "app", self.run.database, timeout=PATIENCE)) as maker:
            rows = "; ".join(f"insert into made values ({row})" for row in operation["rows"])
            found = maker.query(types)
            if found.errors or found.texts()[0][0] is None:
                return None
            made = maker.query(f"create temporary table made ({found.texts()[0][0]}); {rows}")
            copied = maker.query("copy made to stdout (format binary)")
        if made.errors or copied.errors:
            return None
        sql = f"copy {operation['table']} ({names}) from stdin (format binary)"
        return self.copy({"sql": sql, "data64": base64.b64encode(copied.copy)})

    def stop(self):
        self.operations.put(None)
        if self.wire:
            with contextlib.suppress(OSError):
                self.wire.socket.close()


class Run:
    """One scenario on the two clusters; run() gives None or the Failure."""

    def __init__(self, scenario, source, target, directory, database, environment=None):
        self.scenario, self.source, self.target, self.database = scenario, source, target, database
        self.directory = pathlib.Path(directory) / database
        self.environment = environment or {}
        self.banyan = None
        self.clients = {}
        self.failure = None
        self.failed_at = None
        self.lock = threading.Lock()
        self.errors = collections.Counter()
        self.examples = {}  # (SQLSTATE, message) -> an operation that met it
        self.syntax_errors = []
        self.statements = self.compared = 0
        self.uncaptured = set()
        self.kills, self.killing = 0, False
        self.free = False
        self.stepping = None  # the thread that leads to the next phase
        self.braking, self.braked = None, False  # the thread that watches the backfill
        self.checks = collections.Counter()
        self.seconds = collections.Counter()  # of the script's time, by what was being done

    def fail(self, failure):
        with self.lock:
            self.failure = self.failure or failure

    def run(self):
        try:
            self.prepare()
            for position, operation in enumerate(self.scenario["script"]):
                self.failed_at = position
                began = time.monotonic()
                if "o" in operation:
                    getattr(self, "do_" + operation["o"])(operation)
                else:
                    self.dispatch(operation)
                self.seconds[operation.get("o", "client")] += time.monotonic() - began
                if self.failure:
                    break
            self.join_step()
        except Failure as failure:
            self.fail(failure)
        except (TimeoutError, AdminError, TransitionError, OSError, AssertionError, RuntimeError, Closed, WireError) as error:
            self.fail(Failure("stuck", f"{type(error).__name__}: {str(error)[:1500]}"))
        finally:
            self.finish()
        return self.failure

    def prepare(self):
        for side, cluster in (("source", self.source), ("target", self.target)):
            cluster.create_database(self.database)
            connection = cluster.connect(self.database, "app")
            with contextlib.closing(connection), connection.cursor() as cursor:
                for statement in self.scenario["schema"]:
                    if isinstance(statement, dict) and statement.get("side", side) != side:
                        continue
                    with contextlib.suppress(kit.psycopg2.Error):  # the reducer takes away what others need
                        cursor.execute(as_sql(statement))
                for statement in self.scenario["rows"] if side == "source" else ():
                    with contextlib.suppress(kit.psycopg2.Error):
                        cursor.execute(statement)
        sections = {"switchover": {"deadline_ms": 4000}}
        for name, content in self.scenario.get("banyan", {}).items():
            sections[name] = {**sections.get(name, {}), **content} if isinstance(content, dict) else content
        self.banyan = kit.Banyan(self.directory, self.source, self.target, self.database, users=("app",), **sections)
        self.banyan.environment = self.environment
        self.banyan.start()
        if "deep_capture" in self.scenario["features"]:
            done = self.banyan.ctl("capture", "install")
            if done.returncode:
                raise Failure("stuck", f"banyanctl capture install: {done.stderr}")

    def finish(self):
        for client in self.clients.values():
            client.stop()
        try:
            if self.banyan is not None:
                self.banyan.close()
        except AssertionError as error:
            self.fail(Failure("crash", str(error)[:3000]))
        for cluster in (self.source, self.target):
            with contextlib.suppress(kit.psycopg2.Error):
                cluster.drop_database(self.database)
        if self.failure is None:
            shutil.rmtree(self.directory, ignore_errors=True)

    # --- clients ---

    def dispatch(self, operation):
        number = operation["c"]
        if number not in self.clients:
            self.clients[number] = Client(self, number, operation.get("direct", False))
        client = self.clients[number]
        client.submit(operation)
        if not self.free:
            client.wait(BLOCKED)

    def quiet(self):
        """Every client has done all it was given, and none is in a transaction."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for client in self.clients.values():
                if not client.wait(max(0.0, deadline - time.monotonic())):
                    raise Failure("hang", f"client {client.number} does not get done")
            if self.failure:
                raise self.failure
            open_ones = [client for client in self.clients.values() if client.status != "I" and client.wire]
            if not open_ones:
                return
            for client in open_ones:
                client.submit({"c": client.number, "do": "simple", "sql": "rollback"})

    # --- the operator ---

    def primary(self):
        return self.target if self.banyan.admin.phase() in ("SWITCHOVER", "COMPLETE") else self.source

    def do_pace(self, operation):
        self.free = operation["free"]

    def do_sleep(self, operation):
        time.sleep(operation["ms"] / 1000)

    def do_to(self, operation):
        self.join_step()
        self.stepping = threading.Thread(target=self.step, args=(operation["phase"],), daemon=True)
        self.stepping.start()

    def do_wait(self, _):
        self.join_step()

    def join_step(self):
        if self.stepping is not None:
            self.stepping.join(PATIENCE * 2)
            self.stepping = None
        if self.failure:
            raise self.failure

    def step(self, phase):
        deadline, why = time.monotonic() + PATIENCE, None
        while self.failure is None:
            try:
                if self.banyan.admin.phase() == phase:
                    break
                why = self.try_step(phase)
            except (AdminError, TransitionError, TimeoutError, OSError, RuntimeError) as error:
                why = f"{type(error).__name__}: {error}"
            if time.monotonic() > deadline:
                self.fail(Failure("stuck", f"no way to {phase}: {why}"))
            time.sleep(0.05)
        if phase == "DUAL_WRITE" and self.failure is None and not self.braking:
            self.braking = threading.Thread(target=self.brake, daemon=True)
            self.braking.start()

    def try_step(self, phase):
        admin = self.banyan.admin
        shut = [gate for gate in admin.gates(phase) if gate["verdict"] != "pass"]
        tables = admin.tables()
        self.uncaptured = {name for name, table in tables.items() if not table["captured"]}
        if any(gate["name"].startswith("shadow") for gate in shut):
            self.read_something()
            shut = [gate for gate in admin.gates(phase) if gate["verdict"] != "pass"]
        named = {gate["name"] for gate in shut}
        if shut and not named <= NAMED and not (self.uncaptured and self.only_uncaptured(tables)):
            return [(gate["name"], gate["explanation"]) for gate in shut]
        admin.transition(phase, seconds=20 * kit.SLOW, override_gates=bool(shut))
        return None

    def only_uncaptured(self, tables):
        """Whether nothing but tables that Banyan says it does not mirror is in the way."""
        return (self.banyan.admin.get("/backfill")["state"] != "running"
                and all(table["suspect"] is None and table["dirty"] == 0 and (table["verification"] or {}).get("state") == "equal"
                        for table in tables.values() if table["captured"]))

    def read_something(self):
        with contextlib.closing(self.banyan.wire()) as wire:
            for _ in range(3):
                wire.query("select count(*) from receipts")

    def brake(self):
        try:
            self.watch_backfill()
        except (AdminError, OSError) as error:
            self.fail(Failure("stuck", f"the backfill cannot be watched: {error}"))

    def watch_backfill(self):
        """Pauses the backfill when every table but the last is copied: the verification of all waits for that one."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.failure is None:
            time.sleep(0.005)
            backfill = self.banyan.admin.get("/backfill")
            states = {table["name"]: table["state"] for table in backfill["tables"]}
            if backfill["state"] == "done" or states.get("public.zz_brake") in ("done", None) and states:
                return
            if all(state in ("done", "failed") for name, state in states.items() if name != "public.zz_brake"):
                self.banyan.admin.post("/backfill/pause")
                self.braked = self.banyan.admin.get("/backfill")["state"] == "paused"
                return

    def do_brake(self, _):
        self.join_step()
        if self.braking:
            self.braking.join(PATIENCE * 2)
        self.quiet()
        if self.braked:
            self.settled()
            self.check(braked=True)
            self.checks["braked"] += 1
        with contextlib.suppress(AdminError):
            self.banyan.admin.post("/backfill/resume")
        self.braked = False

    def do_settle(self, _):
        self.join_step()
        self.quiet()
        self.settled(dirty=False)
        self.check()

    def do_end(self, _):
        self.join_step()
        self.quiet()
        if self.banyan.admin.phase() in ("INITIAL", "COMPLETE"):
            return
        with contextlib.suppress(AdminError):
            self.banyan.admin.post("/backfill/resume")
        self.settled(suspects=True)
        self.check(everything=True)
        confirmed = self.banyan.admin.discrepancies()["confirmed"]
        if confirmed:
            raise Failure("unequal", f"{confirmed} shadow reads were found to differ: {self.banyan.admin.discrepancies()['groups'][:2]}")

    def do_kill9(self, _):
        self.killing = True
        try:
            self.banyan.kill9()
            self.banyan.start()
        finally:
            self.kills += 1
            self.killing = False

    def do_kill_mirror(self, _):
        mirror = self.source if self.primary() is self.target else self.target
        mirror.sql("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and application_name !~ '^banyan' "
                   "and pid <> pg_backend_pid()", parameters=(self.database,))

    def do_lock_mirror(self, operation):
        """Somebody else holds the mirror's rows for a while: what Banyan writes there runs into its lock_timeout."""
        mirror = self.source if self.primary() is self.target else self.target
        connection = mirror.connect(self.database, autocommit=False)
        with contextlib.suppress(kit.psycopg2.Error), connection.cursor() as cursor:
            cursor.execute(f"set lock_timeout = '500ms'; select 1 from {operation['table']} for update")
        timer = threading.Timer(operation["ms"] / 1000, connection.close)
        timer.daemon = True
        timer.start()

    def do_hold_commits(self, _):
        """COMMITs on the source wait, for a standby that does not exist, if their transaction has set synchronous_commit."""
        self.source.sql("alter system set synchronous_standby_names = 'nobody'")
        self.source.sql("select pg_reload_conf()")
        time.sleep(0.3)

    def do_release_commits(self, _):
        self.source.sql("alter system reset synchronous_standby_names")
        self.source.sql("select pg_reload_conf()")

    # --- comparing ---

    def settled(self, dirty=True, suspects=False):
        """Nothing in flight; on request no key dirty, and no captured table suspect."""
        def left():
            journal = self.banyan.admin.get("/journal")
            found = {name: journal[name] for name in ("in_flight", "limbo", *(("dirty",) if dirty or suspects else ())) if journal[name]}
            if suspects and not found:
                found = {name: table["suspect"] for name, table in self.banyan.admin.tables().items() if table["captured"] and table["suspect"]}
            return found

        try:
            kit.wait_until(lambda: not left(), "", PATIENCE)
        except TimeoutError:
            raise Failure("stuck", f"never clean: {left()}; repair: {self.banyan.admin.status()['repair']['last_error']}") from None

    def check(self, braked=False, everything=False):
        """Compares every table that Banyan takes for exact; with `everything`, every captured one."""
        phase = self.banyan.admin.phase()
        if phase not in ("INITIAL", "COMPLETE"):
            exact = set()
            for name, table in self.banyan.admin.tables().items():
                copied = braked and table["suspect"] and table["suspect"]["reason"] == UNVERIFIED and table["backfill"]["state"] == "done"
                clean = table["dirty"] == 0 and (table["suspect"] is None or copied)
                if table["captured"] and (clean or everything) and not (braked and name == "public.zz_brake"):
                    exact.add(name)
                if not table["captured"]:
                    self.uncaptured.add(name)
            if everything and "public.receipts" not in exact and self.has_table("receipts"):
                raise Failure("unequal", "public.receipts is not among the captured tables")
            problems = checker.differences(self.source.dsn(self.database), self.target.dsn(self.database), exact)
            if problems:
                raise Failure("unequal", f"in {phase}{', before any verification' if braked else ''}: " + "; ".join(problems))
            self.compared += len(exact)
        if phase in ("SWITCHOVER", "COMPLETE"):
            behind = checker.sequences_behind(self.target.dsn(self.database), self.source.dsn(self.database))
            if behind:
                raise Failure("sequence", "; ".join(behind))
            if (orphans := checker.orphans(self.target.dsn(self.database))) and not self.uncaptured:
                raise Failure("lost", "; ".join(orphans))
        self.check_receipts(phase)

    def has_table(self, name):
        return bool(self.source.sql("select 1 from pg_class where relname = %s and relkind = 'r'", self.database, parameters=(name,)))

    def check_receipts(self, phase):
        if not self.has_table("receipts"):
            return
        cluster = self.target if phase in ("SWITCHOVER", "COMPLETE") else self.source
        found = collections.defaultdict(set)
        for client, number in cluster.sql("select client, number from receipts", self.database):
            found[client].add(number)
        for client in self.clients.values():
            missing = client.acknowledged - found[client.number]
            extra = found[client.number] - client.acknowledged - client.unsure
            if missing or extra:
                raise Failure("lost", f"in {phase}, client {client.number}: acknowledged, but not there: {sorted(missing)}; "
                                      f"there, but not acknowledged: {sorted(extra)}")


def as_sql(statement):
    if isinstance(statement, str):
        return statement
    if "sql" in statement:
        return statement["sql"]
    kind = "unlogged table" if statement.get("unlogged") else "table"
    return f"create {kind} {statement['table']} ({', '.join(statement['items'])}) {statement['tail']}"
