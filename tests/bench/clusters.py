"""Two PostgreSQL servers as an operator would run them: everything reaches the disk, nothing is switched off."""
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
import kit  # noqa: E402
from certificates import Authority  # noqa: E402
from processes import tool  # noqa: E402

# No checkpoint falls into a measurement by itself, and no vacuum: both are run between measurements.
SETTINGS = {
    "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "deadlock_timeout": "1s", "max_connections": 400,
    "shared_buffers": "1GB", "max_wal_size": "8GB", "min_wal_size": "4GB", "checkpoint_timeout": "1h", "autovacuum": "off",
}
# TLS only where a measurement asks for it: the servers would grant it to whoever prefers it.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {
    "PGUSER": "app", "PGHOST": "127.0.0.1", "PGSSLMODE": "disable", "PGGSSENCMODE": "disable", "PGCONNECT_TIMEOUT": "30",
    "PGPASSFILE": str(ROOT / "no-pgpass")}


class Servers:
    """The source and the target, with the databases that measurements ask for."""

    def __init__(self, room):
        self.room = room
        self.authority = Authority(room / "authority")
        self.certificate = self.authority.sign("server", "localhost", ["DNS:localhost", "IP:127.0.0.1"])
        self.source = self.target = None
        try:
            self.source = kit.Cluster(room / "source", **SETTINGS)
            self.target = kit.Cluster(room / "target", **SETTINGS)
            for cluster in self.both:
                cluster.use_tls(*self.certificate)
        except BaseException:
            self.close()
            raise

    @property
    def both(self):
        return self.source, self.target

    def create(self, database):
        for cluster in self.both:
            cluster.create_database(database)

    def load_pgbench(self, database, scale, clusters=None, keys=True):
        """pgbench's tables, each with a key, and an empty one for COPY, on the clusters named; by default on the source."""
        for cluster in clusters or (self.source,):
            command([tool("pgbench"), "-i", "-q", "-s", str(scale), "-p", str(cluster.port), database])
            if keys:
                command([tool("psql"), "-qX", "-v", "ON_ERROR_STOP=1", "-p", str(cluster.port), "-f", ROOT / "deploy/demo/pgbench_keys.sql",
                         "-c", "create table load (like pgbench_accounts including all)", database])

    def load_sysbench(self, database, tables, rows):
        command([*sysbench(self.source.port, database, tables, rows), "prepare"])

    def copy_schema(self, database):
        """The source's tables, empty, on the target."""
        schema = command([tool("pg_dump"), "--schema-only", "-p", str(self.source.port), database])
        command([tool("psql"), "-qX", "-v", "ON_ERROR_STOP=1", "-p", str(self.target.port), database], text=schema)

    def settle(self, database):
        """After loading: statistics, hint bits, and a checkpoint whose writes would otherwise come later."""
        for cluster in self.both:
            cluster.sql("vacuum analyze", database)
            cluster.sql("checkpoint")

    def vacuum_small(self, database):
        """pgbench's few hot rows, before each run that writes; what pgbench does itself without -n."""
        for cluster in self.both:
            if cluster.sql("select to_regclass('pgbench_branches') is not null", database)[0][0]:
                cluster.sql("vacuum pgbench_branches, pgbench_tellers", database)

    def close(self):
        for cluster in self.both:
            if cluster is not None:
                cluster.close()


def sysbench(port, database, tables, rows):
    return [tool("sysbench"), "oltp_read_write", "--db-driver=pgsql", "--pgsql-host=127.0.0.1", f"--pgsql-port={port}", "--pgsql-user=app",
            f"--pgsql-db={database}", f"--tables={tables}", f"--table-size={rows}"]


def command(arguments, text=None, seconds=600):
    """Runs it to its end; what it printed. RuntimeError with its last words if it fails."""
    done = subprocess.run([str(argument) for argument in arguments], env=ENVIRONMENT, input=text, stdin=None if text is not None else subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=seconds, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{pathlib.Path(str(arguments[0])).name} ended with {done.returncode}: {done.stderr.strip()[-400:] or done.stdout.strip()[-400:]}")
    return done.stdout
