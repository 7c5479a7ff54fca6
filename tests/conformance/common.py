"""What the Python scripts share: the checks of common.sql, and printing."""
import os
import re
import sys


def statements():
    """[(name, sql)] of common.sql."""
    with open(os.environ["COMMON"], encoding="utf-8") as file:
        parts = re.split(r"^-- (.*)\n", file.read(), flags=re.M)
    return [(name, sql.strip().rstrip(";")) for name, sql in zip(parts[1::2], parts[2::2])]


def value_text(value):
    """A value as Python sees it: kinds that the driver makes objects of must be the same objects."""
    if isinstance(value, memoryview):
        value = bytes(value)
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) < 500 else f"{text[:60]}...{len(text)}"


def rows_text(rows):
    return ";".join("|".join(map(value_text, row)) for row in rows) if len(rows) < 50 else f"{len(rows)} rows, {hash_text(rows)}"


def hash_text(rows):
    import hashlib
    return hashlib.md5("\n".join("|".join(map(value_text, row)) for row in rows).encode()).hexdigest()


class Printer:
    """Prints checks of the stage it is in."""

    stage = 1

    def __call__(self, name, value):
        print(f"{self.stage}.{name}: {value}".replace("\n", "\\n"), flush=True)

    def check(self, name, work, errors, show=None):
        """Prints what work() returns, or the error: errors are the driver's exception classes, show(error) its text."""
        try:
            self(name, work())
        except errors as error:
            self(name, f"{type(error).__name__} {show(error) if show else error}")

    def pause(self):
        print("PAUSE", flush=True)
        sys.stdin.readline()
        self.stage += 1

    def compare(self, name):
        print("COMPARE", flush=True)
        self(name, sys.stdin.readline().strip())
