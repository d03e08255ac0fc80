"""Storage that does not answer: what is served stays served, and the process ends as asked."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.processes import FREE_PORTS, ServerProcess

pytestmark = pytest.mark.process

SERVER = """
import os, sys
import server.models.sources as sources
from server.__main__ import main

read = sources.read_manifest

def stuck(folder):
    if folder.name == "2":  # opening a FIFO is as a file system that does not answer
        print("stuck", file=sys.stderr, flush=True)
        os.open(folder / "fifo", os.O_RDONLY)
    return read(folder)

sources.read_manifest = stuck
main()
"""


def test_it_keeps_neither_a_request_nor_the_end_waiting(grey: str, tmp_path: Path) -> None:
    (tmp_path / "1").symlink_to(grey)
    flags = [*sum(FREE_PORTS.items(), ()), "--repository-control", "local", "--poll-s", "0.2"]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, "--model", str(tmp_path), *flags],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout
        assert process.stderr
        banner = ""
        while "curl" not in banner:
            banner += process.stdout.readline()
        url = ServerProcess(process, banner).http
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "manifest.json").write_text("{}")
        os.mkfifo(tmp_path / "new" / "fifo")
        (tmp_path / "new").rename(tmp_path / "2")
        with pytest.raises(TimeoutError):
            urllib.request.urlopen(f"{url}/v2/repository/models/alexnet/load", b"", timeout=0.5)
        while "stuck" not in process.stderr.readline():
            pass
        with urllib.request.urlopen(f"{url}/v2/repository/index", b"{}", timeout=5) as answer:
            assert {(row["version"], row["state"]) for row in json.load(answer)} == {("1", "READY")}
        process.terminate()
        _, log = process.communicate(timeout=15)
    finally:
        process.kill()
    assert (process.returncode, "Traceback" in log) == (0, False), log
