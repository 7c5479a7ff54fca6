"""One run of a driver's script, and what it printed: checks, by name.

A script prints one line `N.name: value` for each check, N being the stage it is in (1, 2, 3); lines that
do not look like that belong to the value before them. Two lines are markers, and wait for a line on stdin:
  PAUSE     between two stages (exactly twice): the phase may change now
  COMPARE   both sides are compared; the answer is "equal" or what differs
"""
import os
import queue
import re
import signal
import subprocess
import threading
import time

CHECK = re.compile(r"^([123]\.[^:]+):(?: (.*))?$")
SHOWN = 400


class Script:
    """A running script. Lines are collected by a thread, so that no pipe fills up."""

    def __init__(self, driver, build, port, database, errors, compare):
        """`errors` is the file that gets its stderr; compare() answers COMPARE."""
        self.driver, self.compare = driver, compare
        self.lines, self.output, self.problem, self.ended = queue.Queue(), [], "", False
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        environment |= {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": driver.name, "PGDATABASE": database,
                        "PGAPPNAME": driver.name, "PGCONNECT_TIMEOUT": "20", "BUILD": str(build), "LC_ALL": "C.UTF-8", "TZ": "UTC",
                        "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(driver.directory.parent),
                        "COMMON": str(driver.directory.parent / "common.sql")}
        with open(errors, "wb") as file:
            self.process = subprocess.Popen(driver.filled(driver.command, build), cwd=driver.directory, env=environment,
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, start_new_session=True)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.decode(errors="replace").rstrip("\n"))
        self.lines.put(None)

    def answer(self, text):
        try:
            self.process.stdin.write(text.encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            self.problem = self.problem or f"does not read its answer: {error}"

    def advance(self, answer=None):
        """To the next PAUSE (which then waits) or the end."""
        if self.ended:
            return
        if answer is not None:
            self.answer(answer)
        deadline = time.monotonic() + self.driver.seconds
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                self.problem = f"nothing for {self.driver.seconds:.0f} s after: {self.output[-1] if self.output else 'its start'}"
                self.close()
                return
            if line is None:
                code = self.process.wait()
                self.ended = True
                if code:
                    self.problem = self.problem or f"ended with {code}"
                return
            if line == "PAUSE":
                return
            if line == "COMPARE":
                self.answer(self.compare())
                deadline = time.monotonic() + self.driver.seconds
            else:
                self.output.append(line)

    def close(self):
        """Ends it, with whatever it started."""
        self.ended = True
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def checks(self):
        """{name: value}, in the order printed."""
        found, name = {}, None
        for line in self.output:
            if match := CHECK.match(line):
                name = match[1]
                while name in found:
                    name += "'"
                found[name] = match[2] or ""
            elif name is None:
                name, found["before the first check"] = "before the first check", line
            else:
                found[name] += "\n" + line
        if self.problem:
            found["the script itself"] = self.problem
        return found


def shown(value):
    if value is None:
        return "(no such check)"
    return value if len(value) <= SHOWN else f"{value[:SHOWN]}... ({len(value)} characters)"


def difference(expected, actual, most=12):
    """(checks that are the same, all checks, the first few of the others as text)"""
    names = list(dict.fromkeys([*expected, *actual]))
    wrong = [name for name in names if expected.get(name) != actual.get(name)]
    lines = [f"{name}\n    direct: {shown(expected.get(name))}\n    here:   {shown(actual.get(name))}"
             for name in sorted(wrong, key=lambda name: (name not in actual, names.index(name)))[:most]]
    if len(wrong) > most:
        lines.append(f"... and {len(wrong) - most} more, of which {sum(name not in actual for name in wrong)} are missing")
    return len(names) - len(wrong), len(names), "\n".join(lines)
