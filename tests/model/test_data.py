import io
import logging
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import pytest

from alexnet.labels import Label, Labels
from alexnet.preprocess import Photo, preprocess
from alexnet.spec import Preprocess
from tests.photos import class_folders, jpeg, png
from training.data import Dataset, _pack, class_list, load, load_unlabelled
from training.photos import Photos

SPEC = Preprocess(32, 32)
CLASSES = ("cherry", "leaf", "sky")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    class_folders(tmp_path / "photos", CLASSES, each=3, side=32)
    return tmp_path / "photos"


def zip_folder(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*.*"):
            archive.write(file, file.relative_to(folder.parent))
    return path


def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[str]:
    return (r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)


def test_every_photo_is_decoded_under_its_folders_class(photos: Path) -> None:
    data = load([photos], SPEC)
    assert [label.synset for label in data.labels.rows] == list(CLASSES)
    assert data.targets.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert data.known == [0, 1, 2]
    assert data.images.shape == (len(data), 32, 32, 3)
    leaf = (photos / "leaf" / "leaf_0.png").read_bytes()
    np.testing.assert_array_equal(data.images[3], preprocess(leaf, SPEC).crop)


def test_several_sources_are_one_dataset(photos: Path, tmp_path: Path) -> None:
    class_folders(tmp_path / "more", ("leaf", "violet"), each=2, side=32)
    data = load([photos, zip_folder(tmp_path / "more")], SPEC)
    assert [label.synset for label in data.labels.rows] == [*CLASSES, "violet"]
    assert np.bincount(data.targets).tolist() == [3, 5, 3, 2]


def test_synset_folders_are_imagenets_classes(tmp_path: Path) -> None:
    class_folders(tmp_path, ("n15075141", "n01440764"), each=1, side=32)
    data = load([tmp_path], SPEC)
    assert data.labels == Labels.imagenet()
    assert data.known == data.targets.tolist() == [0, 999]


def test_one_folder_that_is_no_synset_makes_the_folders_the_classes() -> None:
    labels = class_list({"n01440764", "my cat"})
    assert labels.rows == (Label("my cat", "my cat"), Label("n01440764", "n01440764"))


def test_given_labels_set_the_order(photos: Path) -> None:
    labels = Labels(tuple(Label(name, name) for name in ("sky", "moon", "leaf", "cherry")))
    data = load([photos], SPEC, labels)
    assert data.labels is labels
    assert data.targets.tolist() == [3, 3, 3, 2, 2, 2, 0, 0, 0]
    assert data.known == [0, 2, 3]


def test_a_folder_that_is_no_given_class_is_an_error_that_names_it(photos: Path) -> None:
    labels = Labels((Label("leaf", "leaf"), Label("sky", "sky")))
    with pytest.raises(ValueError, match="1 folders are no known class, such as 'cherry'"):
        load([photos], SPEC, labels)


def test_a_corrupt_photo_is_skipped_and_named(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corrupt = photos / "leaf" / "leaf_1.png"
    corrupt.write_bytes(corrupt.read_bytes()[:100])
    data = load([photos], SPEC)
    assert data.targets.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert data.images.shape[0] == 8
    assert data.skipped == (str(corrupt),)
    first, last = warnings(caplog)
    assert first.startswith(f"skipped {corrupt}: ")
    assert last == "1 of 9 photos could not be read"


def test_a_photo_damaged_inside_a_zip_is_skipped_and_named(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = zip_folder(photos)
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("photos/leaf/leaf_1.png").header_offset
    data = bytearray(path.read_bytes())
    data[start + 300] ^= 0xFF
    path.write_bytes(data)
    assert load([path], SPEC).targets.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert next(warnings(caplog)).startswith(f"skipped {path}!photos/leaf/leaf_1.png: ")


def test_sources_without_a_readable_photo_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "leaf").mkdir()
    (tmp_path / "leaf" / "a.jpg").write_bytes(b"no photo")
    with pytest.raises(ValueError, match="could be read"):
        load([tmp_path], SPEC)
    with pytest.raises(ValueError, match="could be read"):
        load_unlabelled([tmp_path], SPEC, 5)


def test_unlabelled_photos_are_spread_over_the_folders(photos: Path) -> None:
    everything = load([photos], SPEC).images
    np.testing.assert_array_equal(load_unlabelled([photos], SPEC, 3), everything[[0, 4, 8]])
    np.testing.assert_array_equal(load_unlabelled([photos], SPEC, 100), everything)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the photos decoded so far."""
    sizes: list[int] = []

    def count(data: bytes, spec: Preprocess) -> Photo:
        sizes.append(len(data))
        return preprocess(data, spec)

    monkeypatch.setattr("training.data.preprocess", count)
    return sizes


def assert_same(one: Dataset, two: Dataset) -> None:
    np.testing.assert_array_equal(one.images, two.images)
    np.testing.assert_array_equal(one.targets, two.targets)
    assert (one.labels, one.skipped) == (two.labels, two.skipped)


def test_a_cache_is_filled_once_and_gives_the_same_photos(
    photos: Path, tmp_path: Path, decoded: list[int]
) -> None:
    plain = load([photos], SPEC)
    first = load([photos], SPEC, cache=tmp_path / "deep" / "cache")
    assert len(decoded) == 18
    again = load([photos], SPEC, cache=tmp_path / "deep" / "cache")
    assert len(decoded) == 18
    assert_same(first, plain)
    assert_same(again, plain)


def test_changes_to_cached_photos_do_not_reach_the_file(photos: Path, tmp_path: Path) -> None:
    load([photos], SPEC, cache=tmp_path / "cache").images[:] = 0
    assert_same(load([photos], SPEC, cache=tmp_path / "cache"), load([photos], SPEC))


def test_the_hash_of_photos_is_of_their_pixels_in_order(photos: Path, tmp_path: Path) -> None:
    plain = load([photos], SPEC)
    cached = load([photos], SPEC, cache=tmp_path / "cache")
    unhashed = Dataset(plain.images, plain.targets, plain.labels)  # as a pack of earlier versions
    assert plain.sha256 == cached.sha256 == unhashed.sha256
    moved = tmp_path / "moved" / "photos"
    shutil.copytree(photos, moved)
    assert load([moved], SPEC).sha256 == plain.sha256
    reversed_ = Dataset(plain.images[::-1], plain.targets, plain.labels)
    assert reversed_.sha256 != plain.sha256
    assert load([photos], Preprocess(32, 16)).sha256 != plain.sha256


def test_folders_without_classes_may_have_any_name(photos: Path) -> None:
    labels = Labels((Label("x", "x"),))
    data = load([photos], SPEC, labels, classes=False)
    assert (data.targets.tolist(), data.known, data.labels) == ([-1] * 9, [], labels)
    np.testing.assert_array_equal(data.images, load([photos], SPEC).images)


def test_other_labels_use_the_same_pack(photos: Path, tmp_path: Path, decoded: list[int]) -> None:
    load([photos], SPEC, cache=tmp_path / "cache")
    labels = Labels(tuple(Label(name, name) for name in ("sky", "leaf", "cherry")))
    data = load([photos], SPEC, labels, tmp_path / "cache")
    assert data.targets.tolist() == [2, 2, 2, 1, 1, 1, 0, 0, 0]
    assert len(decoded) == 9


def test_a_changed_source_or_spec_gets_a_new_pack(
    photos: Path, tmp_path: Path, decoded: list[int]
) -> None:
    cache = tmp_path / "cache"
    load([photos], SPEC, cache=cache)
    assert load([photos], Preprocess(32, 16), cache=cache).images.shape == (9, 16, 16, 3)
    (photos / "sky" / "new.png").write_bytes(png(40, 40))
    assert len(load([photos], SPEC, cache=cache)) == 10
    assert len(decoded) == 9 + 9 + 10
    assert len(list(cache.iterdir())) == 3
    load([photos], Preprocess(32, 16), cache=cache)
    assert len(decoded) == 9 + 9 + 10 + 10


def test_photos_that_could_not_be_read_are_remembered(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corrupt = photos / "leaf" / "leaf_1.png"
    corrupt.write_bytes(b"no photo")
    first = load([photos], SPEC, cache=tmp_path / "cache")
    caplog.clear()
    again = load([photos], SPEC, cache=tmp_path / "cache")
    assert again.skipped == (str(corrupt),)
    assert list(warnings(caplog)) == []
    assert_same(again, first)


def test_a_crash_while_packing_leaves_no_pack(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, middle = tmp_path / "cache", (photos / "leaf" / "leaf_1.png").read_bytes()

    def crash(data: bytes, spec: Preprocess) -> Photo:
        if data == middle:
            raise MemoryError
        return preprocess(data, spec)

    with monkeypatch.context() as crashing:
        crashing.setattr("training.data.preprocess", crash)
        with pytest.raises(MemoryError):
            load([photos], SPEC, cache=cache)
    assert list(cache.iterdir()) == []
    assert_same(load([photos], SPEC, cache=cache), load([photos], SPEC))


def test_an_unfinished_pack_of_a_killed_process_is_not_used(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr("training.data.shutil.rmtree", lambda *_, **__: None)
    monkeypatch.setattr("training.data._pack", write_half)
    with pytest.raises(SystemExit):
        load([photos], SPEC, cache=cache)
    monkeypatch.undo()
    assert len(list(cache.rglob("images.u8"))) == 1
    assert_same(load([photos], SPEC, cache=cache), load([photos], SPEC))


def write_half(photos: Photos, spec: Preprocess, file: BinaryIO) -> NoReturn:
    file.write(b"half of it")
    raise SystemExit


def test_a_faster_process_may_have_filled_the_cache(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find no pack; when the slower one is done, there is one already."""
    cache = tmp_path / "cache"

    def slow(photos_: Photos, spec: Preprocess, file: BinaryIO) -> dict[str, Any]:
        monkeypatch.setattr("training.data._pack", _pack)
        load([photos], SPEC, cache=cache)
        return _pack(photos_, spec, file)

    monkeypatch.setattr("training.data._pack", slow)
    assert_same(load([photos], SPEC, cache=cache), load([photos], SPEC))
    assert len(list(cache.iterdir())) == 1


def test_shards_are_packed_in_their_order_under_imagenets_classes(tmp_path: Path) -> None:
    for name, index in (("b", 5), ("a", 3)):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as archive:
            for suffix, content in (("cls", str(index).encode()), ("jpg", jpeg(40, 32))):
                member = tarfile.TarInfo(f"0.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    data = load([tmp_path / "b.tar", tmp_path / "a.tar"], SPEC, cache=tmp_path / "cache")
    assert data.labels == Labels.imagenet()
    assert data.targets.tolist() == [5, 3]
    np.testing.assert_array_equal(data.images[0], preprocess(jpeg(40, 32), SPEC).crop)
