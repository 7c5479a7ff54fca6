"""Fixtures: two clusters for the whole run, a database pair and a Banyan for each test."""
import itertools
import os
import pathlib
import shutil
import signal
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import kit  # noqa: E402

NUMBERS = itertools.count(1)
LONGEST = 150 * kit.SLOW


def pytest_configure(config):
    config.addinivalue_line("markers", "short: part of the subset that also runs against the sanitizer builds")


def pytest_report_header():
    return f"banyan: {kit.BINARY}"


@pytest.fixture(scope="session")
def room():
    """A directory that the server's user can enter."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="banyan-e2e."))
    directory.chmod(0o755)
    yield directory
    if not os.environ.get("BANYAN_KEEP_ROOM"):
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def source(room):
    cluster = kit.Cluster(room / "source", max_prepared_transactions=10)
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def target(room):
    cluster = kit.Cluster(room / "target", max_prepared_transactions=10)
    yield cluster
    cluster.close()


@pytest.fixture
def own_target(room):
    """A target of the test's own, to be killed, frozen or refused."""
    cluster = kit.Cluster(room / f"target-{next(NUMBERS)}")
    yield cluster
    cluster.close()


@pytest.fixture
def migration(request, room, source, target):
    """migration(schema, ...) -> a Banyan that is ready in INITIAL, on a fresh pair of databases.

    `schema` runs on both sides; `rows` on the source alone. Keyword arguments are configuration
    sections, and `target`, another cluster. A failed test shows the end of Banyan's log.
    """
    made = []

    def make(schema="", rows="", target=target, start=True, **sections):
        name = f"test{next(NUMBERS)}"
        for cluster in (source, target):
            cluster.create_database(name)
            if schema:
                cluster.sql(schema, name, "app")
        if rows:
            source.sql(rows, name, "app")
        banyan = kit.Banyan(room / name, source, target, name, **sections)
        made.append((banyan, target))
        return banyan.start() if start else banyan

    yield make
    failed = getattr(request.node, "failed", False)
    problems = []
    for banyan, its_target in made:
        try:
            if failed and (banyan.directory / "banyan.log").exists():
                print(f"--- the end of Banyan's log ({banyan.directory}):\n{banyan.log()[-4000:]}")
            banyan.close()
        except AssertionError as error:
            problems.append(str(error))
        for cluster in (source, its_target):
            try:
                cluster.drop_database(banyan.database)
            except Exception:  # the cluster may be down on purpose
                pass
    assert not problems or failed, problems


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    if report.when == "call" and report.failed:
        item.failed = True


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """A test that hangs fails, and says where, instead of holding up the run."""
    def too_long(*_):
        raise TimeoutError(f"{item.name} takes longer than {LONGEST:.0f} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(int(LONGEST))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
