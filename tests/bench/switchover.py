"""How long clients wait while primary and mirror trade places."""
import time

from clients import Pgbench
from clusters import kit
from names import DUAL_READ, FLIP, FLIP_BACK
from workloads import WRITE, Measurement, pgbench

MIXTURE = (f"{WRITE[1]}@1", "select-only@1")


def pace(lab):
    """A quarter of what goes, so that what a client waits for is the flip and not the queue before a full machine."""
    return lab.once("switchover pace", lambda: max(50, int(mixed(lab, 1)["tps"] / 4)))


def mixed(lab, seconds):
    return pgbench(DUAL_READ, 32, "-b", MIXTURE[0], "-b", MIXTURE[1], "-M", "prepared")(lab, seconds)


def flip(to):
    def run(lab, seconds):
        banyan = lab.read()
        lab.servers.vacuum_small("read")
        rate = pace(lab)
        banyan.admin.wait_clean(60)
        seconds = max(4, seconds)  # the gates are asked first
        client = Pgbench(lab.room, banyan.port, "read", clients=32, seconds=seconds,
                         options=("-b", MIXTURE[0], "-b", MIXTURE[1], "-M", "prepared", "-R", str(rate)))
        try:
            time.sleep(1.5)
            kit.wait_until(lambda: all(gate["verdict"] == "pass" for gate in banyan.admin.gates(to)),
                           lambda: [gate for gate in banyan.admin.gates(to) if gate["verdict"] != "pass"], seconds)
            began = time.time()
            banyan.admin.transition(to, "measured", seconds=30)
            ended = time.time()
            summary, transactions = client.finish()
        finally:
            client.close()
        # A transaction counts if it was under way, or began, while the transition was.
        within = [latency for end, latency in transactions if end >= began and end - latency / 1e6 <= ended]
        outside = [latency for end, latency in transactions if end < began]
        pause = banyan.admin.status()["last_flip"]["pause_microseconds"]
        if not within or not outside:
            raise RuntimeError(f"pgbench's {seconds} s were over before the switchover was")
        return {**summary, "pause_ms": pause / 1000, "wait_ms": max(within) / 1000, "wait_before_ms": max(outside) / 1000,
                "longest_ms": max(pause, *within) / 1000}

    return run


def measurements():
    return [Measurement("switchover", "pgbench TPC-B and -S, 32 clients, at a quarter of the full rate, during a flip",
                        {FLIP: flip("SWITCHOVER"), FLIP_BACK: flip("DUAL_READ")})]
