"""Where runs take place: two clusters of their own, restarted after whatever was done to them."""
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e"), str(HERE.parent / "support")]
import kit  # noqa: E402
from workload import ROWS, SCHEMA  # noqa: E402


class Server(kit.Cluster):
    """A cluster that may die."""

    def running(self):
        try:
            postmaster = int((self.directory / "data" / "postmaster.pid").read_text().split()[0])
        except (FileNotFoundError, ValueError, IndexError):
            return False
        return (pathlib.Path(f"/proc/{postmaster}/cwd").exists() and os.readlink(f"/proc/{postmaster}/cwd") == str(self.directory / "data"))

    def own_processes(self):
        """Of this server, also those whose parent is gone: their working directory is the data directory."""
        data, found = str(self.directory / "data"), []
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if os.readlink(entry / "cwd") == data and alive(int(entry.name)):
                        found.append(int(entry.name))
        return found

    def kill9(self):
        """The postmaster and all its children at once, as when a machine loses them."""
        postmaster = self.processes()[0]
        os.kill(postmaster, signal.SIGKILL)  # first: it would fork more
        deadline = time.monotonic() + 20
        while (left := self.own_processes()) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        # A zombie counts as a running postmaster, and whoever inherited it may be slow to reap it.
        for lock in (self.directory / "data" / "postmaster.pid", *self.directory.glob(".s.PGSQL.*.lock")):
            lock.unlink(missing_ok=True)

    def restart(self):
        if not self.running():
            super().restart()

    def heal(self):
        self.thaw()
        self.restart()


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Lab:
    def __init__(self):
        self.room = pathlib.Path(tempfile.mkdtemp(prefix="banyan-faults."))
        self.room.chmod(0o755)
        settings = {"max_connections": 150, "autovacuum": "off", "max_prepared_transactions": 10, "shared_buffers": "16MB",
                    "checkpoint_timeout": "30min", "wal_level": "replica"}
        self.clusters = {side: Server(self.room / side, **settings) for side in ("source", "target")}
        for cluster in self.clusters.values():
            cluster.create_database("pattern")
            cluster.sql(SCHEMA, "pattern", "app")
        self.number = 0
        self.mounted = []

    def databases(self):
        """A fresh pair; its name."""
        self.number += 1
        name = f"faults{self.number}"
        for side, cluster in self.clusters.items():
            cluster.heal()
            cluster.sql(f'create database "{name}" owner app template pattern')
            if side == "source":
                cluster.sql(ROWS, name, "app")
        return name

    def small_disk(self, directory, size="6m"):
        """A tmpfs there; False if that is not permitted."""
        directory.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", str(directory)], stderr=subprocess.DEVNULL, check=False)
        if done.returncode == 0:
            self.mounted.append(directory)
        return done.returncode == 0

    def forget(self, name):
        for directory in self.mounted:
            subprocess.run(["umount", "-l", str(directory)], stderr=subprocess.DEVNULL, check=False)
        self.mounted = []
        for cluster in self.clusters.values():
            with contextlib.suppress(Exception):
                cluster.heal()
                cluster.drop_database(name)
        shutil.rmtree(self.room / name, ignore_errors=True)

    def close(self):
        for cluster in self.clusters.values():
            cluster.close()
        shutil.rmtree(self.room, ignore_errors=True)
