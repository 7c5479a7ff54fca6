"""The drivers and tools under test. Each has a folder here; adding one is told in README.md."""
import dataclasses
import pathlib

HERE = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass
class Driver:
    """`command` runs the script, in the driver's folder; `prepare` is run once before. In both, {build}
    is a directory of the driver's own that stays from run to run. `seconds` is the longest that the
    script may take between two markers."""

    name: str
    command: list
    prepare: list = dataclasses.field(default_factory=list)
    seconds: float = 90.0

    @property
    def directory(self):
        return HERE / self.name

    def sql(self, name):
        """The text of the driver's own schema.sql or data.sql, if it has one."""
        path = self.directory / name
        return path.read_text() if path.exists() else ""

    @staticmethod
    def filled(command, build):
        return [part.replace("{build}", str(build)) for part in command]


PYTHON = "/usr/bin/python3"

DRIVERS = [
    Driver("psql", ["bash", "checks.sh"]),
    Driver("psycopg2", [PYTHON, "checks.py"]),
    Driver("psycopg3", [PYTHON, "checks.py"]),
    Driver("asyncpg", [PYTHON, "checks.py"]),
]
