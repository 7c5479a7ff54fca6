"""The clients: pgbench, sysbench and psql run to their end, and what they and the proxy between took."""
import contextlib
import pathlib
import subprocess
import time

from clusters import ENVIRONMENT, command, sysbench
from parse import latencies, pgbench_log, pgbench_summary, sysbench_summary
from processes import cpu_seconds, end, memory_kb, tool


class NothingDone(RuntimeError):
    """No transaction ended in time: the machine is too busy for so short a run."""


class Pgbench:
    """One pgbench under way. Its log of transactions is read when it has ended. `seconds` 0: the options say how long."""

    def __init__(self, room, port, database, clients=8, seconds=5, options=(), environment=None):
        self.prefix = f"log{port}.{time.monotonic_ns()}"
        self.room = pathlib.Path(room)
        self.seconds = seconds
        arguments = [tool("pgbench"), "-n", "-p", port, "-c", clients, "-j", min(clients, 2), *(["-T", seconds] if seconds else []),
                     "--log", f"--log-prefix={self.prefix}", *options, database]
        self.process = subprocess.Popen([str(argument) for argument in arguments], cwd=self.room, env=ENVIRONMENT | (environment or {}),
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def finish(self):
        """(summary with latencies, transactions of the log); RuntimeError if a client was aborted."""
        try:
            out, err = self.process.communicate(timeout=self.seconds + 120)
        except subprocess.TimeoutExpired:
            self.close()
            raise RuntimeError(f"pgbench did not end within {self.seconds + 120} s") from None
        transactions = []
        for file in self.room.glob(f"{self.prefix}.*"):
            with open(file, encoding="ascii") as lines:
                transactions += pgbench_log(lines)
            file.unlink()
        if self.process.returncode != 0:
            raise RuntimeError(f"pgbench ended with {self.process.returncode}: {err.strip()[-400:]}")
        if not transactions:
            raise NothingDone(f"no transaction within {self.seconds} s")
        return pgbench_summary(out) | latencies(transactions), transactions

    def close(self):
        end(self.process)


@contextlib.contextmanager
def used_by(pid, sample):
    """Adds what the proxy used meanwhile; per transaction once the block has said how many there were."""
    before = cpu_seconds(pid) if pid else 0.0
    yield
    if pid:
        sample["cpu_seconds"] = cpu_seconds(pid) - before
        if sample.get("transactions"):
            sample["cpu_us"] = sample["cpu_seconds"] / sample["transactions"] * 1e6
        sample |= memory_kb(pid)


def longer_if_needed(run):
    """run(seconds=...) again, for longer, if the time was too short for a single transaction: connecting counts."""
    def again(*arguments, seconds=5, **options):
        for _ in range(3):
            try:
                return run(*arguments, seconds=seconds, **options)
            except NothingDone:
                seconds *= 3
        return run(*arguments, seconds=seconds, **options)

    return again


@longer_if_needed
def run_pgbench(room, port, database, pid=None, **options):
    sample = {}
    with used_by(pid, sample):
        client = Pgbench(room, port, database, **options)
        try:
            sample |= client.finish()[0]
        finally:
            client.close()
    return sample


@longer_if_needed
def run_pgbench_twice(room, ports, database, **options):
    """Two at once, one at each server; the slower one's figures."""
    running = []
    try:
        for port in ports:
            running.append(Pgbench(room, port, database, **options))
        samples = [each.finish()[0] for each in running]
    finally:
        for each in running:
            each.close()
    return min(samples, key=lambda sample: sample["tps"]) | {"tps_of_each": [sample["tps"] for sample in samples]}


def run_sysbench(port, database, tables, rows, pid=None, clients=8, seconds=5):
    sample = {}
    with used_by(pid, sample):
        sample |= sysbench_summary(command([*sysbench(port, database, tables, rows), f"--threads={clients}", f"--time={seconds}", "--percentile=99",
                                            "--rand-type=uniform", "run"], seconds=seconds + 120))
    return sample


def timed_psql(port, database, sql, pid=None, out=subprocess.DEVNULL, into=subprocess.DEVNULL):
    """One psql with one statement, its standard input and output being files: {"seconds", ...}."""
    sample = {}
    with used_by(pid, sample):
        begun = time.monotonic()
        done = subprocess.run([tool("psql"), "-qXAt", "-v", "ON_ERROR_STOP=1", "-p", str(port), "-c", sql, database], env=ENVIRONMENT, stdin=into,
                              stdout=out, stderr=subprocess.PIPE, text=True, timeout=600, check=False)
        sample["seconds"] = time.monotonic() - begun
        if done.returncode != 0:
            raise RuntimeError(f"psql: {done.stderr.strip()[-400:]}")
    return sample
