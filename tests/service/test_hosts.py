"""Where a real server listens, and what its surroundings may not change: proxies, locales."""

import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from alexnet_client.client import Client
from server.healthcheck import ask, flags
from tests.paths import ROOT
from tests.photos import jpeg
from tests.processes import FREE_PORTS, refused, start_server, stop_server

pytestmark = pytest.mark.process
LOOPBACKS = "127.0.0.1", "[::1]"


@pytest.fixture
def dead_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A proxy, named by the environment, at which nothing answers."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{held.getsockname()[1]}"
        for name in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy)
            monkeypatch.setenv(name.upper(), proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        yield proxy


def port_of(address: str) -> str:
    return address.rpartition(":")[2]


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_interface_means_both_families_on_all_three_ports(
    grey: str, host: str, workers: str
) -> None:
    server = start_server("--model", grey, "--host", host, "--workers", workers)
    try:
        assert "127.0.0.1" in server.http, "an address that can be pasted"
        for loopback in LOOPBACKS:
            for address in (server.http, server.metrics):
                url = f"http://{loopback}:{port_of(address)}/readyz"
                with urllib.request.urlopen(url, timeout=10) as reply:
                    assert reply.status == 200
            with grpc.insecure_channel(f"{loopback}:{port_of(server.grpc)}") as channel:
                grpc.channel_ready_future(channel).result(timeout=10)
    finally:
        code, log = stop_server(server)
    assert (code, "Traceback" in log) == (0, False)


@pytest.mark.parametrize("flag", FREE_PORTS)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "localhost"])
def test_a_taken_port_is_noticed_before_the_model_is_looked_at(flag: str, host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        words = [word for pair in {**FREE_PORTS, flag: port}.items() for word in pair]
        line = refused("--model", "/nowhere", "--host", host, *words)
    assert f"cannot listen on {host}:{port}: Address already in use" in line


def test_a_client_asks_its_own_machine_and_no_proxy(grey: str, dead_end: str) -> None:
    server = start_server("--model", grey)
    try:
        for host in ("127.0.0.1", "localhost"):
            with Client(f"{host}:{port_of(server.grpc)}") as client:
                assert client.classify(jpeg(), timeout_s=10).predictions
        assert ask("127.0.0.1", int(port_of(server.metrics))) == ""
    finally:
        stop_server(server)


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (b"python3\0/venv/bin/alexnet-server\0--grpc-port\x009\0", ["--grpc-port", "9"]),
        (b"dumb-init\0-c\0--\0alexnet-server\0--host\0::\0", ["--host", "::"]),
        (b"alexnet-server\0", []),
        (b"/sbin/init\0splash\0", []),
        (b"", []),
    ],
)  # fmt: skip
def test_the_health_check_follows_the_flags_of_process_1(command: bytes, found: list[str]) -> None:
    assert flags(command) == found


def health(**environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "server.healthcheck"], cwd=ROOT, env={**os.environ, **environ},
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip


def test_the_health_check_follows_the_port_of_the_environment(grey: str, dead_end: str) -> None:
    server = start_server("--model", grey)
    port = port_of(server.metrics)
    try:
        asked = health(ALEXNET_METRICS_PORT=port, ALEXNET_HOST="0.0.0.0")
        assert (asked.returncode, asked.stderr) == (0, "")
    finally:
        stop_server(server)
    asked = health(ALEXNET_METRICS_PORT=port)
    assert asked.returncode == 1
    assert asked.stderr.startswith("not ready: ")
    assert len(asked.stderr.splitlines()) == 1


def test_utf_8_is_written_and_read_whatever_the_locale(
    tmp_path: Path, grey: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An EncodingWarning is a file that is read as the locale says."""
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    monkeypatch.setenv("PYTHONWARNDEFAULTENCODING", "1")
    monkeypatch.setenv("PYTHONCOERCECLOCALE", "0")
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONUTF8", "0")
    named = tmp_path / "グレー"
    named.symlink_to(grey)
    options = tmp_path / "server.toml"
    options.write_text(f"model = '{named}'\n", encoding="utf-8")
    server = start_server("--config", str(options), "--model", str(named))
    shown = subprocess.run(
        [sys.executable, "-m", "alexnet_client.classify", "--server", server.grpc, "-"],
        cwd=ROOT, input=jpeg(), capture_output=True, check=False, timeout=60,
        env={k: v for k, v in os.environ.items() if k != "PYTHONIOENCODING"},  # it would be meant
    )  # fmt: skip
    code, log = stop_server(server)
    assert (code, "EncodingWarning" in log) == (0, False), log
    assert shown.returncode == 0, shown.stderr
    assert "█" in shown.stdout.decode()


def test_process_1_obeys_from_its_first_line() -> None:
    """Its handler is there before anything that takes time is imported."""
    code = (
        "import sys, signal, os, runpy\n"
        "class Stop:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith('server.app'): os.kill(os.getpid(), signal.SIGTERM)\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as the kernel does for process 1\n"
        "sys.meta_path.insert(0, Stop())\n"
        "runpy.run_module('server', run_name='__main__')\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, "--model", "/nowhere"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
