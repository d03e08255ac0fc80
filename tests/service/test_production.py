"""The commands of docs/production.md, typed at a real server."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.certificates import NEEDS_OPENSSL, Authority
from tests.paths import ROOT
from tests.photos import jpeg
from tests.processes import banner_of, free_port

pytestmark = [
    pytest.mark.process,
    NEEDS_OPENSSL,
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]
PAGE = (ROOT / "docs" / "production.md").read_text()
COMMANDS = re.findall(r"^\$ (.+)$", PAGE, re.MULTILINE)
PROGRAMS = Path(sys.executable).parent


@dataclass
class Shell:
    """Types the page's commands, one after the other, in a folder."""

    folder: Path
    ports: dict[str, str]
    variables: dict[str, str]

    def start(self, command: str) -> subprocess.Popen[str]:
        """With ports that are free here; without a wait for proxies, of which there are none."""
        typed = command.replace("--drain-delay-s 5", "--drain-delay-s 0")
        for port, free in self.ports.items():
            typed = typed.replace(f":{port}/", f":{free}/")
        names = {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        ports = {
            "ALEXNET_HTTP_PORT": self.ports["8000"],
            "ALEXNET_GRPC_PORT": self.ports["8001"],
            "ALEXNET_METRICS_PORT": self.ports["8002"],
        }
        return subprocess.Popen(
            ["bash", "-c", f"exec {typed}" if typed.startswith("alexnet") else typed],
            cwd=self.folder, env={**os.environ, **names, **ports, **self.variables},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def type(self, word: str) -> str:
        """The one command with this word; what it says."""
        (command,) = [command for command in COMMANDS if word in command]
        process = self.start(command)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, f"{command}: {err}"
        return out


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    Authority(tmp_path).sign("server")
    (tmp_path / "photo.jpg").write_bytes(jpeg())
    ports = {name: str(free_port()) for name in ("8000", "8001", "8002")}
    return Shell(tmp_path, ports, {})


def test_the_page_is_right(shell: Shell) -> None:
    assert len(re.findall(r"^\| \d+ \|", PAGE, re.MULTILINE)) == 10
    made = shell.type("alexnet-key")
    (shell.variables["KEY"],) = re.findall(r"^alexnet_\S+$", made, re.MULTILINE)
    (shell.folder / "keys.toml").write_text(made[made.index("[shop]") :])
    (command,) = [command for command in COMMANDS if command.startswith("alexnet-server ")]
    server = shell.start(command)
    try:
        assert f"REST      https://127.0.0.1:{shell.ports['8000']}" in banner_of(server)
        shell.variables["SERVER"] = str(server.pid)
        assert '"ready"' in shell.type("/readyz")
        assert '"probability"' in shell.type("-T photo.jpg")
        assert "alexnet_requests_total{" in shell.type("/metrics")
        assert '"inference_count"' in shell.type("/stats")
        shell.type("kill -HUP")
        shell.type("kill -TERM")
        _, log = server.communicate(timeout=30)
        assert server.returncode == 0, log
        assert "POST /v1/classify 200" in log or "PUT /v1/classify 200" in log
        assert "key=shop" in log
    finally:
        server.kill()
        server.communicate()
