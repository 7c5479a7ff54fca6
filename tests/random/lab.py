"""Where scenarios are run: two clusters, with a fresh pair of databases for each."""
import pathlib
import shutil
import sys
import tempfile
import threading

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parents[1] / "e2e")]
import kit  # noqa: E402
from executor import Run  # noqa: E402


class Lab:
    def __init__(self):
        self.room = pathlib.Path(tempfile.mkdtemp(prefix="banyan-random."))
        self.room.chmod(0o755)
        # Local: {"o": "hold_commits"} holds up those transactions alone that ask for more.
        self.source = kit.Cluster(self.room / "source", max_connections=300, autovacuum="off", synchronous_commit="local")
        self.target = kit.Cluster(self.room / "target", max_connections=300, autovacuum="off")
        self.number = 0
        self.lock = threading.Lock()

    def run(self, scenario, environment=None):
        """Runs it, with these variables in Banyan's environment; the Run, whose `failure` says how it ended."""
        with self.lock:
            self.number += 1
            name = f"random{self.number}"
        run = Run(scenario, self.source, self.target, self.room, name, environment)
        run.run()
        return run

    def close(self):
        for cluster in (self.source, self.target):
            cluster.close()
        shutil.rmtree(self.room, ignore_errors=True)
