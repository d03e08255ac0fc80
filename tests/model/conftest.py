"""Fixtures and helpers of the tests of networks."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from export.evaluate import main
from export.parity import speeds
from tests.model.evaluation import Evaluate
from tests.photos import class_folders

CLASSES = ("cherry", "leaf", "sky", "violet")


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """64 hidden units instead of 4096: a sixtieth of the weights, in one thread."""
    monkeypatch.setattr("training.network.HIDDEN", 64)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def briefly_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """alexnet-export tells the speed of two photos once, and not of 32 five times."""
    monkeypatch.setattr(
        "export.run.speeds", lambda onnx, batch, rounds: speeds(onnx, batch[:2], rounds=1)
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders `train` and `val` with four hues, which a network learns in seconds."""
    root = tmp_path_factory.mktemp("photos")
    class_folders(root / "train", CLASSES, each=12)
    class_folders(root / "val", CLASSES, each=5, seed=1)
    return root


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    """A run folder; checkpoints are large, so it does not outlive the test."""
    yield tmp_path / "run"
    shutil.rmtree(tmp_path / "run", ignore_errors=True)


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """Runs alexnet-evaluate and returns its output; raises SystemExit if it fails."""

    def evaluate(*arguments: object) -> str:
        monkeypatch.setattr("sys.argv", ["alexnet-evaluate", *map(str, arguments)])
        main()
        return capsys.readouterr().out

    return evaluate
