"""What is wrong with photos and settings is one sentence before the first step."""

import errno
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.photos import class_folders, png
from training.checks import check_disk, check_photos, check_recipe, sentence
from training.photos import Part, Photos
from training.recipe import PLAIN, SMOKE, get_recipe
from training.sources import Sources

CLASSES = ("cherry", "leaf", "sky")


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """`train` and `val` with the same three classes."""
    class_folders(tmp_path / "train", CLASSES, each=3, side=8)
    class_folders(tmp_path / "val", CLASSES, each=2, side=8)
    return tmp_path


def said(root: Path, caplog: pytest.LogCaptureFixture, fraction: float | None = None) -> list[str]:
    """The warnings about `root/train` and `root/val`."""
    caplog.clear()
    check_photos(*Sources([root / "train"], [root / "val"], fraction).photos())
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def refusal(root: Path, fraction: float | None = None) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        check_photos(*Sources([root / "train"], [root / "val"], fraction).photos())
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_photos_in_order_need_no_words(folders: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert said(folders, caplog) == []
    assert said(folders, caplog, 0.4) == []


def test_a_missing_or_empty_validation_folder_is_named(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", CLASSES, each=2, side=8)
    assert refusal(tmp_path) == f"there is no {tmp_path / 'val'}"
    (tmp_path / "val").mkdir()
    assert refusal(tmp_path) == f"no photos in {tmp_path / 'val'}"


def test_files_in_place_of_photos_are_named(folders: Path) -> None:
    for path in folders.joinpath("val").rglob("*.png"):
        path.rename(path.with_suffix(".CR2"))
    assert "val: only 6 .cr2; photos end in .jpeg .jpg" in refusal(folders)


def test_a_class_of_validation_that_training_lacks_is_an_error(folders: Path) -> None:
    (folders / "val" / "sky").rename(folders / "val" / "Sky")
    message = refusal(folders)
    assert "val has classes that" in message
    assert message.endswith("lacks: Sky (it has cherry, leaf, sky)")


def test_a_class_without_photos_to_score_is_named(
    folders: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (folders / "val" / "sky").iterdir():
        path.unlink()
    assert said(folders, caplog) == [
        f"validation folders hold no photo and are no class: {folders / 'val' / 'sky'}",
        "classes without photos to score with: sky",
    ]


def test_a_class_of_one_photo_is_named(folders: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folders / "train" / "moon").mkdir()
    (folders / "train" / "moon" / "1.png").write_bytes(png(8, 8))
    assert said(folders, caplog, 0.4) == [
        "classes of a single photo are hardly learnt: moon",
        "classes without photos to score with: moon",
    ]


def test_what_is_no_photo_is_counted_and_named(
    folders: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leaf = folders / "train" / "leaf"
    for name in ("1.cr2", "2.CR2", "3.svg"):
        (leaf / name).write_bytes(b"")
    (leaf / "gone.png").symlink_to(folders / "nowhere")
    (folders / "train" / "empty").mkdir()
    assert said(folders, caplog, 0.4) == [
        "training files are no photos and left out: 2 .cr2, 1 .svg",
        f"training links lead nowhere and are left out: {leaf / 'gone.png'}",
        f"training folders hold no photo and are no class: {folders / 'train' / 'empty'}",
    ]


def test_a_flat_folder_of_as_many_classes_as_photos_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for i in range(24):
        (tmp_path / "train" / f"IMG{i}.png").write_bytes(png(8, 8))
    for fraction in (0.2, 0.5):
        message = refusal(tmp_path, fraction)
        assert "train holds 24 photos of 24 classes: put the photos of each class into" in message


def test_a_single_class_is_an_error(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", ("cat",), each=5, side=8)
    assert refusal(tmp_path, 0.2).endswith("are of one class, cat: it takes two to tell apart")


def test_photos_that_train_and_score_get_a_warning(
    folders: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folders / "same").symlink_to(folders / "train")
    check_photos(Photos([folders / "train"]), Photos([folders / "train"]))
    assert "trains and scores: the accuracy will be too good to be true" in caplog.text


def test_many_names_are_cut_short(folders: Path) -> None:
    for i in range(8):
        (folders / "val" / f"class{i}").mkdir()
        (folders / "val" / f"class{i}" / "1.png").write_bytes(png(8, 8))
    assert "class0, class1, class2, class3, class4 and 3 more" in refusal(folders)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "--epochs 0: at least one is needed"),
        ({"batch": 0}, "--batch 0: at least 2 is needed for batch norm"),
        ({"batch": 1}, "--batch 1: at least 2 is needed for batch norm"),
        ({"batch": 0, "arch": "alexnet"}, "--batch 0: at least 1 is needed"),
    ],
)
def test_settings_that_cannot_train_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_recipe(get_recipe("smoke", **settings), 100)


def test_a_batch_of_one_trains_a_network_without_batch_norm() -> None:
    check_recipe(get_recipe("smoke", batch=1, arch="alexnet"), 100)


def test_a_run_of_few_steps_gets_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    check_recipe(get_recipe("plain", epochs=1), 2560)
    assert "this run makes only 10 steps: a smaller --batch or more --epochs" in caplog.text
    caplog.clear()
    check_recipe(PLAIN, 25600)
    check_recipe(PLAIN, None)
    assert caplog.text == ""


def test_the_room_on_the_disk_is_said_and_checked(
    folders: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    photos = [Photos([folders / "train"], Part(0.4, held_out=held)) for held in (False, True)]
    check_disk(SMOKE, photos[0], photos[1], folders / "cache", folders / "run")
    assert "for packed photos in" in caplog.text
    assert "up to 1.4 GB for checkpoints in" in caplog.text
    free = SimpleNamespace(free=1_000_000)
    monkeypatch.setattr("training.checks.shutil.disk_usage", lambda _: free)
    with pytest.raises(OSError, match="make room, or pass another --cache") as caught:
        check_disk(SMOKE, photos[0], photos[1], folders / "cache", folders / "run")
    assert "will take up to 1.4 GB and the disk has 1 MB left" in sentence(caught.value)


def test_a_full_disk_is_told_in_words() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "runs/a/last.safetensors")
    assert sentence(full) == (
        "the disk is full (runs/a/last.safetensors): make room, or pass another --cache or --output"
    )
    denied = PermissionError(errno.EACCES, "Permission denied", "/closed/x")
    assert sentence(denied) == "/closed/x: Permission denied"
    assert sentence(ValueError("as it is")) == "as it is"
    assert sentence(RuntimeError("CUDA out of memory. Tried\nto")).startswith("there is not enough")
    assert sentence(RuntimeError("one\ntwo")) == "one"
