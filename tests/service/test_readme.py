"""The commands and the code in the README work."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.photos import jpeg
from tests.processes import ServerProcess

pytestmark = pytest.mark.process

README = (ROOT / "README.md").read_text()


def test_the_python_example_runs(server: ServerProcess, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "photo.jpg").write_bytes(jpeg())
    run = subprocess.run(
        [sys.executable, "-c", code.replace("127.0.0.1:8001", server.grpc)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.splitlines()) == 3
    assert re.match(r"\d+\.\d% .+ n\d{8}$", run.stdout.splitlines()[0])


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_forms_work(server: ServerProcess, tmp_path: Path) -> None:
    for name in ("one.jpg", "two.jpg", "photo.jpg"):
        (tmp_path / name).write_bytes(jpeg())
    forms = re.findall(r"`((?:-F|--data-binary) [^`]+)`", README)
    assert len(forms) == 2
    for form in forms:
        run = subprocess.run(
            ["curl", "--silent", "--fail", *form.split(), f"{server.http}/v1/classify"],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert "probability" in run.stdout
