"""The server beside a real OpenVINO, which tells no stranger that it runs."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.environments import environment
from tests.paths import ROOT, STARTER
from tests.photos import jpeg
from tests.processes import ServerProcess, start_server, stop_server

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def packages() -> str:
    """What has to be on the path to have it."""
    python = environment("openvino", Path(__file__).parent / "openvino" / "requirements.txt")
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return subprocess.run([python, "-c", asked], capture_output=True, text=True).stdout.strip()


@contextmanager
def serving(*flags: str) -> Iterator[tuple[ServerProcess, list[str]]]:
    """Its log is there when it has ended."""
    server, log = start_server(*flags), [""]
    try:
        yield server, log
    finally:
        code, log[0] = stop_server(server)
    assert code == 0, log[0]
    assert "Traceback" not in log[0]


def answer(server: ServerProcess, photo: bytes, asked: str = "top_k=1000") -> dict[str, object]:
    with urllib.request.urlopen(f"{server.http}/v1/classify?{asked}", photo) as reply:
        data: dict[str, object] = json.load(reply)
    return data


def test_it_answers_as_onnx_runtime_does(
    packages: str, server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", packages)
    photos = [jpeg(seed=i) for i in range(4)]
    expected = [answer(server, photo)["predictions"] for photo in photos]
    with serving("--engine", "openvino-cpu") as (other, log):
        assert "on openvino-cpu" in other.banner
        found = [answer(other, photo)["predictions"] for photo in photos]
        seen = answer(other, photos[0], "explain=cam")["explanation"]
    for ours, theirs in zip(found, expected, strict=True):
        assert by_class(ours) == pytest.approx(by_class(theirs), abs=0.02)
    assert seen, "where it looks is ONNX Runtime's to tell"
    assert "golden batch passed on openvino-cpu" in log[0]


def by_class(predictions: object) -> dict[str, float]:
    assert isinstance(predictions, list)
    return {p["synset"]: p["probability"] for p in predictions}


def test_the_faster_of_the_two_serves(packages: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", packages)
    with serving() as (server, log):
        assert answer(server, jpeg())["predictions"]
    raced = re.search(
        r"engine (\S+): photos/s in batches of 8 and 32: onnxruntime-cpu (\d+), openvino-cpu (\d+)",
        log[0],
    )
    assert raced, log[0]
    clearly = int(raced[3]) >= 1.1 * int(raced[2])
    assert raced[1] == ("openvino-cpu" if clearly else "onnxruntime-cpu")
    assert f"on {raced[1]}" in server.banner


SAME = """
import sys
from pathlib import Path
import numpy as np
from alexnet.bundle import Bundle
from server.engines import openvino
bundle = Bundle.open(Path(sys.argv[1]))
(artifact,) = bundle.manifest.artifacts
def opened():
    return openvino.OpenVinoEngine(bundle.files[artifact.file], bundle.manifest, "int8", 1)
found = []
rewrite = openvino.connect_by_convolutions
openvino.connect_by_convolutions = lambda model: found.append(rewrite(model))
rewritten = opened()
openvino.connect_by_convolutions = lambda model: 0
plain = opened()
for count in (1, 3, 8):
    crops = bundle.golden.crops[:count]
    # A sum may be rounded to the next integer between two layers.
    np.testing.assert_allclose(rewritten.run(crops), plain.run(crops), atol=0.1)
print(found)
"""


def test_fully_connected_layers_are_the_same_as_convolutions(packages: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SAME, STARTER], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": packages}, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "[3]\n"), done.stderr


USE = """
from alexnet.bundle import Bundle
from server.engines.openvino import OpenVinoEngine
from pathlib import Path
import sys
bundle = Bundle.open(Path(sys.argv[1]))
(artifact,) = bundle.manifest.artifacts
engine = OpenVinoEngine(bundle.files[artifact.file], bundle.manifest, artifact.precision, 1)
bundle.golden.check(engine.run(bundle.golden.crops), artifact.tolerance)
"""


def test_nothing_is_kept_at_home_and_no_name_is_looked_up(packages: str, tmp_path: Path) -> None:
    trace, home = tmp_path / "trace", tmp_path / "home"
    traced = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmmsg", "-o", str(trace)]
    home.mkdir()
    subprocess.run(
        [*(traced if shutil.which("strace") else []), sys.executable, "-c", USE, STARTER],
        cwd=ROOT, check=True, timeout=120,
        env={**os.environ, "PYTHONPATH": packages, "HOME": str(home)},
    )  # fmt: skip
    assert list(home.rglob("*")) == []
    if not trace.exists():
        pytest.skip("strace is not installed: calls of the network were not watched")
    assert "AF_INET" not in trace.read_text()
