"""The state directory's disk: full, refusing writes, taken away. Clients never notice; mirroring stops loudly, the tables
are suspect; when it can be written again everything heals by itself and both sides are equal."""
import contextlib
import itertools
import os
import pathlib
import resource
import subprocess
import time

import pytest

import kit
from kit import wait_until
from test_random_writers import ROWS, SCHEMA, check_receipts, start_writers

NUMBERS = itertools.count(1)


class SmallDisk:
    """A file system of a few megabytes."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,mode=0700", "tmpfs", str(self.directory)],
                                 stderr=subprocess.PIPE, check=False)
        if mounted.returncode:
            pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode()}")

    @property
    def state(self):
        return {"directory": self.directory / "state"}

    def fill(self, _banyan=None):
        with open(self.directory / "filler", "ab", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(b"x" * 4096)

    def free(self, _banyan=None):
        (self.directory / "filler").unlink()

    def close(self):
        subprocess.run(["umount", "-l", str(self.directory)], check=True)


class SizeLimit:
    """Writes beyond a file size fail with EFBIG, which SQLite reports as an I/O error."""

    state = {}

    def fill(self, banyan):
        self.before = resource.prlimit(banyan.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(banyan.process.pid, resource.RLIMIT_FSIZE, (8192, self.before[1]))

    def free(self, banyan):
        resource.prlimit(banyan.process.pid, resource.RLIMIT_FSIZE, self.before)

    def close(self):
        pass


class MovedAway:
    """The state directory is gone for a while."""

    state = {}

    def fill(self, banyan):
        (banyan.directory / "state").rename(banyan.directory / "moved")

    def free(self, banyan):
        (banyan.directory / "moved").rename(banyan.directory / "state")

    def close(self):
        pass


@pytest.fixture
def small_disk(room):
    disk = SmallDisk(room / f"disk{next(NUMBERS)}")
    yield disk
    disk.close()


@pytest.fixture(params=["full", "io error", "moved away"])
def disk(request):
    if request.param == "full":
        return request.getfixturevalue("small_disk")
    return SizeLimit() if request.param == "io error" else MovedAway()


def failed(banyan):
    return banyan.admin.get("/journal")["failed"]


def test_a_state_directory_that_cannot_be_written_costs_clients_nothing_and_heals(migration, disk):
    banyan = migration(SCHEMA, ROWS, state=disk.state)
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill(120 * kit.SLOW)
    writers, workers = start_writers(banyan, 3, "disk")
    with workers:
        time.sleep(1)
        disk.fill(banyan)
        wait_until(lambda: failed(banyan), lambda: banyan.admin.get("/journal"), 30 * kit.SLOW)
        before = sum(len(writer.acknowledged) for writer in writers)
        time.sleep(2)
        assert sum(len(writer.acknowledged) for writer in writers) > before, "clients stand still"
        with banyan.wire() as newcomer:
            newcomer.query("insert into plain (id, v) values (50000, 'newcomer')").ok()
        assert banyan.admin.request("GET", "/readyz")[0] == 200
        metrics = banyan.admin.metrics()
        assert metrics["banyan_journal_failed"] == 1 and metrics["banyan_journal_errors_total"] > 0
        assert metrics["banyan_suspect_tables"] > 0
        with pytest.raises((kit.AdminError, kit.TransitionError)) as refused:
            banyan.admin.transition("DUAL_READ", seconds=30 * kit.SLOW)
        print("refused:", refused.value)
        assert banyan.admin.phase() == "DUAL_WRITE"
        disk.free(banyan)
        wait_until(lambda: not failed(banyan), lambda: banyan.admin.get("/journal"), 60 * kit.SLOW)
        time.sleep(1)
    banyan.settle_and_compare(120 * kit.SLOW)
    check_receipts(banyan.source, banyan.database, writers)
    assert "a write failed" in banyan.log() or isinstance(disk, SizeLimit), "no loud word of it"  # the log has the limit, too
    banyan.admin.transition("DUAL_READ", seconds=60 * kit.SLOW)


def test_a_death_on_a_full_disk(migration, small_disk):
    """The reserve lets it start and serve; without one it says why it cannot. Either way nothing is lost."""
    banyan = migration("create table t (id int primary key, v text)", "insert into t select g, 'seed' from generate_series(1, 2000) g",
                       state=small_disk.state)
    banyan.lead_to("DUAL_WRITE")
    banyan.admin.wait_backfill(120 * kit.SLOW)
    numbers = itertools.count(10000)

    def write_until_it_fails():
        small_disk.fill()
        while not failed(banyan):
            for _ in range(20):
                banyan.sql(f"insert into t values ({next(numbers)}, 'x'); update t set v = v || 'y' where id % 40 = 7")
            small_disk.fill()

    write_until_it_fails()
    banyan.kill9()
    banyan.start()
    banyan.sql(f"insert into t values ({next(numbers)}, 'the disk is full')")
    write_until_it_fails()
    banyan.kill9()
    assert not (small_disk.directory / "state" / "banyan.reserve").exists(), "it was used"
    small_disk.fill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        banyan.start(ready=False).process.wait(30 * kit.SLOW)
    if banyan.process.poll() is None:  # the log began anew, and there was room in it
        banyan.kill9()
    else:
        assert banyan.process.returncode == 1
        assert "disk is full" in banyan.log()
        banyan.process = None
    small_disk.free()
    banyan.start()
    banyan.settle_and_compare(120 * kit.SLOW)
    assert banyan.source.sql("select max(id) from t", banyan.database)[0][0] == next(numbers) - 1
    assert os.path.exists(small_disk.directory / "state" / "banyan.reserve"), "there is room for it again"


def test_a_synced_journal_survives_a_death_as_well(migration):
    banyan = migration(SCHEMA, ROWS, journal={"durability": "power"})
    banyan.lead_to("DUAL_WRITE")
    writers, workers = start_writers(banyan, 3, "power", patient=True)
    with workers:
        for _ in range(2):
            time.sleep(1)
            banyan.kill9()
            banyan.start()
    banyan.admin.wait_backfill(120 * kit.SLOW)
    banyan.settle_and_compare(120 * kit.SLOW)
    check_receipts(banyan.source, banyan.database, writers)
