"""`alexnet-train` with a teacher's answers to photos without classes, from the command line."""

import logging
import shutil
from pathlib import Path

import pytest

from tests.photos import class_folders
from tests.teachers import hue_teacher
from training.__main__ import main
from training.checkpoint import Checkpoint
from training.label import main as label
from training.softlabels import SoftLabels

HUES = ("cherry", "leaf", "sky", "violet")
ORDER = ("violet", "sky", "leaf", "cherry")

pytestmark = pytest.mark.usefixtures("narrow")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of two hues in class folders, of four hues in `more` and `hidden`, and a teacher's
    answers to these."""
    folder = tmp_path_factory.mktemp("learning")
    class_folders(folder / "train", HUES, each=12)
    for name in HUES[2:]:
        shutil.rmtree(folder / "train" / name)
    class_folders(folder / "val", HUES, each=3, seed=1)
    for seed, (name, each) in enumerate((("more", 6), ("hidden", 4)), start=2):
        class_folders(folder / name, HUES, each, seed=seed)
        hue_teacher(folder / f"{name}-hues.onnx", HUES, ORDER)
        with pytest.MonkeyPatch.context() as patch:
            command = ["alexnet-label", folder / f"{name}-hues.onnx", "--recipe", "smoke",
                       "--photos", folder / name, "--output", folder / f"{name}.labels",
                       "--cache", folder / "cache"]  # fmt: skip
            patch.setattr("sys.argv", [*map(str, command)])
            label()
    return folder


def train(monkeypatch: pytest.MonkeyPatch, folder: Path, run: Path, *arguments: str) -> Checkpoint:
    """The finished model."""
    flags = ["--recipe", "smoke", "--epochs", "1", "--output", str(run)]
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["alexnet-train", *arguments, *flags, "--cache", "cache"])
    main()
    return Checkpoint.load(run / "model.safetensors")


MORE = ["--unlabelled", "more", "--unlabelled", "hidden",
        "--labels", "more.labels", "hidden.labels"]  # fmt: skip


def test_two_sources_without_classes_have_their_teachers_and_their_shares(
    folder: Path, run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    flags = ["--train", "train", "--val", "val", *MORE, "--share", "0.4", "0.3"]
    facts = train(monkeypatch, folder, run, *flags).facts
    assert (
        "24 photos of 2 classes, and 40 without a class; taught by more-hues, hidden-hues, "
        "2 more classes; recipe smoke: alexnet-bn, 1 epochs on"
    ) in caplog.text
    assert (facts["known"], facts["photos"]) == ([0, 1], 24)
    teachers = "more-hues, hidden-hues"
    assert facts["taught"] == {"teacher": teachers, "photos": 40, "classes": [2, 3]}
    assert facts["accuracy"]["photos"] == 12
    labels = [SoftLabels.load(folder / f"{name}.labels").sha256 for name in ("more", "hidden")]
    pools = Checkpoint.load(run / "last.safetensors").facts["pools"]
    assert pools == [[[], 5], [labels[:1], 6], [labels[1:], 5]], "of 16: 0.3, 0.4 and 0.3"


def test_without_photos_of_known_classes_the_teacher_alone_is_learnt_from(
    folder: Path, run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    facts = train(monkeypatch, folder, run, "--val", "val", *MORE).facts
    assert "and 40 without a class; taught by more-hues, hidden-hues, 4 more" in caplog.text
    assert (facts["known"], facts["photos"]) == ([], 0)
    assert facts["taught"]["classes"] == [0, 1, 2, 3]
    assert facts["accuracy"]["photos"] == 12


def test_photos_without_classes_cannot_score(
    folder: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        train(monkeypatch, folder, run, *MORE)
    assert ended.value.code == 2
    assert "photos without classes cannot score: name some with classes (--val)" in (
        capsys.readouterr().err
    )
    assert not run.exists()
