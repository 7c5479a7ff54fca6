"""The measurements of much data: COPY out and in, backfill beside pgcopydb, verification beside SQL."""
import contextlib
import itertools
import threading
import time

from clients import timed_psql, used_by
from clusters import command
from names import BANYAN, DIRECT, DUAL_WRITE, INITIAL, PGCOPYDB, SQL
from processes import tool
from workloads import ENDPOINTS, Measurement

TABLES = ("pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history")
PATIENCE = 1800


def with_rate(sample, size):
    return sample | {"bytes": size, "mb_per_second": size / 1e6 / sample["seconds"]}


# --- COPY ---

def accounts_file(lab):
    """What COPY says of the big database's accounts: about a gigabyte."""
    def make():
        lab.database("big")
        file = lab.room / "accounts.copy"
        with open(file, "wb") as out:
            timed_psql(lab.servers.source.port, "big", "copy pgbench_accounts to stdout", out=out)
        return file

    return lab.once("accounts file", make)


def copy_out(way):
    def run(lab, _):
        size = accounts_file(lab).stat().st_size
        to_initial(lab)
        port, pid = (lab.servers.source.port, None) if way == DIRECT else (lab.big().port, lab.big().process.pid)
        return with_rate(timed_psql(port, "big", "copy pgbench_accounts to stdout", pid), size)

    return run


def part_of_file(lab):
    def make():
        file = lab.room / "part.copy"
        with open(accounts_file(lab), "rb") as whole, open(file, "wb") as part:
            part.writelines(itertools.islice(whole, lab.sizes.copy_dual_rows))
        return file

    return lab.once("part of the accounts file", make)


def copy_in(way, find_file):
    find, database = ENDPOINTS[way]

    def run(lab, _):
        file = find_file(lab)
        lab.database(database)
        endpoint = find(lab)
        timed_psql(endpoint.port, database, "truncate load")
        checkpoint(lab)
        with open(file, "rb") as into:
            sample = timed_psql(endpoint.port, database, "copy load from stdin", endpoint.pid, into=into)
        if way == DUAL_WRITE:
            lab.dual().admin.wait_clean(300)
            lab.dual().assert_equal(["public.load"], settle=1)
        timed_psql(endpoint.port, database, "truncate load")
        return with_rate(sample, file.stat().st_size)

    return run


def checkpoint(lab):
    """So that every run begins with the same: no dirty buffers, and WAL files to write into again."""
    for cluster in lab.servers.both:
        cluster.sql("checkpoint")


# --- backfill ---

def to_initial(lab):
    admin = lab.big().admin
    if admin.phase() != "INITIAL":
        admin.transition("INITIAL", "for the next round", seconds=120)


def empty_target(lab):
    lab.servers.target.sql(f"truncate {', '.join(TABLES)}", "big")
    checkpoint(lab)


def pgcopydb(lab, _):
    lab.database("big")
    to_initial(lab)
    empty_target(lab)
    source, target = (f"host=127.0.0.1 port={cluster.port} user=app dbname=big" for cluster in lab.servers.both)
    begun = time.monotonic()
    command([tool("pgcopydb"), "copy", "table-data", "--source", source, "--target", target, "--dir", lab.room / f"pgcopydb.{time.monotonic_ns()}"],
            seconds=PATIENCE)
    seconds = time.monotonic() - begun
    return with_rows(lab, {"seconds": seconds})


def backfill(lab, _):
    lab.database("big")
    to_initial(lab)
    empty_target(lab)
    banyan, sample = lab.big(), {}
    with used_by(banyan.process.pid, sample):
        banyan.admin.transition("DUAL_WRITE", "backfill", seconds=120)
        done = banyan.admin.wait_backfill(PATIENCE)
    return with_rows(lab, sample | {"seconds": (done["finished_unix_ms"] - done["started_unix_ms"]) / 1000})


def with_rows(lab, sample):
    """All of them, or the time is worth nothing."""
    rows = lab.sizes.big_scale * 100_000
    found = lab.servers.target.sql("select count(*) from pgbench_accounts", "big")[0][0]
    if found != rows:
        raise RuntimeError(f"{found} of {rows} rows are on the target")
    return sample | {"rows": rows, "rows_per_second": rows / sample["seconds"]}


# --- verification ---

def to_dual_write(lab):
    """Copied, and nothing under suspicion any more."""
    lab.database("big")
    banyan = lab.big()
    if banyan.admin.phase() == "INITIAL":
        empty_target(lab)
        banyan.admin.transition("DUAL_WRITE", "verification", seconds=120)
    banyan.admin.wait_backfill(PATIENCE)
    banyan.admin.wait_clean(PATIENCE)
    lab.once("big vacuumed", lambda: [cluster.sql("vacuum analyze", "big") for cluster in lab.servers.both])


def verification(lab, _):
    to_dual_write(lab)
    banyan, sample = lab.big(), {}
    with used_by(banyan.process.pid, sample):
        done = banyan.admin.verify(seconds=PATIENCE)
    if done["state"] != "equal":
        raise RuntimeError(f"the two sides are {done['state']}: {done}")
    return sample | {"seconds": (done["finished_unix_ms"] - done["started_unix_ms"]) / 1000}


def hash_by_sql(lab, _):
    """Both sides at once, as a verification reads them; the slower one's time."""
    to_dual_write(lab)
    seconds, sums = {}, {}

    def run(cluster):
        with contextlib.closing(cluster.connect("big")) as connection, connection.cursor() as cursor:
            begun = time.monotonic()
            found = []
            for table in TABLES:
                cursor.execute(f"select sum(hashtextextended(t::text, 0)) from {table} t")
                found.append(cursor.fetchone()[0])
            seconds[cluster.port], sums[cluster.port] = time.monotonic() - begun, found

    threads = [threading.Thread(target=run, args=(cluster,)) for cluster in lab.servers.both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(sums) != 2 or len({tuple(found) for found in sums.values()}) != 1:
        raise RuntimeError(f"the two sides' sums differ, or one has failed: {sums}")
    return {"seconds": max(seconds.values()), "seconds_of_each": list(seconds.values())}


def measurements():
    return [
        Measurement("copy-out", "COPY to a client, 1 GB", {way: copy_out(way) for way in (DIRECT, INITIAL)}, budget=60),
        Measurement("copy-in", "COPY from a client, 1 GB, one key", {way: copy_in(way, accounts_file) for way in (DIRECT, INITIAL)}, budget=120),
        Measurement("copy-in-dual", "COPY from a client, 100 MB, one key",
                    {way: copy_in(way, part_of_file) for way in (DIRECT, INITIAL, DUAL_WRITE)}, budget=40),
        Measurement("backfill", "backfill of pgbench's tables at scale 100, idle source", {PGCOPYDB: pgcopydb, BANYAN: backfill}, budget=200),
        Measurement("verification", "full verification of the same", {SQL: hash_by_sql, BANYAN: verification}, budget=90),
    ]
