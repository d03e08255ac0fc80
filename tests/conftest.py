"""Fixtures for several test files: the shipped bundle, a server in a process of its own."""

import os
import signal
from collections.abc import Iterator

import pytest

from alexnet.bundle import Bundle
from tests.paths import ROOT, STARTER
from tests.processes import ServerProcess, start_server, stop_server

# A test run keeps the machine busy: its cost models must not be used by other servers here.
os.environ["ALEXNET_CACHE_DIR"] = str(ROOT / ".pytest_cache" / "costmodels")
# torch on one thread, here and in the commands: two lanes of tests would fight for the CPUs.
os.environ["OMP_NUM_THREADS"] = "1"
# Ctrl-C is ignored by what a shell starts in the background, and by every command that that starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def starter(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The starter as a directory, which opens much faster than the archive."""
    path = tmp_path_factory.mktemp("model") / "starter"
    Bundle.open(STARTER).write(path)
    return str(path)


@pytest.fixture(scope="session")
def grey(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The directory of a bundle that is open in an instant; see tests/bundles.py."""
    from tests.bundles import grey_bundle  # here: it takes a second, and few runs need it

    path = tmp_path_factory.mktemp("model") / "grey"
    grey_bundle().write(path)
    return str(path)


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """One server for all tests that only send requests to it."""
    running = start_server()
    yield running
    code, log = stop_server(running)
    assert code == 0, log
    assert "Traceback" not in log, log
