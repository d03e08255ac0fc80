"""Labelling: what the teacher is shown, resuming, and the command."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from alexnet.labels import Label, Labels
from alexnet.spec import Preprocess
from tests.photos import class_folders
from tests.teachers import hue_teacher
from training import labelling
from training.checkpoint import Checkpoint
from training.data import Dataset, load
from training.label import main
from training.labelling import describe, label
from training.recipe import SMOKE
from training.softlabels import SoftLabels

HUES = ("cherry", "leaf", "sky", "violet")
LABELS = Labels(tuple(Label(name, name) for name in HUES))
SIDE = 24


class Recorder:
    """A teacher that remembers what it was shown, and stops the run at a call if asked to."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.name, self.sha256, self.labels = "recorder", "r" * 64, LABELS
        self.description = SimpleNamespace(side=SIDE)
        self.shown: list[NDArray[np.uint8]] = []
        self.stop_at = stop_at

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        if len(self.shown) == self.stop_at:
            raise KeyboardInterrupt
        self.shown.append(crops)
        means = crops.reshape(len(crops), -1).mean(1)
        rows = np.stack([means / 1000, 1 - means / 500, means / 2000, means / 2000], 1)
        return rows.astype(np.float32)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    class_folders(tmp_path / "more", HUES, each=10)
    return load([tmp_path / "more"], Preprocess(64, 64), LABELS, classes=False)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelling, "CHUNK", 16)


Labeller = Callable[..., SoftLabels]


@pytest.fixture
def run(data: Dataset, tmp_path: Path) -> Labeller:
    def run(teacher: Any, output: str = "labels", views: int = 2, k: int = 3) -> SoftLabels:
        origin = describe(teacher, data, SMOKE, views)
        return label(teacher, data, origin, k, tmp_path / output)

    return run


def test_photos_without_classes_have_none_whatever_their_folders_say(data: Dataset) -> None:
    assert set(data.targets.tolist()) == {-1}
    assert data.known == []
    assert data.labels == LABELS


@pytest.mark.usefixtures("small_chunks")
def test_the_teacher_is_asked_about_each_view_of_each_photo(run: Labeller, data: Dataset) -> None:
    teacher = Recorder()
    labels = run(teacher)
    shown = np.concatenate(teacher.shown).reshape(40, 2, SIDE, SIDE, 3)
    images = torch.from_numpy(data.images)
    for number in (0, 1):
        index, numbers = torch.arange(40), torch.full((40,), number)
        crops = labels.origin.boxes(index, numbers, 64).cut(images, index, SIDE)
        np.testing.assert_array_equal(shown[:, number], crops.numpy())
    means = shown.reshape(40, 2, -1).mean(2)
    answers = labels.answers(torch.arange(40), torch.ones(40, dtype=torch.int64))
    own = answers.shares[answers.classes == 1].numpy()
    np.testing.assert_allclose(own, 1 - means[:, 1] / 500, atol=1e-3)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("stop_at", [0, 1, 2])
def test_an_interrupted_run_goes_on_and_loses_the_current_chunk_only(
    run: Labeller, tmp_path: Path, stop_at: int
) -> None:
    whole = Recorder()
    expected = run(whole, "whole")
    assert len(whole.shown) == 3
    with pytest.raises(KeyboardInterrupt):
        run(Recorder(stop_at))
    assert not (tmp_path / "labels").exists()
    rest = Recorder()
    labels = run(rest)
    assert len(rest.shown) == 3 - stop_at
    for name in ("classes", "shares", "rest"):
        assert torch.equal(getattr(labels, name), getattr(expected, name))
    assert {path.name for path in tmp_path.iterdir()} == {"more", "whole", "labels"}


@pytest.mark.usefixtures("small_chunks")
def test_the_progress_of_a_run_that_goes_on_begins_with_what_is_done(
    run: Labeller, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars: list[Bar] = []

    def tqdm(*, total: int, initial: int, **_: Any) -> Bar:
        bars.append(Bar(total, initial))
        return bars[-1]

    monkeypatch.setattr(labelling, "tqdm", tqdm)
    with pytest.raises(KeyboardInterrupt):
        run(Recorder(stop_at=1))
    run(Recorder())
    assert [(bar.total, bar.initial, bar.done) for bar in bars] == [(40, 0, 16), (40, 16, 40)]


class Bar(AbstractContextManager["Bar"]):
    """A progress bar that nobody sees."""

    def __init__(self, total: int, initial: int) -> None:
        self.total, self.initial, self.done = total, initial, initial

    def update(self, photos: int) -> None:
        self.done += photos

    def __exit__(self, *_: object) -> None:
        pass


def test_finished_labels_are_not_made_again(run: Labeller) -> None:
    run(Recorder())
    again = Recorder()
    assert len(run(again)) == 40
    assert again.shown == []


def test_other_labels_are_neither_overwritten_nor_mixed(run: Labeller, tmp_path: Path) -> None:
    run(Recorder())
    for change in ({"views": 3}, {"k": 2}):
        with pytest.raises(ValueError, match="holds other labels: name another --output"):
            run(Recorder(), **change)
    with pytest.raises(KeyboardInterrupt):
        run(Recorder(0), "unfinished")
    with pytest.raises(ValueError, match="holds part of other labels"):
        run(Recorder(), "unfinished", views=1)


def test_labelling_holds_a_chunk_in_memory_and_never_all_photos(
    run: Labeller, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = Recorder()
    monkeypatch.setattr(labelling, "CHUNK", 8)
    run(teacher)
    assert max(len(crops) for crops in teacher.shown) == 16


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", ["alexnet-label", *map(str, arguments)])
    main()


def test_the_command_scores_the_teacher_and_writes_labels(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    teacher = hue_teacher(tmp_path / "hues.onnx", HUES, HUES)
    class_folders(tmp_path / "val", HUES, each=3, seed=1)
    caplog.set_level("INFO")
    command(
        monkeypatch, teacher, "--photos", tmp_path / "more", "--val", tmp_path / "val",
        "--recipe", "smoke", "--output", tmp_path / "labels", "--cache", tmp_path / "cache",
    )  # fmt: skip
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "hues: top-1 100.0% of 12 photos" in said
    assert "40 photos, 2 views each: the first answer has" in said
    labels = SoftLabels.load(tmp_path / "labels")
    assert labels.first().tolist() == [0] * 10 + [1] * 10 + [2] * 10 + [3] * 10
    assert labels.origin.photos_sha256 == data.sha256
    assert Checkpoint.load(tmp_path / "labels").facts["origin"]["teacher"] == "hues"


def test_the_command_ends_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--photos", tmp_path, "--output", tmp_path / "labels")
    with pytest.raises(
        SystemExit, match=r"alexnet-label: there is no .*absent\.json, which says how"
    ):
        command(monkeypatch, tmp_path / "absent.onnx", *arguments)
    monkeypatch.setattr(labelling, "label_photos", interrupted)
    with pytest.raises(SystemExit, match="stopped; the same command goes on"):
        command(monkeypatch, tmp_path / "absent.onnx", *arguments)


def interrupted(_: object) -> None:
    raise KeyboardInterrupt
