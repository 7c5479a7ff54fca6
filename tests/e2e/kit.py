"""What the end-to-end tests stand on: clusters, Banyan, and exact comparison.

Everything listens on 127.0.0.1 and a port the system chose, lives in a temporary directory, and is
ended by the object that started it. BANYAN_BINARY and BANYANCTL_BINARY name the programs under test.
"""
import contextlib
import hashlib
import io
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import psycopg2

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "deploy" / "demo"))
import compare as comparison  # noqa: E402
from banyan_admin import Admin, AdminError, TransitionError, wait_until  # noqa: E402,F401
from wire import Wire  # noqa: E402

BINARY = os.environ.get("BANYAN_BINARY", str(ROOT / "build" / "release" / "banyan"))
CTL = os.environ.get("BANYANCTL_BINARY", str(pathlib.Path(BINARY).parent / "banyanctl"))
TOKENS = {"viewer": "viewer-secret", "operator": "operator-secret", "admin": "admin-secret"}
# A sanitizer makes everything slower; waits scale, expectations do not.
SLOW = float(os.environ.get("BANYAN_SLOW", "1"))

HBA = """
local all all trust
host all cleartext_user 127.0.0.1/32 password
host all md5_user 127.0.0.1/32 md5
host all scram_user 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
host replication all 127.0.0.1/32 trust
"""
ROLES = """
create role app login;
grant set on parameter session_replication_role to app;
set password_encryption = 'md5';
create role md5_user login password 'md5 secret';
set password_encryption = 'scram-sha-256';
create role scram_user login password 'scram secret';
create role cleartext_user login password 'clear secret';
grant set on parameter session_replication_role to md5_user, scram_user, cleartext_user;
"""
PASSWORDS = {"cleartext_user": "clear secret", "md5_user": "md5 secret", "scram_user": "scram secret"}


class Cluster:
    """One PostgreSQL server, started through tests/support/cluster."""

    def __init__(self, directory, hba=HBA, **settings):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True)
        (self.directory / "pg_hba.conf").write_text(hba)
        settings = {"fsync": "off", "full_page_writes": "off", "deadlock_timeout": "300ms", **settings}
        self.port = int(self.script("start", *[f"{name}={value}" for name, value in settings.items()]).split()[-1])
        self.stopped = []
        self.sql(ROLES)

    @classmethod
    def standby_of(cls, primary, directory):
        """A streaming standby, asynchronous."""
        standby = cls.__new__(cls)
        standby.directory = pathlib.Path(directory)
        standby.directory.mkdir(parents=True)
        standby.stopped = []
        standby.port = int(standby.script("standby", str(primary.port)).split()[-1])
        return standby

    def promote(self):
        self.script("promote")

    def script(self, command, *arguments):
        return subprocess.run([ROOT / "tests/support/cluster", command, self.directory, *arguments], check=True,
                              stdout=subprocess.PIPE, timeout=120, text=True).stdout

    def dsn(self, database="postgres", user="postgres"):
        return f"host=127.0.0.1 port={self.port} user={user} dbname={database} connect_timeout=20"

    def connect(self, database="postgres", user="postgres", autocommit=True):
        connection = psycopg2.connect(self.dsn(database, user))
        connection.autocommit = autocommit
        return connection

    def sql(self, sql, database="postgres", user="postgres", parameters=None):
        """Runs it; the rows of the last statement, if it has any."""
        connection = self.connect(database, user)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def create_database(self, name, owner="app"):
        self.sql(f'create database "{name}" owner "{owner}"')

    def drop_database(self, name):
        """Also on a server that a failed test has left frozen, or waiting for a standby."""
        self.thaw()
        connection = psycopg2.connect(self.dsn() + " options='-c synchronous_commit=local -c statement_timeout=60s'")
        connection.autocommit = True
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute(f'drop database if exists "{name}" with (force)')

    def use_tls(self, certificate, key, ca=None):
        """Turns TLS on, with files of the server's own."""
        data = self.directory / "data"
        for name, file in (("server.crt", certificate), ("server.key", key), ("root.crt", ca)):
            if file:
                copy = data / name
                copy.write_bytes(pathlib.Path(file).read_bytes())
                os.chown(copy, data.stat().st_uid, data.stat().st_gid)
                copy.chmod(0o600)
        if ca:
            self.sql("alter system set ssl_ca_file = 'root.crt'")
        self.sql("alter system set ssl = on")
        self.stop("fast")
        self.restart()

    # --- bad days ---

    def stop(self, how="immediate"):
        self.script("stop", how)

    def restart(self):
        self.script("restart")

    def processes(self):
        postmaster = int((self.directory / "data" / "postmaster.pid").read_text().split()[0])
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(postmaster)], stdout=subprocess.PIPE, text=True, check=False)
        return [postmaster] + [int(pid) for pid in children.stdout.split()]

    def kill_postmaster(self):
        """kill -9; its children notice and end, some of them when they have nothing to do."""
        os.kill(self.processes()[0], signal.SIGKILL)

    def freeze(self):
        """SIGSTOP: connections are accepted by the kernel, and nothing ever answers."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                self.stopped.append(pid)

    def thaw(self):
        for pid in reversed(self.stopped):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.stopped = []

    def close(self):
        self.thaw()
        self.stop()


def toml(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(str(key))} = {toml(content)}" for key, content in value.items()) + "}"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def toml_text(sections):
    """{"section": {...}} and {"section": [{...}, ...]} (an array of tables) as TOML."""
    lines = []
    for name, content in sections.items():
        for table in content if isinstance(content, list) else [content]:
            lines.append(f"[[{name}]]" if isinstance(content, list) else f"[{name}]")
            lines += [f"{key} = {toml(value)}" for key, value in table.items()]
            lines.append("")
    return "\n".join(lines)


class Banyan:
    """One Banyan process between two clusters, for one database (the same name on both)."""

    def __init__(self, directory, source, target, database, users=("app", "cleartext_user", "md5_user", "scram_user"), **sections):
        self.directory = pathlib.Path(directory)
        (self.directory / "state").mkdir(parents=True, exist_ok=True)
        self.source, self.target, self.database = source, target, database
        self.process = None
        self.environment = {}  # on top of this program's
        self.arguments = []  # of the command line, after --config
        self.port = self.admin_port = 0
        self.sections = {
            "listen": {"host": "127.0.0.1", "port": 0, "port_file": self.directory / "port"},
            "migration": {"database": database},
            "source": {"host": "127.0.0.1", "port": source.port, "database": database, "user": "postgres"},
            "target": {"host": "127.0.0.1", "port": target.port, "database": database, "user": "postgres"},
            "users": [{"name": user, "source_password": PASSWORDS.get(user, ""), "target_password": PASSWORDS.get(user, "")}
                      for user in (*users, "postgres")],
            "state": {"directory": self.directory / "state"},
            "mirror": {"allow_cleartext": "always"}, "backfill": {}, "shadow": {"min_samples": 1}, "switchover": {}, "limits": {},
            "proxy": {"threads": 2, "sessions_before_next_thread": 1},
            "admin": {"host": "127.0.0.1", "port": 0, "port_file": self.directory / "admin-port"},
            "admin.tokens": [{"name": role, "sha256": hashlib.sha256(token.encode()).hexdigest(), "role": role}
                             for role, token in TOKENS.items()],
        }
        for name, content in sections.items():
            self.sections[name] = {**self.sections[name], **content} if isinstance(content, dict) and name in self.sections else content

    @property
    def config_file(self):
        return self.directory / "banyan.toml"

    def write_config(self):
        sections = {name: content for name, content in self.sections.items() if content}
        sections = {name: ({**content, "port": port} if port else content)
                    for name, content in sections.items()
                    for port in [{"listen": self.port, "admin": self.admin_port}.get(name)]}
        self.config_file.write_text(toml_text(sections))
        self.config_file.chmod(0o600)

    def log(self):
        return (self.directory / "banyan.log").read_text(errors="replace")

    def start(self, ready=True):
        """Starts it; after the first start it keeps its ports, so that a restart is one."""
        for name in ("port", "admin-port"):
            with contextlib.suppress(FileNotFoundError):
                (self.directory / name).unlink()
        self.write_config()
        self.process = self.spawn(*self.arguments)
        if ready:
            self.wait_ready()
        return self

    def spawn(self, *options):
        """Another process of it, with the configuration file as it is."""
        with open(self.directory / "banyan.log", "ab") as log:
            return subprocess.Popen([BINARY, "--config", str(self.config_file), *options], stdin=subprocess.DEVNULL, stdout=log,
                                    stderr=subprocess.STDOUT, start_new_session=True, env={**os.environ, **self.environment})

    def wait_ready(self, seconds=20):
        def ports():
            assert self.process.poll() is None, f"Banyan ended with {self.process.returncode}:\n{self.log()}"
            try:
                self.port = int((self.directory / "port").read_text())
                self.admin_port = int((self.directory / "admin-port").read_text())
                return True
            except (FileNotFoundError, ValueError):
                return False

        wait_until(ports, lambda: f"ports written:\n{self.log()}", seconds * SLOW)
        self.admin = Admin(f"http://127.0.0.1:{self.admin_port}", TOKENS["admin"])

        def ready():
            assert self.process.poll() is None, f"Banyan ended with {self.process.returncode}:\n{self.log()}"
            with contextlib.suppress(OSError):
                return self.admin.request("GET", "/readyz")[0] == 200

        wait_until(ready, lambda: f"/readyz:\n{self.log()}", seconds * SLOW)

    def stop(self, seconds=20):
        """SIGTERM; returns the exit code. Checks that it ended by itself and that no sanitizer spoke."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(seconds * SLOW)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"Banyan did not end on SIGTERM:\n{self.log()[-3000:]}") from None
        finally:
            self.process = None
        return code

    def kill9(self):
        self.process.kill()
        self.process.wait()
        self.process = None

    def restart(self):
        self.stop()
        return self.start()

    def close(self):
        """Ends it and fails for what a passing test would hide: a crash, or a sanitizer's report."""
        code = self.stop()
        log = self.log() if (self.directory / "banyan.log").exists() else ""
        for word in ("AddressSanitizer", "ThreadSanitizer", "LeakSanitizer", "runtime error:", "terminate called"):
            assert word not in log, f"{word} in Banyan's log:\n{log[max(0, log.index(word) - 200):][:6000]}"
        assert code in (None, 0), f"Banyan ended with {code}:\n{log[-3000:]}"

    # --- clients ---

    def dsn(self, user="app", database=None):
        password = PASSWORDS.get(user)
        return (f"host=127.0.0.1 port={self.port} user={user} dbname={database or self.database} connect_timeout=20"
                + (f" password='{password}'" if password else ""))

    def connect(self, user="app", autocommit=True, **options):
        connection = psycopg2.connect(self.dsn(user), **options)
        connection.autocommit = autocommit
        return connection

    def wire(self, user="app", **options):
        return Wire(self.port, user, options.pop("database", self.database), options.pop("password", PASSWORDS.get(user, "")),
                    timeout=30 * SLOW, **options)

    def sql(self, sql, parameters=None, user="app"):
        connection = self.connect(user)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def ctl(self, *arguments, token="admin", timeout=120):
        """Runs banyanctl; a CompletedProcess with text output."""
        environment = {**os.environ, "BANYAN_URL": self.admin.url, "BANYAN_TOKEN": TOKENS.get(token, token)}
        return subprocess.run([CTL, *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=timeout, check=False)

    # --- the migration ---

    def lead_to(self, phase, verify=True):
        """Forward, step by step, with all gates and no overrides."""
        order = ["INITIAL", "DUAL_WRITE", "DUAL_READ", "SWITCHOVER", "COMPLETE"]
        while (now := self.admin.phase()) != phase:
            following = order[order.index(now) + 1]
            if now in ("DUAL_WRITE", "DUAL_READ") and verify:
                self.admin.wait_backfill(120 * SLOW)
                self.admin.wait_clean(60 * SLOW)
                verification = self.admin.verify(seconds=120 * SLOW)
                assert verification["state"] == "equal", verification
            if following in ("SWITCHOVER", "COMPLETE"):
                self.feed_shadow_reads()
            wait_until(lambda: all(gate["verdict"] == "pass" for gate in self.admin.gates(following)),
                       lambda: [gate for gate in self.admin.gates(following) if gate["verdict"] != "pass"], 30 * SLOW)
            self.admin.transition(following, seconds=60 * SLOW)
        return self

    def feed_shadow_reads(self):
        """The gates of SWITCHOVER and COMPLETE want proof from reads; a test without readers gives them some."""
        shadow = self.admin.get("/shadow")
        if shadow["matched_in_phase"] >= shadow["minimum_samples"]:
            return
        table = self.source.sql("select n.nspname || '.' || quote_ident(c.relname) from pg_class c join pg_namespace n on n.oid = relnamespace "
                                "where relkind = 'r' and nspname not like 'pg\\_%%' and nspname not in ('information_schema', 'banyan') "
                                "order by 1 limit 1", self.database)[0][0]
        for _ in range(shadow["minimum_samples"]):
            self.sql(f"select count(*) from {table}")

        def proven():
            self.sql(f"select count(*) from {table}")  # one that the mirror was too slow for proves nothing: another
            return self.admin.get("/shadow")["matched_in_phase"] >= shadow["minimum_samples"]

        wait_until(proven, lambda: self.admin.get("/shadow"), 15 * SLOW)

    def compare(self, tables=None, settle=0.0):
        return comparison.compare(self.source.dsn(self.database), self.target.dsn(self.database), tables, settle)

    def assert_equal(self, tables=None, settle=0.0):
        results = self.compare(tables, settle)
        assert results, "no table compared"
        unequal = [result for result in results if not result.equal]
        assert not unequal, f"source and target differ: {unequal}"
        return {result.table: result.source_rows for result in results}

    def settle_and_compare(self, seconds=60):
        """With the clients quiet: nothing dirty or suspect any more, Banyan finds both sides equal, and so does SQL."""
        self.admin.wait_clean(seconds * SLOW)
        verification = self.admin.verify(seconds=120 * SLOW)
        assert verification["state"] == "equal", verification
        return self.assert_equal(settle=2)


class Workers:
    """Threads that each call work(number, stop) until stopped; any exception fails the test."""

    def __init__(self, count, work):
        self.stop_event = threading.Event()
        self.errors = []
        self.work = work
        self.threads = [threading.Thread(target=self.run, args=(number,), daemon=True) for number in range(count)]

    def run(self, number):
        try:
            self.work(number, self.stop_event)
        except Exception as error:  # pylint: disable=broad-except
            self.errors.append((number, time.strftime("%H:%M:%S"), repr(error)))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, kind, *_):
        self.stop_event.set()
        for thread in self.threads:
            thread.join(60 * SLOW)
        stuck = [thread.name for thread in self.threads if thread.is_alive()]
        if kind is None:
            assert not self.errors, self.errors[:5]
            assert not stuck, f"clients hang: {stuck}"
