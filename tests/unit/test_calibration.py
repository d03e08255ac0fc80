"""The cost model of an earlier start is used again, or measured again; it never stops a start."""

from pathlib import Path
from typing import Any

import pytest

from server.app import cache_folder
from server.engines.base import Engine
from server.engines.model import Model
from server.models.calibration import calibrated
from server.scheduler.costs import CostModel
from tests.buckets import engine_of
from tests.fakes import FakeEngine, tiny_bundle


class Scale:
    """Every measurement comes out a millisecond slower than the one before."""

    def __init__(self) -> None:
        self.measured = 0

    def measure(self, run: Any, crops: Any, max_batch_size: int, decode: Any) -> CostModel:
        self.measured += 1
        infer_ms = {1: float(self.measured), max_batch_size: 9.0}
        return CostModel(infer_ms, {"JPEG": (1.0, 0.0)})


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> Scale:
    scale = Scale()
    monkeypatch.setattr(CostModel, "measure", scale.measure)
    return scale


def opened(folder: Path | None, max_batch_size: int = 4, engine: Engine | None = None) -> float:
    """What a photo costs, in milliseconds: the number of the measurement."""
    bundle = tiny_bundle()
    model = Model(bundle, bundle.manifest.artifacts[0], "int8", (engine or FakeEngine(),))
    costs = calibrated(model, max_batch_size, folder)
    assert costs.max_batch_size == max_batch_size
    return round(costs.infer_s(1) * 1000, 3)


def test_what_was_measured_is_used_at_the_next_start(tmp_path: Path, scale: Scale) -> None:
    assert [opened(tmp_path / "new" / "folder") for _ in range(3)] == [1, 1, 1]
    assert scale.measured == 1


def test_without_a_folder_every_start_measures(scale: Scale) -> None:
    assert [opened(None), opened(None)] == [1, 2]


def test_each_largest_batch_has_a_model_of_its_own(tmp_path: Path, scale: Scale) -> None:
    assert [opened(tmp_path, size) for size in (4, 8, 4, 8)] == [1, 2, 1, 2]


def test_another_gpu_is_measured_again(tmp_path: Path, scale: Scale) -> None:
    engine, _, _ = engine_of()
    assert opened(tmp_path, engine=engine) == 1
    engine.gpu = "NVIDIA Other, CUDA 13000"
    assert [opened(tmp_path, engine=engine), opened(tmp_path, engine=engine)] == [2, 2]


def test_another_version_of_a_runtime_is_measured_again(
    tmp_path: Path, scale: Scale, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert opened(tmp_path) == 1
    monkeypatch.setattr("server.engines.runtimes.version", "{} 99".format)
    assert [opened(tmp_path), opened(tmp_path)] == [2, 2]


@pytest.mark.parametrize("kept", ["{", "\N{SNOWMAN}", ""])
def test_a_damaged_file_is_measured_again_and_replaced(
    tmp_path: Path, scale: Scale, caplog: pytest.LogCaptureFixture, kept: str
) -> None:
    opened(tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(kept)
    assert opened(tmp_path) == 2
    assert "cannot be used, the cost model is measured again" in caplog.text
    assert opened(tmp_path) == 2
    assert [*tmp_path.iterdir()] == [file], "nothing else is left behind"


def test_a_model_for_another_largest_batch_is_not_used(
    tmp_path: Path, scale: Scale, caplog: pytest.LogCaptureFixture
) -> None:
    opened(tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(CostModel({1: 7.0, 64: 9.0}, {"JPEG": (1.0, 0.0)}).to_json())
    assert opened(tmp_path) == 2
    assert f"{file} is for batches up to 64" in caplog.text
    assert opened(tmp_path) == 2


def test_a_file_that_may_not_be_read_is_measured_again(
    tmp_path: Path, scale: Scale, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(tmp_path)

    read = Path.read_text

    def refuse(path: Path, **options: Any) -> str:
        if path.suffix == ".json":
            raise PermissionError(f"{path} is not yours")
        return read(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", refuse)
        assert opened(tmp_path) == 2
    assert "is not yours" in caplog.text
    assert opened(tmp_path) == 2, "it was kept all the same"


def test_a_folder_that_is_none_costs_only_the_time_to_measure(
    tmp_path: Path, scale: Scale, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    folder = tmp_path / "file" / "below"
    assert [opened(folder), opened(folder)] == [1, 2]
    assert "cannot be used" in caplog.text
    assert "not kept for the next start" in caplog.text


def test_a_user_without_a_home_keeps_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    assert cache_folder("~/.cache/alexnet") is None
    assert "~/.cache/alexnet is nowhere" in caplog.text
    assert cache_folder("") is None
