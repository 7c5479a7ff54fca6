"""The table that must come out: each figure with its bound, computed from the samples. Pure."""
import dataclasses

from figures import Spread, difference, ratio, spread
from names import BANYAN, BOTH, BOTH_POOLED, DIRECT, DUAL_READ, DUAL_WRITE, FLIP, FLIP_BACK, HAPROXY, INITIAL, PGBOUNCER, PGCOPYDB, PGPOOL, SQL, TARGET_BUSY


LEFT_OUT = "left out"


class NotMeasured(Exception):
    """Why a figure is not there."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """`value` is what the bound is for: a ratio, a difference or a number; `ours` and `theirs` are what it comes from."""
    value: Spread
    ours: Spread
    theirs: Spread | None
    rounds: int
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    figure: str
    against: str
    sign: str  # "<=" or ">="
    bound: float
    unit: str  # of the value: "x", "us", "ms", "kB", "" (calls)
    detail: str  # unit of ours and theirs
    find: object  # results -> Figure

    def meets(self, value):
        """Compared as it is shown: what is shown as the bound meets it."""
        shown = round(value, decimals(self.unit))
        return shown <= self.bound if self.sign == "<=" else shown >= self.bound


def decimals(unit):
    return {"x": 2, "": 1, "us": 0, "ms": 1, "kB": 1}[unit]


@dataclasses.dataclass(frozen=True)
class Outcome:
    row: Row
    figure: Figure | None
    met: bool | None
    why: str = ""  # there is no figure


def samples(results, measurement, way):
    """The samples by round; NotMeasured if there is none."""
    found = results.get(measurement)
    if found is None:
        raise NotMeasured(LEFT_OUT)
    if way in found["errors"]:
        raise NotMeasured(f"{way}: {found['errors'][way]}")
    if not found["samples"].get(way):
        raise NotMeasured(LEFT_OUT)
    return found["samples"][way]


def column(results, measurement, way, name):
    return [sample[name] for sample in samples(results, measurement, way)]


def compare(measurement, name, ours, theirs, combine=ratio, scale=1.0, inverted=False):
    """`inverted`: the samples are durations and the bound is for rates."""
    def find(results):
        a, b = (column(results, measurement, way, name) for way in (ours, theirs))
        return Figure(combine(b, a) if inverted else combine(a, b), spread(a).scaled(scale), spread(b).scaled(scale), min(len(a), len(b)))

    return find


def alone(measurement, name, ways, note=None):
    """A figure of Banyan's own; the samples of several ways together."""
    def find(results):
        found = [sample for way in ways for sample in samples(results, measurement, way)]
        values = spread(sample[name] for sample in found)
        return Figure(values, values, None, len(found), note(found) if note else "")

    return find


def with_limit(find, limit, text):
    """Beside a figure, what the machine itself allows: `text` with `limit`'s value in place of {}."""
    def found(results):
        figure = find(results)
        try:
            value = limit(results).value
        except NotMeasured:
            return figure
        return dataclasses.replace(figure, note=text.format(f"{value.median:.2f}x ({value.low:.2f} to {value.high:.2f})"))

    return found


def shadowed(name):
    """Beside the ratio, what it is when the target has the same reads to do, but not from Banyan."""
    return with_limit(compare("read-paced", name, DUAL_READ, DUAL_WRITE), compare("read-paced", name, TARGET_BUSY, DUAL_WRITE),
                      "with as many reads sent to the target by a pgbench of its own, and none by Banyan, it is {}: the servers share the processors")


def against_pgpool(measurement):
    return with_limit(compare(measurement, "tps", DUAL_WRITE, PGPOOL), compare(measurement, "tps", BOTH, PGPOOL),
                      "pgbench straight at both reaches {} of Pgpool-II")


def written_twice():
    return with_limit(compare("write-prepared-8", "tps", DUAL_WRITE, BOTH), compare("write-prepared-8", "tps", BOTH_POOLED, BOTH),
                      "two pgbench, each through a PgBouncer, which keep nothing equal, reach {}")


def longest_wait(results):
    """The worst of all flips, not their median."""
    found = [sample for way in (FLIP, FLIP_BACK) for sample in samples(results, "switchover", way)]
    waits = [sample["longest_ms"] for sample in found]
    value = Spread(max(waits), min(waits), max(waits))
    pauses = spread(sample["pause_ms"] for sample in found)
    before = max(sample["wait_before_ms"] for sample in found)
    return Figure(value, value, None, len(found), f"the longest of {len(found)} flips; sessions held {pauses.median:.0f} ms "
                  f"({pauses.low:.0f} to {pauses.high:.0f}); longest wait before them {before:.0f} ms")


def failed_in_switchover(results):
    found = [sample["failed"] for way in (FLIP, FLIP_BACK) for sample in samples(results, "switchover", way)]
    value = Spread(sum(found), min(found), max(found))
    return Figure(value, value, None, len(found))


ROWS = [
    Row("processor time, -S prepared, INITIAL, 8 clients", PGBOUNCER, "<=", 1.0, "x", "us",
        compare("read-prepared-8", "cpu_us", INITIAL, PGBOUNCER)),
    Row("processor time, -S simple, INITIAL, 8 clients", PGBOUNCER, "<=", 1.0, "x", "us",
        compare("read-simple-8", "cpu_us", INITIAL, PGBOUNCER)),
    Row("sends of a transaction, -S prepared, INITIAL", f"beside {HAPROXY}", "<=", 2, "", "", lambda results: calls(results, "sends")),
    Row("receives of a transaction, -S prepared, INITIAL", f"beside {HAPROXY}", "<=", 2, "", "", lambda results: calls(results, "receives")),
    Row("EAGAIN in a transaction, -S prepared, INITIAL", f"beside {HAPROXY}", "<=", 0, "", "", lambda results: calls(results, "again")),
    Row("rate, -S prepared, INITIAL, 8 clients", PGBOUNCER, ">=", 1.0, "x", "/s", compare("read-prepared-8", "tps", INITIAL, PGBOUNCER)),
    Row("rate, -S prepared, DUAL_WRITE, 8 clients", INITIAL, ">=", 0.85, "x", "/s", compare("read-prepared-8", "tps", DUAL_WRITE, INITIAL)),
    Row("rate, TPC-B prepared, DUAL_WRITE, 8 clients", "pgbench straight at both", ">=", 0.85, "x", "/s",
        written_twice()),
    Row("rate, TPC-B prepared, DUAL_WRITE, 8 clients", PGPOOL, ">=", 4.0, "x", "/s", against_pgpool("write-prepared-8")),
    Row("rate, TPC-B simple, DUAL_WRITE, 8 clients", PGPOOL, ">=", 1.7, "x", "/s", against_pgpool("write-simple-8")),
    Row("p50 added to -S prepared, INITIAL, 1 client", DIRECT, "<=", 30, "us", "us", compare("read-prepared-1", "p50_us", INITIAL, DIRECT, difference)),
    Row("p50 of reads, DUAL_READ at share 1.0", DUAL_WRITE, "<=", 1.10, "x", "us", shadowed("p50_us")),
    Row("p99 of reads, DUAL_READ at share 1.0", DUAL_WRITE, "<=", 1.10, "x", "us", shadowed("p99_us")),
    Row("rate, COPY out, INITIAL", DIRECT, ">=", 0.9, "x", "MB/s", compare("copy-out", "mb_per_second", INITIAL, DIRECT)),
    Row("rate, COPY in, INITIAL", DIRECT, ">=", 0.9, "x", "MB/s", compare("copy-in", "mb_per_second", INITIAL, DIRECT)),
    Row("rate, backfill", PGCOPYDB, ">=", 0.7, "x", "k/s", compare("backfill", "rows_per_second", BANYAN, PGCOPYDB, scale=1e-3)),
    Row("rate, full verification", "SQL on the slower side", ">=", 0.8, "x", "s", compare("verification", "seconds", BANYAN, SQL, inverted=True)),
    Row("longest wait of a client in a switchover, 32 clients", "", "<=", 100, "ms", "ms", longest_wait),
    Row("transactions failed in a switchover", "", "<=", 0, "", "", failed_in_switchover),
    Row("memory of an idle session, PSS", f"beside {PGBOUNCER}", "<=", 16, "kB", "kB",
        lambda results: beside(alone("idle", "pss_per_session_kb", [INITIAL])(results), results, "idle", PGBOUNCER, "pss_per_session_kb")),
    Row("memory for a result of 10 GB, read with 1 kB a second", f"beside {PGBOUNCER}", "<=", 4096, "kB", "kB",
        lambda results: beside(alone("slow-reader", "growth_kb", [INITIAL])(results), results, "slow-reader", PGBOUNCER, "growth_kb")),
]


def calls(results, kind):
    figure = alone("syscalls", kind, [INITIAL], waits_of)(results)
    return beside(figure, results, "syscalls", HAPROXY, kind)


def waits_of(found):
    """What the row for sends tells beside."""
    waits, others = (spread(sample[kind] for sample in found).median for kind in ("waits", "others"))
    return f"epoll waits {waits:.1f}, other calls {others:.1f}"


def beside(figure, results, measurement, way, name):
    """With another way's number for comparison, if there is one."""
    try:
        theirs = spread(column(results, measurement, way, name))
    except NotMeasured:
        theirs = None
    return dataclasses.replace(figure, theirs=theirs)


def as_document(results):
    """The table for programs."""
    return [{"figure": outcome.row.figure, "against": outcome.row.against, "unit": outcome.row.unit, "sign": outcome.row.sign, "bound": outcome.row.bound,
             "met": outcome.met, **({"why": outcome.why} if outcome.figure is None else dataclasses.asdict(outcome.figure))} for outcome in outcomes(results)]


def outcomes(results):
    found = []
    for row in ROWS:
        try:
            figure = row.find(results)
            value = figure.value.median
            found.append(Outcome(row, figure, row.meets(value)))
        except NotMeasured as error:
            found.append(Outcome(row, None, None, str(error)))
        except (KeyError, ZeroDivisionError, ValueError) as error:
            found.append(Outcome(row, None, None, f"{type(error).__name__}: {error}"))
    return found
