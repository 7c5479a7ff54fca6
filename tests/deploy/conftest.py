"""Fixtures of tests/e2e, for the tests that need a real Banyan."""
import importlib.util
import pathlib
import sys

E2E = pathlib.Path(__file__).resolve().parents[1] / "e2e"
sys.path.insert(0, str(E2E))
sys.path.insert(0, str(pathlib.Path(__file__).parent))
spec = importlib.util.spec_from_file_location("e2e_conftest", E2E / "conftest.py")
e2e = importlib.util.module_from_spec(spec)
spec.loader.exec_module(e2e)
room, source, target, own_target, migration = e2e.room, e2e.source, e2e.target, e2e.own_target, e2e.migration
pytest_runtest_makereport, pytest_runtest_call, pytest_configure = e2e.pytest_runtest_makereport, e2e.pytest_runtest_call, e2e.pytest_configure
