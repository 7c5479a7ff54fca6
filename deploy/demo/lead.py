#!/usr/bin/python3
"""Leads a migration through all phases while the workload runs, and writes what it saw.

    lead.py --admin URL --token-file FILE --source DSN --target DSN --report FILE [--dwell SECONDS]
            [--banyanctl PATH]

Steps are taken by banyanctl, as an operator would; what must be true in between is asked from the
admin API. Both sides are compared by SQL alone, under load, in SWITCHOVER: the last phase in which
they must be equal. In COMPLETE the source rests: it must not change any more.
"""
import argparse
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import compare  # noqa: E402
from banyan_admin import Admin, listed, wait_until  # noqa: E402


class Leader:
    def __init__(self, arguments):
        with open(arguments.token_file, encoding="utf-8") as file:
            token = file.read().strip()
        self.arguments = arguments
        self.admin = Admin(arguments.admin, token)
        self.environment = {**os.environ, "BANYAN_URL": arguments.admin, "BANYAN_TOKEN": token}
        self.began = time.time()
        self.report = {"began": self.began, "phases": [], "problems": [], "flips": []}

    def say(self, text):
        print(f"[{time.time() - self.began:6.1f} s] {text}", flush=True)

    def problem(self, text):
        self.report["problems"].append(text)
        self.say("PROBLEM: " + text)

    def step(self, to, reason):
        """One phase change, by banyanctl if it is there."""
        leaving = self.admin.phase()
        backward = compare_phases(to, leaving) < 0
        if self.arguments.banyanctl:
            command = [self.arguments.banyanctl, "rollback" if backward else "advance", "--yes", "--reason", reason]
            self.say("$ banyanctl " + " ".join(repr(word) if " " in word else word for word in command[1:]))
            done = subprocess.run(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, timeout=180, check=False)
            for line in done.stdout.splitlines():
                print("           " + line, flush=True)
            if done.returncode != 0:
                raise RuntimeError(f"banyanctl {command[1]} ended with {done.returncode}")
        else:
            self.admin.transition(to, reason, seconds=120)
        now = self.admin.phase()
        if now != to:
            raise RuntimeError(f"the phase is {now}, not {to}")
        transition = listed(self.admin.get("/transitions"), "transitions")[0]
        if transition.get("pause_microseconds"):
            self.report["flips"].append({"from": leaving, "to": to, "pause_ms": transition["pause_microseconds"] / 1000})
        self.entered(to)

    def entered(self, phase):
        now = time.time()
        if self.report["phases"]:
            self.report["phases"][-1]["left"] = now
        self.report["phases"].append({"phase": phase, "entered": now})
        self.say(f"=== {phase}")

    def dwell(self):
        time.sleep(self.arguments.dwell)

    def verified(self):
        """Every table suspect for a moment is settled, then every table is equal."""
        verification = self.admin.verify(seconds=180)
        names = {table["name"]: table["state"] for table in verification["tables"] if table["state"] != "equal"}
        rows = sum(table["rows_compared"] for table in verification["tables"])
        self.say(f"verification: {verification['state']}, {len(verification['tables'])} tables, {rows} rows compared")
        if verification["state"] != "equal":
            self.problem(f"verification is {verification['state']}: {names} "
                         f"{[table['sample'] for table in verification['tables'] if table['sample']]}")

    def gates(self, to, seconds=60):
        """Waits until every gate passes; the last explanation is the error."""
        def shut():
            return [gate for gate in self.admin.gates(to) if gate["verdict"] != "pass"]

        try:
            wait_until(lambda: not shut(), lambda: "; ".join(f"{gate['name']} {gate['verdict']}: {gate['explanation']}" for gate in shut()),
                       seconds, 0.2)
        except TimeoutError as error:
            raise RuntimeError(f"gates to {to} stay shut: {error}") from error
        self.say(f"all gates to {to} pass")

    def compared(self):
        """Both sides by SQL, while the workload goes on."""
        started = time.time()
        results = compare.compare(self.arguments.source, self.arguments.target, settle=10)
        self.report["tables"] = [
            {"table": result.table, "source_rows": result.source_rows, "target_rows": result.target_rows,
             "equal": result.equal, "differing": result.differing, "differing_count": result.differing_count}
            for result in results]
        unequal = [result.table for result in results if not result.equal]
        self.say(f"compared by SQL: {len(results)} tables, {sum(result.source_rows for result in results)} rows, "
                 f"{'all equal' if not unequal else 'NOT equal: ' + ', '.join(unequal)} ({time.time() - started:.1f} s)")
        for table in unequal:
            self.problem(f"{table} differs: {next(r.differing for r in results if r.table == table)}")

    def source_rests(self):
        """The source must not change in COMPLETE, and the target must."""
        def contents(dsn):
            connection = compare.connect(dsn)
            try:
                return {table: compare.query(connection, "select count(*), sum(hashtextextended(t::text, 0)::numeric) from "
                                             + ".".join(map(compare.quote, table.split(".", 1))) + " t")[0]
                        for table in compare.list_tables(connection)}
            finally:
                connection.close()

        source, target = contents(self.arguments.source), contents(self.arguments.target)
        self.dwell()
        for table, value in contents(self.arguments.source).items():
            if source.get(table) != value:
                self.problem(f"the source's {table} still changes in COMPLETE")
        later = contents(self.arguments.target)
        if later == target:
            self.problem("the target does not change in COMPLETE: does the workload still run?")

    def run(self):
        self.entered(self.admin.phase())
        if self.admin.phase() != "INITIAL":
            raise RuntimeError(f"the migration begins in {self.admin.phase()}, not INITIAL")
        self.dwell()
        self.step("DUAL_WRITE", "begin to mirror writes")
        self.wait_backfill()
        self.dwell()
        self.verified()
        self.gates("DUAL_READ")
        self.step("DUAL_READ", "copied and verified; compare reads")
        self.dwell()
        self.verified()
        self.gates("SWITCHOVER")
        self.step("SWITCHOVER", "reads agree")
        self.dwell()
        self.step("DUAL_READ", "a rehearsal of the way back")
        self.dwell()
        self.verified()
        self.gates("SWITCHOVER")
        self.step("SWITCHOVER", "for good")
        self.dwell()
        self.verified()
        self.compared()
        found = self.admin.discrepancies()
        self.report["discrepancies"] = {name: value for name, value in found.items() if name != "groups"}
        self.report["discrepancies"]["groups"] = len(found["groups"])
        if found["confirmed"]:
            self.problem(f"{found['confirmed']} confirmed discrepancies: {json.dumps(found['groups'])[:2000]}")
        self.report["shadow"] = self.admin.get("/shadow")
        self.gates("COMPLETE")
        self.step("COMPLETE", "the source may go")
        self.source_rests()

    def wait_backfill(self):
        shown = None
        while True:
            backfill = self.admin.get("/backfill")
            percent = 100 * backfill["rows_copied"] // max(1, backfill["rows_estimated"])
            line = (f"backfill {backfill['state']}: {backfill['rows_copied']} of about {backfill['rows_estimated']} rows, "
                    f"{backfill['tables_done']} of {backfill['tables_total']} tables")
            if backfill["state"] == "failed":
                raise RuntimeError(f"the backfill failed: {backfill}")
            if backfill["state"] == "done" or shown is None or percent >= shown + 20:
                self.say(line)
                shown = percent
            if backfill["state"] == "done":
                return
            if time.time() - self.report["phases"][-1]["entered"] > 300:
                raise RuntimeError(f"the backfill takes too long: {backfill}")
            time.sleep(0.2)

    def write(self):
        self.report["ended"] = time.time()
        if self.report["phases"]:
            self.report["phases"][-1]["left"] = self.report["ended"]
        with open(self.arguments.report, "w", encoding="utf-8") as file:
            json.dump(self.report, file, indent=1, default=str)


def compare_phases(left, right):
    order = ["INITIAL", "DUAL_WRITE", "DUAL_READ", "SWITCHOVER", "COMPLETE"]
    return order.index(left) - order.index(right)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--admin", required=True)
    parser.add_argument("--token-file", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--report", required=True)
    parser.add_argument("--dwell", type=float, default=6.0)
    parser.add_argument("--banyanctl")
    leader = Leader(parser.parse_args())
    try:
        leader.run()
    except Exception as error:  # told in the report's table as well
        leader.problem(f"{type(error).__name__}: {error}")
    finally:
        leader.write()
    return 1 if leader.report["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
