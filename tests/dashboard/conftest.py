"""The fixtures of tests/e2e, and a browser's remote control."""
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
E2E = HERE.parent / "e2e"
sys.path.insert(0, str(E2E))
spec = importlib.util.spec_from_file_location("e2e_fixtures", E2E / "conftest.py")
fixtures = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = fixtures
spec.loader.exec_module(fixtures)

room, source, target, migration = fixtures.room, fixtures.source, fixtures.target, fixtures.migration
pytest_runtest_makereport = fixtures.pytest_runtest_makereport
pytest_runtest_call = fixtures.pytest_runtest_call


@pytest.fixture(scope="session")
def node_modules(room):
    """playwright-core and axe-core, at the versions of the lock file."""
    if given := os.environ.get("BANYAN_DASHBOARD_NODE_MODULES"):
        return pathlib.Path(given)
    directory = room / "node"
    directory.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, directory)
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], cwd=directory, check=True, timeout=120)
    return directory / "node_modules"
