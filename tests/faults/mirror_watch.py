"""Reads the bank's sum on both databases, directly, while the run goes on.

On the primary it must be the true sum, always: all that is asked is that no flip came between. On the mirror
it must be whenever Banyan knows of nothing that would explain another: before the read nothing dirty, lost,
suspect or still to be copied; behind it the same, nothing in flight either, and no key repaired meanwhile.
A transaction in flight before the read is no excuse: mirror transactions commit whole, in an order that the
primary's row locks gave them. One whose mirror half failed may have let later ones pass, but it is
dirty, or still in flight, when the second look comes.
"""
import contextlib
import threading
import time

import checker
from workload import ACCOUNTS, TOTAL

SUM = "select coalesce(sum(balance), 0)::bigint, count(*) from account"


class MirrorWatch:
    def __init__(self, run):
        self.run = run
        self.stopping = threading.Event()
        self.thread = None
        self.problems, self.checks, self.primary_checks = [], 0, 0

    def start(self):
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def stop(self):
        self.stopping.set()
        if self.thread:
            self.thread.join(60)
        return self.problems

    def work(self):
        while not self.stopping.is_set():
            time.sleep(0.05)
            with contextlib.suppress(Exception):  # whatever is down just now
                self.look()

    def look(self):
        before = self.run.banyan.admin.status()
        primary = self.read(before["primary"])
        mirror = self.read(before["mirror"]) if clean(before, quiet=False) else None
        after = self.run.banyan.admin.status()
        if before["transition"] is None and after["transition"] is None and where(before) == where(after):
            self.primary_checks += 1
            self.judge(primary, f"the primary ({before['primary']})")
            if mirror and clean(after, quiet=True) and clean(before, quiet=False) == clean(after, quiet=True):
                self.checks += 1
                self.judge(mirror, f"the mirror ({before['mirror']}), with nothing dirty before and after,")

    def read(self, side):
        return checker.ask(self.run.clusters[side], self.run.database, SUM)[0]

    def judge(self, found, what):
        if found != (TOTAL, ACCOUNTS):
            self.problems.append(f"{what} had the sum {found[0]} in {found[1]} accounts, not {TOTAL} in {ACCOUNTS}")
            self.run.note(self.problems[-1])


def where(status):
    return status["phase"], status["epoch"], status["started_unix_ms"]


def clean(status, quiet):
    """What must be equal before and after a read of the mirror, or None if something is dirty."""
    journal = status["journal"]
    if (not status["mirroring"] or journal["dirty"] or journal["limbo"] or journal["suspect_tables"] or journal["failed"]
            or (quiet and journal["in_flight"]) or (status["phase"] == "DUAL_WRITE" and status["backfill"]["state"] != "done")):
        return None
    return journal["repaired_total"], journal["errors_total"]
