import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from alexnet.labels import Label, Labels
from alexnet.preprocess import preprocess
from alexnet.spec import Preprocess
from tests.photos import class_folders, jpeg, png
from training.data import class_list, load, load_unlabelled
from training.photos import photo_files

SPEC = Preprocess(32, 32)
CLASSES = ("cherry", "leaf", "sky")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    class_folders(tmp_path / "photos", CLASSES, each=3, side=32)
    return tmp_path / "photos"


def zipped(folder: Path) -> Path:
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


def test_a_zip_and_the_directory_it_was_made_of_are_the_same_dataset(photos: Path) -> None:
    directory, archive = load([photos], SPEC), load([zipped(photos)], SPEC)
    np.testing.assert_array_equal(archive.images, directory.images)
    np.testing.assert_array_equal(archive.targets, directory.targets)
    assert archive.labels == directory.labels


def test_several_sources_are_one_dataset(photos: Path, tmp_path: Path) -> None:
    class_folders(tmp_path / "more", ("leaf", "violet"), each=2, side=32)
    data = load([photos, zipped(tmp_path / "more")], SPEC)
    assert [label.synset for label in data.labels.rows] == [*CLASSES, "violet"]
    assert np.bincount(data.targets).tolist() == [3, 5, 3, 2]


def test_a_flat_folder_tells_the_class_in_the_name_before_the_underscore(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "flat.zip", "w") as archive:
        archive.writestr("n02085620_Chihuahua.jpg", jpeg(32, 32))
        archive.writestr("n01440764_tench_2.JPEG", jpeg(32, 32))
    assert [f.group for f in photo_files([tmp_path / "flat.zip"])] == ["n01440764", "n02085620"]
    with zipfile.ZipFile(tmp_path / "flat.zip") as archive:
        archive.extractall(tmp_path / "flat")
    assert load([tmp_path / "flat"], SPEC).targets.tolist() == [0, 151]


def test_synset_folders_are_imagenets_classes(tmp_path: Path) -> None:
    class_folders(tmp_path, ("n15075141", "n01440764"), each=1, side=32)
    data = load([tmp_path], SPEC)
    assert data.labels == Labels.imagenet()
    assert data.known == data.targets.tolist() == [0, 999]


def test_one_folder_of_ones_own_makes_all_classes_ones_own() -> None:
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


def test_files_that_are_no_photos_are_not_looked_at(photos: Path) -> None:
    (photos / "leaf" / "notes.txt").write_text("not a photo")
    (photos / "leaf" / "LOUD.PNG").write_bytes(png(32, 32))
    assert len(load([photos], SPEC)) == 10


def test_a_corrupt_photo_is_skipped_and_named(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corrupt = photos / "leaf" / "leaf_1.png"
    corrupt.write_bytes(corrupt.read_bytes()[:100])
    data = load([photos], SPEC)
    assert data.targets.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert data.images.shape[0] == 8
    first, last = warnings(caplog)
    assert first.startswith(f"skipped {corrupt}: ")
    assert last == "1 of 9 photos could not be read"


def test_a_photo_damaged_inside_a_zip_is_skipped_and_named(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = zipped(photos)
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("photos/leaf/leaf_1.png").header_offset
    data = bytearray(path.read_bytes())
    data[start + 300] ^= 0xFF
    path.write_bytes(data)
    assert load([path], SPEC).targets.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert next(warnings(caplog)).startswith(f"skipped {path}!photos/leaf/leaf_1.png: ")


def test_photos_none_of_which_can_be_read_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "leaf").mkdir()
    (tmp_path / "leaf" / "a.jpg").write_bytes(b"no photo")
    with pytest.raises(ValueError, match="could be read"):
        load([tmp_path], SPEC)
    with pytest.raises(ValueError, match="could be read"):
        load_unlabelled([tmp_path], SPEC, 5)


def test_a_source_without_photos_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"no photos in {tmp_path}"):
        load([tmp_path], SPEC)


@pytest.mark.parametrize("name", ["absent", "text.zip"])
def test_a_source_that_is_neither_directory_nor_zip_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(ValueError, match=f"{name} is neither a directory nor a zip file nor a tar shard"):
        load([tmp_path / name], SPEC)


def test_unlabelled_photos_are_spread_over_the_folders(photos: Path) -> None:
    everything = load([photos], SPEC).images
    np.testing.assert_array_equal(load_unlabelled([photos], SPEC, 3), everything[[0, 4, 8]])
    np.testing.assert_array_equal(load_unlabelled([photos], SPEC, 100), everything)
