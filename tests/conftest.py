"""What more than one test needs: the shipped bundle, a server in a process of its own."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from alexnet.bundle import Bundle

ROOT = Path(__file__).parents[1]
# What a busy test run measures is not for the servers of whoever runs it.
os.environ["ALEXNET_CACHE_DIR"] = str(ROOT / ".pytest_cache" / "costmodels")
STARTER = ROOT / "models" / "starter.tar.xz"


@dataclass(frozen=True)
class ServerProcess:
    """A real `alexnet-server` on free ports."""

    process: subprocess.Popen[str]
    banner: str

    @property
    def http(self) -> str:
        return self._found(r"REST +(http://\S+)")

    @property
    def grpc(self) -> str:
        return self._found(r"gRPC +(\S+)")

    @property
    def metrics(self) -> str:
        return self._found(r"metrics +(http://\S+)/metrics")

    def _found(self, pattern: str) -> str:
        match = re.search(pattern, self.banner)
        assert match is not None, self.banner
        return match[1]


def start_server(*flags: str, timeout_s: float = 60.0) -> ServerProcess:
    """Starts the server and waits for its banner, which it prints when it is ready."""
    ports = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")
    process = subprocess.Popen(
        [sys.executable, "-m", "server", "--model", str(STARTER), *ports, *flags],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    too_late = threading.Timer(timeout_s, process.kill)
    too_late.start()
    banner = ""
    for line in process.stdout:
        banner += line
        if "curl" in line:
            break
    too_late.cancel()
    if "curl" not in banner:
        error = process.communicate()[1]
        pytest.fail(f"it ended with {process.returncode} and no banner: {error}")
    return ServerProcess(process, banner)


def stop_server(server: ServerProcess) -> tuple[int, str]:
    """Exit code and log after SIGTERM."""
    server.process.terminate()
    try:
        _, log = server.process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        server.process.kill()
        raise
    return server.process.returncode, log


@pytest.fixture(scope="session")
def starter(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The starter as a directory, which opens in a fraction of the time."""
    path = tmp_path_factory.mktemp("model") / "starter"
    Bundle.open(STARTER).write(path)
    return str(path)


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """One server for all tests that only ask it things."""
    running = start_server()
    yield running
    code, log = stop_server(running)
    assert code == 0, log
    assert "Traceback" not in log, log
