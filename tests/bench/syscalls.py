"""System calls of a proxy per transaction, counted by strace while pgbench runs."""
from clients import Pgbench
from names import HAPROXY, INITIAL, PGBOUNCER
from parse import strace_counts, system_calls
from processes import Strace
from workloads import ENDPOINTS, READ, Measurement


def traced(lab, endpoint, database, seconds, *options):
    """(pgbench's summary, {system call: (calls, errors)}) of one run."""
    with Strace(endpoint.pid, lab.room / "strace") as strace:
        client = Pgbench(lab.room, endpoint.port, database, seconds=seconds, options=(*READ, "-M", "prepared", *options))
        try:
            summary = client.finish()[0]
        finally:
            client.close()
    return summary, strace_counts(strace.text)


def less(counts, others):
    """What one run has more than another, which did nothing but connect."""
    return {name: tuple(max(0, a - b) for a, b in zip(value, others.get(name, (0, 0)))) for name, value in counts.items()}


def count(way):
    find, database = ENDPOINTS[way]

    def run(lab, seconds):
        lab.database(database)
        endpoint = find(lab)
        connecting, to_connect = traced(lab, endpoint, database, 0, "-t", "1")
        summary, counts = traced(lab, endpoint, database, seconds)
        counts, transactions = less(counts, to_connect), summary["transactions"] - connecting["transactions"]
        return {"transactions": transactions, "failed": summary["failed"], **system_calls(counts, transactions),
                "calls": {name: calls for name, (calls, _) in counts.items() if calls}}

    return run


def measurements():
    return [Measurement("syscalls", "system calls per transaction, pgbench -S -M prepared, 8 clients",
                        {way: count(way) for way in (INITIAL, HAPROXY, PGBOUNCER)}, share=0.6, rounds=0.4)]
