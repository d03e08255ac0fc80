"""Triton's own client, in an environment of its own, asks a real server process.

Its checks are the files `tritonclient/check_*.py`: they run under the pytest of that environment.
"""

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2

from alexnet.bundle import Bundle
from alexnet.preprocess import preprocess
from protos import oip_pb2 as pb
from tests.environments import environment
from tests.paths import ROOT
from tests.photos import jpeg, png
from tests.processes import ServerProcess, start_server, stop_server

pytestmark = pytest.mark.process

FOLDER = Path(__file__).parent / "tritonclient"
PHOTOS = [jpeg(320, 240, seed=1), png(200, 300, seed=2), jpeg(640, 480, "L", seed=3)]


@pytest.fixture(scope="session")
def tritonclient() -> Path:
    """The interpreter of an environment that has it."""
    return environment("tritonclient", FOLDER / "requirements.txt")


@pytest.fixture(scope="module")
def server(starter: str) -> Iterator[ServerProcess]:
    running = start_server("--model", starter, "--priority-levels", "2")
    yield running
    code, log = stop_server(running)
    assert code == 0, log
    assert "Traceback" not in log, log


@pytest.fixture(scope="module")
def data(server: ServerProcess, starter: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, and what `/v1/classify` says of them; see tritonclient/given.py."""
    folder = tmp_path_factory.mktemp("tritonclient")
    bundle = Bundle.open(Path(starter))
    spec = bundle.manifest.preprocess
    for i, photo in enumerate(PHOTOS):
        (folder / f"photo_{i}").write_bytes(photo)
    np.save(folder / "crops.npy", np.stack([preprocess(p, spec).crop for p in PHOTOS]))
    np.save(folder / "probabilities.npy", [probabilities(server.http, p) for p in PHOTOS])
    labels = "\n".join(label.name for label in bundle.labels.rows)
    (folder / "labels.txt").write_text(labels)
    descriptor = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(descriptor)
    (folder / "oip.desc").write_bytes(descriptor.SerializeToString())
    return folder


def probabilities(url: str, photo: bytes) -> list[float]:
    """By class."""
    with urllib.request.urlopen(f"{url}/v1/classify?top_k=1000", photo) as response:
        predictions = json.load(response)["predictions"]
    return [p["probability"] for p in sorted(predictions, key=lambda p: p["index"])]


def check(file: str, python: Path, server: ServerProcess, data: Path) -> None:
    addresses = {"OIP_HTTP": server.http.removeprefix("http://"), "OIP_GRPC": server.grpc}
    finished = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull,
         "--rootdir", ".", "--confcutdir", ".", "-o", "python_files=check_*.py", file],
        cwd=FOLDER, env={**os.environ, **addresses, "OIP_DATA": str(data), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.parametrize(
    "file", ["check_models.py", "check_grpc.py", "check_http.py", "check_aio.py", "check_ours.py"]
)
def test_tritons_client_is_answered(
    file: str, tritonclient: Path, server: ServerProcess, data: Path
) -> None:
    check(file, tritonclient, server, data)


def test_tritons_client_loads_and_unloads_where_the_operator_allows_it(
    tritonclient: Path, starter: str, data: Path
) -> None:
    running = start_server("--model", starter, "--repository-control", "local")
    try:
        check("check_control.py", tritonclient, running, data)
    finally:
        code, log = stop_server(running)
    assert code == 0, log
