"""Reads the bank's sum on the mirror, directly, while the run goes on.

It must be the true sum whenever Banyan knows of nothing that would explain another: before the read nothing
dirty, lost, suspect or still to be copied; behind it the same, nothing in flight either, and no key was
marked and repaired meanwhile. A transaction in flight before the read is no excuse: mirror transactions
commit whole, in an order that the primary's row locks gave them. One whose mirror half failed may
have let later ones pass, but it is dirty, or still in flight, when the second look comes.
"""
import contextlib
import threading
import time

import checker
from workload import ACCOUNTS, TOTAL


class MirrorWatch:
    def __init__(self, run):
        self.run = run
        self.stopping = threading.Event()
        self.thread = None
        self.problems, self.checks = [], 0

    def start(self):
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def stop(self):
        self.stopping.set()
        if self.thread:
            self.thread.join(60)
        return self.problems

    def clean(self, quiet):
        """What must be equal before and after a read, or None if something is dirty."""
        status = self.run.banyan.admin.status()
        journal = status["journal"]
        if (not status["mirroring"] or status["transition"] or journal["dirty"] or journal["limbo"] or journal["suspect_tables"]
                or journal["failed"] or (quiet and journal["in_flight"])
                or (status["phase"] == "DUAL_WRITE" and status["backfill"]["state"] != "done")):
            return None
        return status["phase"], status["mirror"], status["started_unix_ms"], journal["repaired_total"], journal["errors_total"]

    def work(self):
        while not self.stopping.is_set():
            time.sleep(0.05)
            with contextlib.suppress(Exception):  # whatever is down just now
                self.look()

    def look(self):
        before = self.clean(quiet=False)
        if before is None:
            return
        found = checker.ask(self.run.clusters[before[1]], self.run.database, "select sum(balance)::bigint, count(*) from account")[0]
        if self.clean(quiet=True) != before:
            return
        self.checks += 1
        if found != (TOTAL, ACCOUNTS):
            self.problems.append(f"the mirror ({before[1]}) had the sum {found}, not {TOTAL} in {ACCOUNTS}, with nothing dirty before and after")
