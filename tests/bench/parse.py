"""What pgbench, sysbench and strace print, as numbers. Pure."""
import re

from figures import percentile

SENDS = {"sendto", "sendmsg", "sendmmsg", "write", "writev"}
RECEIVES = {"recvfrom", "recvmsg", "recvmmsg", "read", "readv"}
WAITS = {"epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6"}


def pgbench_summary(text):
    """{"tps", "transactions", "failed"} of what pgbench writes at its end."""
    tps = re.search(r"^tps = ([0-9.]+)", text, re.MULTILINE)
    done = re.search(r"^number of transactions actually processed: (\d+)", text, re.MULTILINE)
    failed = re.search(r"^number of failed transactions: (\d+)", text, re.MULTILINE)
    if not tps or not done:
        raise ValueError(f"not a summary of pgbench: {text[-500:]!r}")
    return {"tps": float(tps[1]), "transactions": int(done[1]), "failed": int(failed[1]) if failed else 0}


def pgbench_log(lines):
    """(end in seconds since 1970, latency in microseconds) of each transaction in a log of `pgbench --log`.

    A line: client, transaction, latency, script, seconds, microseconds, and with --rate how late the transaction
    began, which its latency includes and ours does not: ours is what the client waited for answers.
    """
    found = []
    for line in lines:
        fields = line.split()
        if len(fields) < 6 or not fields[2].isdigit():  # "failed", "skipped"
            continue
        late = int(fields[6]) if len(fields) > 6 else 0
        found.append((int(fields[4]) + int(fields[5]) / 1e6, int(fields[2]) - late))
    return found


def latencies(transactions):
    """{"p50_us", "p99_us", "max_us"} of pgbench_log's answer."""
    ordered = sorted(latency for _, latency in transactions)
    return {"p50_us": percentile(ordered, 0.5), "p99_us": percentile(ordered, 0.99), "max_us": ordered[-1]}


def sysbench_summary(text):
    """{"tps", "transactions", "p99_us", "max_us", "failed"} of sysbench with --percentile=99."""
    done = re.search(r"^\s*transactions:\s+(\d+)\s+\(([0-9.]+) per sec", text, re.MULTILINE)
    tail = re.search(r"^\s*99th percentile:\s+([0-9.]+)", text, re.MULTILINE)
    longest = re.search(r"^\s*max:\s+([0-9.]+)", text, re.MULTILINE)
    if not done or not tail or not longest:
        raise ValueError(f"not a summary of sysbench: {text[-500:]!r}")
    return {"tps": float(done[2]), "transactions": int(done[1]), "p99_us": float(tail[1]) * 1000, "max_us": float(longest[1]) * 1000,
            "failed": 0}


def strace_counts(text):
    """{system call: (calls, errors)} of the table of `strace -c`."""
    found = {}
    for line in text.splitlines():
        match = re.match(r"\s*[0-9.]+\s+[0-9.]+\s+\d+\s+(\d+)\s+(?:(\d+)\s+)?([a-z_0-9]+)\s*$", line)
        if match and match[3] != "total":
            found[match[3]] = (int(match[1]), int(match[2] or 0))
    return found


def system_calls(counts, transactions):
    """The calls per transaction by kind. What fails among sends and receives fails with EAGAIN: nothing else is retried."""
    def total(names, index):
        return sum(value[index] for name, value in counts.items() if name in names)

    known = SENDS | RECEIVES | WAITS
    kinds = {"sends": total(SENDS, 0), "receives": total(RECEIVES, 0), "again": total(SENDS | RECEIVES, 1), "waits": total(WAITS, 0),
             "others": sum(value[0] for name, value in counts.items() if name not in known)}
    return {kind: count / transactions for kind, count in kinds.items()}
