"""The unit of systemd: told when the server is ready and when it leaves, and hardened."""

import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.processes import start_server, stop_server

pytestmark = pytest.mark.process
UNIT = ROOT / "deploy" / "systemd" / "alexnet.service"


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_systemd_hears_once_that_it_is_ready_and_once_that_it_leaves(
    tmp_path: Path, grey: str, monkeypatch: pytest.MonkeyPatch, workers: str, abstract: bool
) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{path}" if abstract else path)
        systemd.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{path}" if abstract else path)
        server = start_server("--model", grey, "--workers", workers)
        assert systemd.recv(100) == b"READY=1"
        code, log = stop_server(server)
        assert (code, "Traceback" in log) == (0, False)
        assert systemd.recv(100) == b"STOPPING=1"
        systemd.setblocking(False)
        with pytest.raises(BlockingIOError):
            systemd.recv(100)


def test_a_systemd_that_does_not_listen_costs_a_warning_and_not_the_server(
    tmp_path: Path, grey: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    code, log = stop_server(start_server("--model", grey))
    assert code == 0
    assert "systemd could not be told READY=1" in log


def test_the_unit_is_hardened() -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    ran = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    level = re.search(r"exposure level for alexnet.service: ([\d.]+)", ran.stdout)
    if level is None:
        pytest.skip(f"systemd-analyze cannot judge a file here: {ran.stderr.strip()[:200]}")
    assert float(level[1]) < 3
    assert "Type=notify" in UNIT.read_text()
    assert "ExecReload=/bin/kill -HUP $MAINPID" in UNIT.read_text()
