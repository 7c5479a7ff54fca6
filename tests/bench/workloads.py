"""The measurements of throughput, latency and processor time: pgbench and sysbench on several ways in turn."""
import dataclasses
import time
import typing

from clients import Pgbench, run_pgbench, run_pgbench_twice, run_sysbench
from names import (BOTH, BOTH_POOLED, DIRECT, DUAL_READ, DUAL_WRITE, HAPROXY, INITIAL, ONE_THREAD, PGBOUNCER, PGPOOL, PGPOOL_RAW, TARGET_BUSY,
                   TWO_THREADS)
from processes import thread_seconds

BRIEF = 0.35  # the share of --seconds of figures without a bound
READ = ("-S",)
WRITE = ("-b", "tpcb-like")


@dataclasses.dataclass
class Measurement:
    """`ways`: by name, a function of the lab and of seconds that gives a sample: numbers by name."""
    name: str
    title: str
    ways: dict[str, typing.Callable]
    share: float = 1.0  # of --seconds
    warm: bool = False  # one short run of each way before the first round
    rounds: float = 1.0  # share of --rounds
    quick_rounds: int = 1
    budget: float = 600.0  # seconds; no further round is begun that would exceed it


@dataclasses.dataclass
class Endpoint:
    port: int
    pid: int | None = None
    environment: dict = dataclasses.field(default_factory=dict)


def of_banyan(banyan, environment=None):
    return Endpoint(banyan.port, banyan.process.pid, environment or {})


def of_peer(peer):
    return Endpoint(peer.port, peer.pid, peer.environment)


TLS = {"PGSSLMODE": "require"}
# Where a way's clients connect, and to which database.
ENDPOINTS = {
    DIRECT: (lambda lab: Endpoint(lab.servers.source.port), "plain"),
    INITIAL: (lambda lab: of_banyan(lab.initial()), "plain"),
    DUAL_WRITE: (lambda lab: of_banyan(lab.dual()), "dual"),
    DUAL_READ: (lambda lab: of_banyan(lab.read()), "read"),
    PGBOUNCER: (lambda lab: of_peer(lab.pgbouncer()), "plain"),
    HAPROXY: (lambda lab: of_peer(lab.haproxy()), "plain"),
    PGPOOL_RAW: (lambda lab: of_peer(lab.pgpool_raw()), "plain"),
    PGPOOL: (lambda lab: of_peer(lab.pgpool_native()), "pool"),
    ONE_THREAD: (lambda lab: of_banyan(lab.with_threads(1)), "plain"),
    TWO_THREADS: (lambda lab: of_banyan(lab.with_threads(2)), "plain"),
}
TLS_ENDPOINTS = {
    DIRECT: (lambda lab: Endpoint(lab.servers.source.port, None, TLS), "plain"),
    INITIAL: (lambda lab: of_banyan(lab.initial_tls(), TLS), "plain"),
    PGBOUNCER: (lambda lab: of_peer(lab.pgbouncer_tls()), "plain"),
    HAPROXY: (lambda lab: dataclasses.replace(of_peer(lab.haproxy()), environment=TLS), "plain"),
}


def pgbench(way, clients, *options, endpoints=None, rate=None):
    """`rate(lab)`: transactions per second; without it, as many as go."""
    find, database = (endpoints or ENDPOINTS)[way]

    def run(lab, seconds):
        lab.database(database)
        endpoint = find(lab)
        writes = WRITE[1] in options
        if writes:
            lab.servers.vacuum_small(database)
        extra = ("-R", str(rate(lab))) if rate else ()
        watch = {DUAL_READ: Shadowed, DUAL_WRITE: Repaired if writes else Nothing}.get(way, Nothing)(lab)
        sample = run_pgbench(lab.room, endpoint.port, database, endpoint.pid, clients=clients, seconds=seconds, options=(*options, *extra),
                             environment=endpoint.environment)
        return sample | watch.found(sample)

    return run


class Nothing:
    def __init__(self, lab):
        pass

    def found(self, _):
        return {}


class Shadowed:
    """How many of the reads Banyan ran on the target, too: when it cannot keep up it leaves some out."""

    def __init__(self, lab):
        self.admin = lab.read().admin
        self.before = self.sent()

    def sent(self):
        return self.admin.get("/shadow")["sent"]

    def found(self, sample):
        return {"shadowed_share": (self.sent() - self.before) / sample["transactions"]}


class Repaired:
    """How many keys were not on the mirror when their transaction was answered, and repaired behind it.

    The next way begins when that is done, so that it does not pay for it.
    """

    def __init__(self, lab):
        self.admin = lab.dual().admin
        self.before = self.repaired()

    def repaired(self):
        return self.admin.get("/journal")["repaired_total"]

    def found(self, _):
        began = time.monotonic()
        self.admin.wait_clean(120)
        return {"repaired": self.repaired() - self.before, "repair_seconds": time.monotonic() - began}


def pgbench_both(find, clients, *options):
    """One at each database at once; `find(lab)` gives what they connect to."""
    def run(lab, seconds):
        lab.database("pair")
        lab.servers.vacuum_small("pair")
        return run_pgbench_twice(lab.room, [each.port for each in find(lab)], "pair", clients=clients, seconds=seconds, options=options)

    return run


def beside(way, clients, *options, rate):
    """The way's figures while as many transactions run straight at the target."""
    one = pgbench(way, clients, *options, rate=rate)

    def run(lab, seconds):
        other = Pgbench(lab.room, lab.servers.target.port, lab.database(ENDPOINTS[way][1]), clients=clients, seconds=seconds + 1,
                        options=(*options, "-R", str(rate(lab))))
        try:
            return one(lab, seconds)
        finally:
            other.close()

    return run


def by_threads(way, clients, *options):
    """Besides the usual, how much of the processor time the busiest thread took."""
    one = pgbench(way, clients, *options)

    def run(lab, seconds):
        lab.database("plain")
        pid = ENDPOINTS[way][0](lab).pid
        before = thread_seconds(pid)
        sample = one(lab, seconds)
        used = [spent - before.get(thread, 0) for thread, spent in thread_seconds(pid).items()]
        return sample | {"busiest_share": max(used) / sum(used)}

    return run


TWO_SIDES = {BOTH: lambda lab: lab.servers.both, BOTH_POOLED: lambda lab: lab.pgbouncers()}


def ways(names, clients, *options, **more):
    return {name: pgbench_both(TWO_SIDES[name], clients, *options) if name in TWO_SIDES else pgbench(name, clients, *options, **more) for name in names}


def sysbench(way):
    find, database = ENDPOINTS[way]

    def run(lab, seconds):
        lab.database(database)
        endpoint = find(lab)
        return run_sysbench(endpoint.port, database, lab.sizes.sysbench_tables, lab.sizes.sysbench_rows, endpoint.pid, seconds=seconds)

    return run


def large(way):
    """Results of 10 MB: 10,000 rows of 1,000 bytes, made by the server on the fly."""
    def run(lab, seconds):
        script = lab.room / "large.sql"
        script.write_text("select repeat('x', 1000) from generate_series(1, 10000);\n")
        sample = pgbench(way, 2, "-f", script.name)(lab, seconds)
        return sample | {"mb_per_second": sample["tps"] * 10}

    return run


def pace(lab):
    """A quarter of what reads through DUAL_WRITE come to when they take all they can: the processors are not the bottleneck."""
    return lab.once("pace", lambda: max(100, int(pgbench(DUAL_WRITE, 8, *READ, "-M", "prepared")(lab, 1)["tps"] / 4)))


def measurements():
    found = [
        Measurement("read-prepared-8", "pgbench -S -M prepared, 8 clients",
                    ways((DIRECT, INITIAL, PGBOUNCER, HAPROXY, PGPOOL_RAW, DUAL_WRITE, DUAL_READ), 8, *READ, "-M", "prepared"), warm=True, quick_rounds=2),
        Measurement("read-simple-8", "pgbench -S -M simple, 8 clients",
                    ways((DIRECT, INITIAL, PGBOUNCER), 8, *READ, "-M", "simple"), quick_rounds=2),
        Measurement("read-extended-8", "pgbench -S -M extended, 8 clients",
                    ways((DIRECT, INITIAL, PGBOUNCER), 8, *READ, "-M", "extended"), share=BRIEF),
        Measurement("read-prepared-1", "pgbench -S -M prepared, 1 client", ways((DIRECT, INITIAL, PGBOUNCER, HAPROXY), 1, *READ, "-M", "prepared"),
                    share=0.6, quick_rounds=2),
        Measurement("read-paced", "pgbench -S -M prepared, 8 clients, at a quarter of the full rate",
                    {**ways((DUAL_WRITE, DUAL_READ), 8, *READ, "-M", "prepared", rate=pace),
                     TARGET_BUSY: beside(DUAL_WRITE, 8, *READ, "-M", "prepared", rate=pace)}, warm=True, quick_rounds=2),
        Measurement("write-prepared-8", "pgbench TPC-B -M prepared, 8 clients",
                    ways((DIRECT, INITIAL, PGBOUNCER, BOTH, BOTH_POOLED, DUAL_WRITE, PGPOOL), 8, *WRITE, "-M", "prepared"), warm=True, quick_rounds=2),
        Measurement("write-simple-8", "pgbench TPC-B -M simple, 8 clients", ways((BOTH, BOTH_POOLED, DUAL_WRITE, PGPOOL), 8, *WRITE, "-M", "simple"),
                    quick_rounds=2),
        Measurement("write-extended-8", "pgbench TPC-B -M extended, 8 clients", ways((BOTH, DUAL_WRITE, PGPOOL), 8, *WRITE, "-M", "extended"), share=BRIEF),
    ]
    for clients in (32, 128):
        found.append(Measurement(f"read-prepared-{clients}", f"pgbench -S -M prepared, {clients} clients",
                                 ways((DIRECT, INITIAL, PGBOUNCER, HAPROXY), clients, *READ, "-M", "prepared"), share=0.5))
    for clients in (1, 32, 128):
        found.append(Measurement(f"write-prepared-{clients}", f"pgbench TPC-B -M prepared, {clients} client{'s' if clients > 1 else ''}",
                                 ways((BOTH, DUAL_WRITE), clients, *WRITE, "-M", "prepared"), share=0.75 if clients > 100 else BRIEF))
    return found + [
        Measurement("threads", "pgbench -S -M prepared, 32 clients, by event loops",
                    {way: by_threads(way, 32, *READ, "-M", "prepared") for way in (ONE_THREAD, TWO_THREADS)}, share=0.5),
        Measurement("sysbench", "sysbench oltp_read_write, 8 threads", {way: sysbench(way) for way in (DIRECT, INITIAL, PGBOUNCER, DUAL_WRITE)}, share=BRIEF),
        Measurement("large", "results of 10 MB, 2 clients", {way: large(way) for way in (DIRECT, INITIAL, PGBOUNCER, HAPROXY)}, share=BRIEF),
        Measurement("churn", "connect, one SELECT, disconnect; 8 clients", ways((DIRECT, INITIAL, PGBOUNCER, HAPROXY), 8, *READ, "-C"), share=BRIEF),
        Measurement("tls", "pgbench -S -M prepared, 8 clients, TLS on",
                    ways((DIRECT, INITIAL, PGBOUNCER, HAPROXY), 8, *READ, "-M", "prepared", endpoints=TLS_ENDPOINTS), share=BRIEF),
    ]
