"""System calls of a proxy per transaction, counted by strace while pgbench runs."""
from clients import Pgbench
from names import HAPROXY, INITIAL, PGBOUNCER
from parse import strace_counts, system_calls
from processes import Strace
from workloads import ENDPOINTS, READ, Measurement


def count(way):
    find, database = ENDPOINTS[way]

    def run(lab, seconds):
        lab.database(database)
        endpoint = find(lab)
        with Strace(endpoint.pid, lab.room / "strace") as strace:
            client = Pgbench(lab.room, endpoint.port, database, seconds=seconds, options=(*READ, "-M", "prepared"))
            try:
                summary = client.finish()[0]
            finally:
                client.close()
        counts = strace_counts(strace.text)
        return {"transactions": summary["transactions"], "failed": summary["failed"], **system_calls(counts, summary["transactions"]),
                "calls": {name: calls for name, (calls, _) in counts.items()}}

    return run


def measurements():
    return [Measurement("syscalls", "system calls per transaction, pgbench -S -M prepared, 8 clients",
                        {way: count(way) for way in (INITIAL, HAPROXY, PGBOUNCER)}, share=0.6, rounds=0.4)]
