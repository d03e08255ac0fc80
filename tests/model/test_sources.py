"""What the sources on the command line mean."""

from pathlib import Path

import pytest

from training.sources import HELD_OUT, Sources, resolve, run_name


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("train/cat", "val/cat"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    return tmp_path / "photos"


def test_photos_alone_are_split() -> None:
    photos = Path("photos")
    assert resolve([photos], [], None) == Sources([photos], [photos], HELD_OUT)
    assert resolve([photos], [], 0.3) == Sources([photos], [photos], 0.3)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test"])
def test_train_and_val_in_a_folder_are_found(photos: Path, name: str) -> None:
    (photos / "val").rename(photos / name)
    assert resolve([photos], [], None) == Sources([photos / "train"], [photos / name])


def test_what_is_named_is_taken_as_it_is(photos: Path) -> None:
    val = [photos / "val"]
    assert resolve([photos / "train"], val, None) == Sources([photos / "train"], val)
    assert resolve([photos], [], 0.1).fraction == 0.1


def test_a_train_folder_alone_is_split(photos: Path) -> None:
    (photos / "val" / "cat").rmdir()
    (photos / "val").rmdir()
    assert resolve([photos], [], None).fraction == HELD_OUT


def test_photos_that_train_and_score_are_refused(photos: Path) -> None:
    with pytest.raises(ValueError, match=r"--train .*photos contains --val .*photos/val: photos"):
        resolve([photos], [photos / "val"], None)
    with pytest.raises(ValueError, match=r"--val .*photos contains --train .*photos/train"):
        resolve([photos / "train"], [photos], None)
    linked = photos.parent / "linked"
    linked.symlink_to(photos / "val")
    with pytest.raises(ValueError, match="contains --val"):
        resolve([photos], [linked], None)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 2.0])
def test_a_fraction_lies_between_0_and_1(fraction: float) -> None:
    with pytest.raises(ValueError, match="is no fraction between 0 and 1"):
        resolve([Path("photos")], [], fraction)


def test_val_and_a_fraction_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="leave out --val-fraction, or --val"):
        resolve([Path("a")], [Path("b")], 0.2)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("photos", "photos"), ("a/photos/", "photos"), ("photos/train", "photos"),
        ("b.zip", "b"), ("c.tar.gz", "c"), ("v1.2", "v1.2"), ("/", "latest"),
    ],
)  # fmt: skip
def test_a_run_is_called_after_its_photos(source: str, name: str) -> None:
    assert run_name([Path(source)]) == name
