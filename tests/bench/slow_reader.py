"""What a proxy holds for a client that reads far slower than the server sends."""
import os
import subprocess
import time

from clients import ENVIRONMENT
from names import INITIAL, PGBOUNCER
from processes import memory_kb, tool
from workloads import ENDPOINTS, Measurement

RESULT = "copy (select repeat('x', 1000) from generate_series(1, 10000000)) to stdout"  # 10 GB, made on the fly
BYTES_PER_SECOND = 1024


def slow_reader(way):
    find, database = ENDPOINTS[way]

    def run(lab, seconds):
        lab.database(database)
        endpoint = find(lab)
        before = memory_kb(endpoint.pid)["pss_kb"]
        client = subprocess.Popen([tool("psql"), "-qXAt", "-p", str(endpoint.port), "-c", RESULT, database], env=ENVIRONMENT | endpoint.environment,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            most, received, end = before, 0, time.monotonic() + 4 * seconds
            while time.monotonic() < end:
                got = len(os.read(client.stdout.fileno(), BYTES_PER_SECOND))
                if got == 0:
                    raise RuntimeError("psql has ended")
                received += got
                time.sleep(got / BYTES_PER_SECOND)
                most = max(most, memory_kb(endpoint.pid)["pss_kb"])
        finally:
            client.kill()
            client.wait()
            client.stdout.close()
        return {"growth_kb": most - before, "received_kb": received / 1024}

    return run


def measurements():
    return [Measurement("slow-reader", "a result of 10 GB, read with 1 kB a second", {way: slow_reader(way) for way in (INITIAL, PGBOUNCER)}, rounds=0.4)]
