"""A scenario: everything that one random run does, as a value that JSON can hold.

{"seed", "features": [name], "schema": [DDL for both sides], "rows": [SQL for the source, before mirroring],
 "banyan": {section: {key: value}}, "script": [operation]}

An element of "schema" is SQL, {"table", "items", "tail"}: a CREATE TABLE that can be reduced column by column, or {"side", "sql"}: for one
database only. The script's operations are begun in order. A client's ({"c": number, "do": ...}) waits for that client's former one and
holds up the script until it is done or seems blocked, or, after {"o": "pace", "free": true}, not at all: then the clients run side by
side. The operator's:

  {"o": "to", "phase"}        begin the step to that phase, once its gates pass (tried again until they do)
  {"o": "wait"}               until that step is done
  {"o": "brake"}              the tables are copied: hold the backfill before its last table, so that no verification has mended
                              anything yet, and compare every table that Banyan takes for exact
  {"o": "settle"}             everybody quiet: the same comparison, now
  {"o": "end"}                quiet, clean, and every captured table equal
  {"o": "kill9"}, {"o": "kill_mirror"}     Banyan dies and is started again; the mirror's backends of its sessions end
  {"o": "lock_mirror", "table", "ms"}      somebody else holds the mirror's rows for that long
  {"o": "hold_commits"}, {"o": "release_commits"}     on the source, of transactions that set synchronous_commit
  {"o": "pace", "free"}, {"o": "sleep", "ms"}
"""
import json
import random

from schema import HOT, SchemaMaker
from workload import Workload

# Mirrored by row, exactly: with these alone nothing is ever suspect but for the first verification.
EXACT = ["extended", "foreign_keys", "unique", "deferred", "generated", "queues", "sequences", "isolation", "savepoints",
         "unique_swaps", "cascades", "partitions"]
# Everything else; a seed has some of it.
OPAQUE = ["copy", "merge", "with", "do", "functions", "call", "views", "rules", "triggers", "writing_triggers", "inheritance",
          "row_security", "truncate", "large_objects", "temporary", "keyless"]
FAULTS = ["kill9", "kill_mirror"]
# Drawn last, so that adding one changes no earlier draw.
FURTHER = ["unlogged", "lock_mirror", "deep_capture", "deferred_writers", "ddl"]
# Only when asked for by name: what is known to be missing.
LATER = ["update_rules"]
FEATURES = EXACT + OPAQUE + FAULTS + FURTHER + LATER


def features_of(seed, wanted=None):
    """What a seed's scenario may contain: a third of all seeds keep to what is mirrored by row."""
    draw = random.Random(f"features/{seed}")
    chosen = [name for name in EXACT if draw.random() < 0.8]
    if draw.random() < 0.66:
        chosen += [name for name in OPAQUE if draw.random() < 0.4]
    chosen += [name for name in FAULTS if draw.random() < 0.15]
    chosen += [name for name, share in (("unlogged", 0.3), ("lock_mirror", 0.15)) if draw.random() < share]
    opaque = bool(set(chosen) & set(OPAQUE))
    chosen += [name for name, share in (("deep_capture", 0.5), ("deferred_writers", 0.5), ("ddl", 0.25)) if draw.random() < share and opaque]
    if wanted is not None:
        chosen = [name for name in FEATURES if name in wanted]
    return chosen


def generate(seed, wanted=None, size=1.0):
    """The scenario of this seed: pure, the same today and tomorrow. `size` scales the number of transactions."""
    features = features_of(seed, wanted)
    maker = SchemaMaker(seed, features).make()
    draw = random.Random(f"script/{seed}")
    workload = Workload(draw, maker, features)
    clients = draw.randint(2, 5)

    def load(least, most):
        lanes = [[workload.transaction(client) for _ in range(draw.randint(0, max(1, int(draw.randint(least, most) * size))))]
                 for client in range(clients)]
        operations = []
        queues = [[operation for transaction in lane for operation in transaction] for lane in lanes]
        while any(queues):
            queue = draw.choice([queue for queue in queues if queue])
            operations.append(queue.pop(0))
        return operations

    def faults():
        found = [{"o": name} for name in FAULTS if name in features and draw.random() < 0.5]
        if "lock_mirror" in features:
            found.append({"o": "lock_mirror", "table": draw.choice(maker.tables).name, "ms": draw.choice([100, 800])})
        return found

    def within(operations, *inserted):
        """The operations with these put in somewhere, in order."""
        at = sorted(draw.randint(0, len(operations)) for _ in inserted)
        for position, operation in zip(reversed(at), reversed(inserted)):
            operations.insert(position, operation)
        return operations

    script = [{"o": "pace", "free": draw.random() < 0.5}]
    script += within(load(1, 4), {"o": "to", "phase": "DUAL_WRITE"})
    script += [{"o": "wait"}] if draw.random() < 0.7 else []
    script += [{"o": "pace", "free": draw.random() < 0.7}, *load(4, 10), {"o": "brake"}]
    workload.mirroring = True
    script += [*within(load(3, 8), *faults()), {"o": "settle"}]
    script += [{"o": "pace", "free": draw.random() < 0.7}]
    script += within(load(2, 6), {"o": "to", "phase": "DUAL_READ"})
    script += [*within(load(1, 4), *faults()), {"o": "settle"}]
    flips = draw.choice([["SWITCHOVER"], ["SWITCHOVER"], ["SWITCHOVER", "DUAL_READ"], ["SWITCHOVER", "DUAL_READ", "SWITCHOVER"]])
    for phase in flips:
        script += [{"o": "pace", "free": draw.random() < 0.7}]
        script += within(load(2, 6), {"o": "to", "phase": phase})
        script += [{"o": "wait"}, *within(load(1, 4), *faults()), {"o": "settle"}]
    script.append({"o": "end"})
    if flips[-1] == "SWITCHOVER" and draw.random() < 0.5:
        script += [{"o": "to", "phase": "COMPLETE"}, {"o": "wait"}, *load(1, 2), {"o": "settle"}]
    waits = {"lock_timeout_ms": 200, "commit_timeout_ms": 1000} if "lock_mirror" in features else {}
    return {"seed": seed, "features": features, "schema": maker.statements, "rows": rows_of(maker, draw), "script": script,
            "banyan": {"mirror": waits, "backfill": {"max_chunk_rows": draw.choice([30, 150, 600]), "chunk_time_ms": 20,
                                                     "max_rows_per_second": draw.choice([0, 0, 3000])}}}


def rows_of(maker, draw):
    """The data that is there before mirroring: the hot rows, filler for several chunks, the brake."""
    rows = []
    for table in maker.tables:
        keys = table.key_expressions("g")
        names = list(keys)
        values = list(keys.values())
        for column in table.columns:
            if column.name == "n" and "n" not in names:
                names.append("n")
                values.append("g % 20")
            elif column.unique:
                names.append("code")
                values.append(f"case when g <= {HOT} then g else null end")
            elif column.parent is not None:
                names.append("parent")
                values.append(f"case when g <= {HOT} then {column.parent.key_expressions('g')['id']} end")
        overriding = "overriding system value " if table.key_kind == "always" else ""
        filler = draw.choice([0, 100, 600])
        for low, high in ((1, HOT), (1000, 1000 + filler)):
            if high > low:
                rows.append(f"insert into {table.name} ({', '.join(names)}) {overriding}select {', '.join(values)} "
                            f"from generate_series({low}, {high}) g on conflict do nothing")
        if table.key_kind in ("serial", "always", "bydefault"):
            rows.append(f"select setval('{table.name}_id_seq', 2000)")
    rows.append("insert into zz_brake select g, repeat('x', 50) from generate_series(1, 4000) g")
    return rows


def save(scenario, path):
    """One operation a line: what a reader, and a diff, can follow."""
    def lines(values):
        return "[\n" + ",\n".join("  " + json.dumps(value, ensure_ascii=False) for value in values) + "\n ]"

    parts = [f' "{name}": ' + (lines(value) if name in ("schema", "rows", "script") and value else json.dumps(value, ensure_ascii=False))
             for name, value in scenario.items()]
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))
