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
    folder: str = ""  # if it is not the name's
    seconds: float = 90.0

    @property
    def directory(self):
        return HERE / (self.folder or self.name)

    def sql(self, name):
        """The text of the driver's own schema.sql or data.sql, if it has one."""
        path = self.directory / name
        return path.read_text() if path.exists() else ""

    @staticmethod
    def filled(command, build):
        return [part.replace("{build}", str(build)) for part in command]


PYTHON = "/usr/bin/python3"


def node(name, script):
    return Driver(name, ["node", "{build}/" + script], [["bash", "prepare.sh", "{build}"]], "node")


def golang(name, argument):
    return Driver(name, ["{build}/" + name, argument], [["env", "GO111MODULE=off", "GOPATH=/usr/share/gocode", "GOFLAGS=", "go", "build", "-o", "{build}/" + name, "main.go"]], "golang")


DRIVERS = [
    Driver("psql", ["bash", "checks.sh"]),
    Driver("psycopg2", [PYTHON, "checks.py"]),
    Driver("psycopg3", [PYTHON, "checks.py"]),
    Driver("asyncpg", [PYTHON, "checks.py"]),
    node("node_pg", "pg.mjs"),
    node("postgresjs", "postgresjs.mjs"),
    node("knex", "knex.mjs"),
    Driver("libpq", ["{build}/checks"], [["bash", "-c", "g++ -std=c++20 -O1 -Wall -o {build}/checks checks.cpp $(pkg-config --cflags --libs libpq)"]]),
    Driver("libpqxx", ["{build}/checks"], [["bash", "-c", "g++ -std=c++17 -O1 -Wno-deprecated-declarations -o {build}/checks checks.cxx $(pkg-config --cflags --libs libpqxx)"]]),
    Driver("pgjdbc", ["java", "-XX:TieredStopAtLevel=1", "-cp", "/usr/share/java/postgresql.jar:{build}", "Checks"],
           [["javac", "-cp", "/usr/share/java/postgresql.jar", "-d", "{build}", "Checks.java"]]),
    Driver("rubypg", ["ruby", "checks.rb"]),
    Driver("dbdpg", ["perl", "checks.pl"]),
    golang("pq", "pq"),
    golang("pgx", "pgx"),
    Driver("sqlalchemy", [PYTHON, "checks.py"]),
    Driver("alembic", ["bash", "checks.sh"]),
    Driver("pgdump", ["bash", "checks.sh"]),
    Driver("pgbench", ["bash", "checks.sh"]),
    Driver("sysbench", ["bash", "checks.sh"]),
]
