import io
import logging
import os
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.photos import class_folders, jpeg, png
from training.photos import Photos, photo_files

JPEG, PNG = jpeg(32, 32), png(32, 32)


def tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def list_files(*sources: Path) -> list[tuple[str, str]]:
    """(class, file name) of each photo, in order."""
    return [(f.group, re.split("[!/]", f.name)[-1]) for f in photo_files(list(sources))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    class_folders(tmp_path / "photos", ("sky", "leaf"), each=2, side=8)
    return tmp_path / "photos"


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """Three samples, each with its photo before its class, as some writers do."""
    members = {f"{i}.{suffix}": data for i in range(3) for suffix, data in (
        ("jpg", os.urandom(20_000)), ("cls", str(i).encode()),
    )}  # fmt: skip
    return tar(tmp_path / "shard.tar", members)


def test_photos_of_a_directory_are_sorted_by_class_and_name(folder: Path) -> None:
    (folder / "leaf" / "notes.txt").write_text("not a photo")
    (folder / "leaf" / "LOUD.JPEG").write_bytes(JPEG)
    assert list_files(folder) == [
        ("leaf", "LOUD.JPEG"), ("leaf", "leaf_0.png"), ("leaf", "leaf_1.png"),
        ("sky", "sky_0.png"), ("sky", "sky_1.png"),
    ]  # fmt: skip
    photos = Photos([folder])
    assert photos.count == 5
    assert next(iter(photos)).read() == JPEG


def test_a_zip_has_the_photos_of_the_directory_it_was_made_of(folder: Path) -> None:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*.png"):
            archive.write(file, file.relative_to(folder.parent))
    assert list_files(path) == list_files(folder)
    pairs = zip(photo_files([path]), photo_files([folder]), strict=True)
    assert all(ours.read() == theirs.read() for ours, theirs in pairs)


def test_in_a_flat_folder_the_class_precedes_the_underscore(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "flat.zip", "w") as archive:
        archive.writestr("n02085620_Chihuahua.jpg", JPEG)
        archive.writestr("n01440764_tench_2.JPEG", JPEG)
    with zipfile.ZipFile(tmp_path / "flat.zip") as archive:
        archive.extractall(tmp_path / "flat")
    expected = [("n01440764", "n01440764_tench_2.JPEG"), ("n02085620", "n02085620_Chihuahua.jpg")]
    assert list_files(tmp_path / "flat.zip") == list_files(tmp_path / "flat") == expected


def test_a_source_without_photos_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"no photos in {tmp_path}"):
        Photos([tmp_path])


def test_a_source_that_is_no_directory_zip_or_shard_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(ValueError, match=r"text\.zip is neither a directory nor a zip file nor a"):
        Photos([tmp_path / "text.zip"])
    with pytest.raises(ValueError, match=r"there is no .*absent"):
        Photos([tmp_path / "absent"])


def test_a_missing_shard_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no .*absent\.tar"):
        Photos([tmp_path / "absent.tar"])


@pytest.mark.parametrize(
    ("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("A.TGZ", "w:gz")]
)
def test_a_shard_has_a_photo_and_its_class_for_each_sample(
    tmp_path: Path, name: str, mode: str
) -> None:
    """The class is ImageNet's index, a synset, or any text; photos are unchanged."""
    members = {
        "b.cls": b"999\n", "b.jpg": JPEG, "b.json": b"{}", "a.JPEG": JPEG, "a.cls": b"n02085620",
        "deep/c.png": PNG, "deep/c.cls": b" my cat ", "d.cls": b"1000", "d.webp": b"not looked at",
        "alone.cls": b"3",
    }  # fmt: skip
    shard = tar(tmp_path / name, members, mode)
    assert list_files(shard) == [
        ("n15075141", "b.jpg"), ("n02085620", "a.jpeg"), ("my cat", "c.png"), ("1000", "d.webp"),
    ]  # fmt: skip
    photos = Photos([shard])
    assert photos.count is None
    assert [photo.read() for photo in photos] == [JPEG, JPEG, PNG, b"not looked at"]
    assert len(list(photos)) == 4


def test_a_shard_without_class_files_has_classes_as_a_directory_has(tmp_path: Path) -> None:
    members = {"./leaf/1.jpg": JPEG, "train/sky/1.png": PNG, "n01440764_2.jpg": JPEG}
    expected = [("leaf", "1.jpg"), ("sky", "1.png"), ("n01440764", "n01440764_2.jpg")]
    assert list_files(tar(tmp_path / "a.tar", members)) == expected


def test_sorted_directories_come_before_shards_in_the_given_order(
    folder: Path, tmp_path: Path
) -> None:
    class_folders(tmp_path / "more", ("leaf", "violet"), each=1, side=8)
    shards = [tar(tmp_path / f"{name}.tar", {f"{name}/{name}.jpg": JPEG}) for name in "zab"]
    groups = [
        group for group, _ in list_files(shards[0], folder, shards[1], tmp_path / "more", shards[2])
    ]
    assert groups == ["leaf", "leaf", "leaf", "sky", "sky", "violet", "z", "a", "b"]


@pytest.mark.parametrize(
    "name",
    ["pipe:touch run.tar", "{a,b}.tar", "a::b.tar", "http:x.tar", "a?b#c.tar", "%41.tar", "-.tar"],
)
def test_the_name_of_a_shard_is_never_expanded_or_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    tar(tmp_path / name, {"leaf/1.jpg": JPEG})
    assert list_files(Path(name)) == list_files(tmp_path / name) == [("leaf", "1.jpg")]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_truncated_shard_gives_the_photos_before_and_a_warning(
    shard: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = shard.read_bytes()
    shard.write_bytes(whole[: whole.index(b"2.jpg") + 5000])
    assert list_files(shard) == [("n01440764", "0.jpg"), ("n01443537", "1.jpg")]
    assert f"skipped the rest of {shard}: " in caplog.text


@pytest.mark.parametrize("at", ["header", "data"])
def test_a_photo_whose_class_is_cut_off_is_left_out(shard: Path, at: str) -> None:
    whole = shard.read_bytes()
    shard.write_bytes(whole[: whole.index(b"2.cls") + {"header": 100, "data": 512}[at]])
    assert list_files(shard) == [("n01440764", "0.jpg"), ("n01443537", "1.jpg")]


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 100], ids=["empty", "text"])
def test_a_shard_that_cannot_be_read_has_no_photos(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    (tmp_path / "bad.tar").write_bytes(data)
    good = tar(tmp_path / "good.tar", {"leaf/1.jpg": JPEG})
    assert list_files(tmp_path / "bad.tar", good) == [("leaf", "1.jpg")]
    assert [r.levelno for r in caplog.records] == [logging.WARNING]


def test_the_fingerprint_is_the_same_as_long_as_nothing_changes(folder: Path, shard: Path) -> None:
    before = Photos([folder, shard]).fingerprint
    assert list(Photos([folder, shard]))
    assert Photos([folder, shard]).fingerprint == before


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: os.utime(folder / "leaf" / "leaf_0.png", ns=(1, 1)),
        lambda folder: (folder / "leaf" / "new.png").write_bytes(PNG),
        lambda folder: (folder / "leaf" / "leaf_0.png").write_bytes(PNG),
        lambda folder: (folder / "leaf" / "leaf_0.png").unlink(),
        lambda folder: (folder / "leaf").rename(folder / "bark"),
        lambda folder: (folder / "leaf" / "leaf_0.png").rename(folder / "sky" / "leaf_0.png"),
        lambda folder: os.utime(folder.parent / "shard.tar", ns=(1, 1)),
    ],
    ids=["touched", "added", "rewritten", "removed", "renamed", "moved", "shard"],
)
def test_the_fingerprint_changes_with_the_photos(
    folder: Path, shard: Path, change: Callable[[Path], object]
) -> None:
    before = Photos([folder, shard]).fingerprint
    change(folder)
    assert Photos([folder, shard]).fingerprint != before


def test_a_link_that_moves_to_another_class_changes_the_fingerprint(
    folder: Path, tmp_path: Path
) -> None:
    links = tmp_path / "links"
    for name in ("bark", "moon"):
        (links / name).mkdir(parents=True)
    (links / "bark" / "a.png").symlink_to(folder / "leaf" / "leaf_0.png")
    before = Photos([links]).fingerprint
    (links / "bark" / "a.png").rename(links / "moon" / "a.png")
    assert list_files(links) == [("moon", "a.png")]
    assert Photos([links]).fingerprint != before
