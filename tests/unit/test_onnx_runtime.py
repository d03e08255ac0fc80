"""ONNX Runtime tells no stranger that it runs, whichever of our packages brings it in."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

WORK = """
import importlib, sys
importlib.import_module(sys.argv[1])
from alexnet.onnx_runtime import onnxruntime
from tests.bundles import grey_bundle
bundle = grey_bundle()
(artifact,) = bundle.manifest.artifacts
onnxruntime.InferenceSession(bundle.files[artifact.file])
"""


@pytest.mark.process
@pytest.mark.parametrize("module", ["server.engines.ort", "export.parity", "training.teacher"])
def test_nothing_is_kept_at_home_and_no_name_is_looked_up(module: str, tmp_path: Path) -> None:
    """The fake home would hold a device's id, and the trace a call of the network."""
    trace = tmp_path / "trace"
    traced = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmmsg", "-o", str(trace)]
    home = tmp_path / "home"
    home.mkdir()
    given = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run(
        [*(traced if shutil.which("strace") else []), sys.executable, "-c", WORK, module],
        cwd=ROOT, env={**given, "HOME": str(home), "XDG_CACHE_HOME": str(home)}, check=True,
        timeout=120,
    )  # fmt: skip
    assert not [path for path in home.rglob("*") if "onnxruntime" in str(path).lower()]
    if not trace.exists():
        pytest.skip("strace is not installed: calls of the network were not watched")
    calls = trace.read_text()
    assert "AF_INET" not in calls, calls


def test_it_has_one_door() -> None:
    plain = re.compile(r"^ *(import onnxruntime|from onnxruntime)", re.MULTILINE)
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if files.returncode != 0:
        pytest.skip("not a git checkout")
    # What users of other servers would write runs in those servers' environments.
    ours = [
        name for name in files.stdout.split() if not name.startswith("benchmarks/peers/servers/")
    ]
    found = [name for name in ours if plain.search((ROOT / name).read_text())]
    assert found == ["alexnet/onnx_runtime.py"]
