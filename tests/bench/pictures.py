"""What a run's picture shows. Pure."""
from figures import Spread, spread
from names import BOTH, DIRECT, DUAL_WRITE, HAPROXY, INITIAL, PGBOUNCER, PGPOOL
from plot import Panel, Scores, svg
from rows import outcomes

CLIENTS = (1, 8, 32, 128)
MODES = ("simple", "extended", "prepared")


def bars(results, measurement, name, ways, scale=1.0):
    """{way: Spread} of those that were measured."""
    samples = results.get(measurement, {}).get("samples", {})
    found = {}
    for way in ways:
        values = [sample[name] for sample in samples.get(way, []) if name in sample]
        if values:
            found[way] = spread(values).scaled(scale)
    return found


def scores(results):
    found = []
    for outcome in outcomes(results):
        row, figure = outcome.row, outcome.figure
        if figure is None or not row.bound or figure.value.low <= 0:
            continue
        value = figure.value
        score = (value.scaled(1 / row.bound) if row.sign == ">=" else
                 Spread(row.bound / value.median, row.bound / value.high, row.bound / value.low))
        found.append((f"{row.figure}; {row.against}" if row.against else row.figure, score, outcome.met))
    return found


def picture(results):
    relays = (DIRECT, INITIAL, PGBOUNCER, HAPROXY)

    def by_clients(kind, name, ways, scale=1.0):
        return [(f"{clients} client{'s' if clients > 1 else ''}", bars(results, f"{kind}-prepared-{clients}", name, ways, scale)) for clients in CLIENTS]

    def by_mode(kind, name, ways):
        return [(mode, bars(results, f"{kind}-{mode}-8", name, ways)) for mode in MODES]

    return svg([
        Scores("Against the bounds (the line; longer is better)", scores(results)),
        Panel("Reads: pgbench -S -M prepared", "thousands a second", by_clients("read", "tps", relays, 1e-3)),
        Panel("Reads: p50", "us", by_clients("read", "p50_us", relays), logarithmic=True),
        Panel("Reads: p99", "ms", by_clients("read", "p99_us", relays, 1e-3), logarithmic=True),
        Panel("Processor time of the proxy, pgbench -S, 8 clients", "us a transaction", by_mode("read", "cpu_us", relays[1:])),
        Panel("Two databases: pgbench TPC-B, 8 clients", "a second", by_mode("write", "tps", (BOTH, DUAL_WRITE, PGPOOL))),
        Panel("Two databases: pgbench TPC-B -M prepared", "a second", by_clients("write", "tps", (BOTH, DUAL_WRITE, PGPOOL))),
        Panel("Other loads", "a second", [(label, bars(results, name, "tps", ways)) for label, name, ways in (
            ("sysbench oltp_read_write", "sysbench", (*relays, DUAL_WRITE)), ("connect and disconnect", "churn", relays))]),
        Panel("Much data", "MB/s", [(label, bars(results, name, "mb_per_second", (*relays, DUAL_WRITE))) for label, name in (
            ("results of 10 MB", "large"), ("COPY out", "copy-out"), ("COPY in", "copy-in"), ("COPY in, 100 MB", "copy-in-dual"))]),
    ])
