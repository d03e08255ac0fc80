"""The Ray Data job, on a Ray of this machine, asks a real server for the classes of photos."""

import os
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from alexnet_client.errors import ClassifyError
from alexnet_client.fake import FakeServer
from alexnet_client.ray_data import Classifier
from tests.environments import environment
from tests.paths import ROOT
from tests.photos import jpeg
from tests.processes import ServerProcess, free_port

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


def classify(photos: Path, output: Path, server: str) -> subprocess.CompletedProcess[str]:
    python = environment("ray", Path(__file__).parent / "ray" / "requirements.txt")
    return subprocess.run(
        [python, "-m", "alexnet_client.ray_data", photos, "--output", output, "--server", server,
         "--actors", "2", "--top-k", "3"],
        capture_output=True, text=True, check=False, timeout=240,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"},
    )  # fmt: skip


def test_a_folder_becomes_parquet(server: ServerProcess, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (photos / "deep").mkdir(parents=True)
    for i in range(20):
        (photos / "deep" / f"{i}.jpg").write_bytes(jpeg(seed=i))
    (photos / "broken.jpg").write_bytes(b"no photo")
    (photos / "notes.txt").write_text("no photo either")
    done = classify(photos, tmp_path / "answers", server.grpc)
    assert done.returncode == 0, done.stderr
    rows = {row["file"]: row for row in pq.read_table(tmp_path / "answers").to_pylist()}
    assert len(rows) == 21
    broken = rows.pop(str(photos / "broken.jpg"))
    assert broken["error"].startswith("INVALID_ARGUMENT: ")
    assert broken["labels"] == []
    for row in rows.values():
        assert row["error"] is None
        assert len(row["labels"]) == len(row["synsets"]) == len(row["probabilities"]) == 3


def test_without_top_k_the_server_decides_as_a_model_may_have_fewer_than_five_classes() -> None:
    with FakeServer() as fake:
        rows = Classifier(fake.address)({"path": ["1.jpg"], "bytes": [jpeg()]})
    assert (rows["file"], rows["error"]) == (["1.jpg"], [None])
    assert not fake.requests[0].HasField("top_k")


def test_a_server_that_is_not_there_ends_the_job() -> None:
    ask = Classifier(f"127.0.0.1:{free_port()}")
    with pytest.raises(ClassifyError) as raised:
        ask({"path": ["1.jpg"], "bytes": [jpeg()]})
    assert raised.value.unreachable
