"""Which files of a source are photos, and of which class."""

import zipfile
from pathlib import Path

import pytest

from tests.photos import png
from training.listing import listing

PNG = png(8, 8)


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PNG)
    return root


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def classes(source: Path) -> dict[str, str]:
    """File name -> class."""
    return {photo.name.replace("!", "/").split("/")[-1]: photo.group
            for photo in listing(source).photos}  # fmt: skip


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("cat/1.png", "dog/2.png"), {"1.png": "cat", "2.png": "dog"}),
        (("cat/2023/1.png", "cat/2024/may/2.png", "dog/3.png"),
         {"1.png": "cat", "2.png": "cat", "3.png": "dog"}),
        (("photos/cat/1.png", "photos/dog/2.png"), {"1.png": "cat", "2.png": "dog"}),
        (("photos/cat/1.png",), {"1.png": "cat"}),
        (("cat_1.png", "dog_2.png"), {"cat_1.png": "cat", "dog_2.png": "dog"}),
        (("cat_1.png", "dog/2.png"), {"cat_1.png": "cat", "2.png": "dog"}),
    ],
    ids=["classes", "nested", "wrapped", "one class", "flat", "flat and folder"],
)  # fmt: skip
def test_the_class_is_the_top_folder_below_the_one_that_holds_them_all(
    tmp_path: Path, names: tuple[str, ...], expected: dict[str, str], kind: str
) -> None:
    folder = put(tmp_path / "photos", *names)
    assert classes(folder if kind == "folder" else zipped(folder)) == expected


def test_photos_can_be_read_under_their_names_in_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "odd.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("./photos//cat/1.png", PNG)
        archive.writestr("photos/dog/2.png", b"other")
    assert {photo.group: photo.read() for photo in listing(path).photos} == {
        "cat": PNG, "dog": b"other",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_what_is_no_photo_is_counted_by_its_suffix(tmp_path: Path, kind: str) -> None:
    folder = put(
        tmp_path / "photos", "cat/1.png", "cat/1.CR2", "cat/2.cr2", "cat/raw.svg", "README",
        "cat/.DS_Store", "cat/._1.png", "__MACOSX/cat/._1.png",
    )  # fmt: skip
    found = listing(folder if kind == "folder" else zipped(folder))
    assert found.others == {".cr2": 2, ".svg": 1, "no suffix": 1}
    assert [photo.group for photo in found.photos] == ["cat"]
    assert found.empty == []


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_class_folders_without_a_photo_are_named(tmp_path: Path, kind: str) -> None:
    folder = put(tmp_path / "photos", "cat/1.png", "dog/2.png", "bird/notes.txt")
    (folder / "fish" / "2023").mkdir(parents=True)
    (folder / ".cache").mkdir()
    found = listing(folder if kind == "folder" else zipped(folder))
    assert [name.replace("!", "/").split("/")[-1] for name in found.empty] == ["bird", "fish"]


def test_links_to_folders_and_files_are_followed_and_those_to_nowhere_named(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", "a/1.png", "2.png")
    folder = put(tmp_path / "photos", "dog/3.png")
    (folder / "cat").symlink_to(tmp_path / "elsewhere" / "a")
    (folder / "dog" / "2.png").symlink_to(tmp_path / "elsewhere" / "2.png")
    (folder / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "bird").symlink_to(tmp_path / "nowhere")
    assert classes(folder) == {"1.png": "cat", "2.png": "dog", "3.png": "dog"}
    assert sorted(listing(folder).broken) == [
        str(folder / "bird"), str(folder / "dog" / "gone.png"),
    ]  # fmt: skip


def test_a_link_to_a_folder_above_is_no_endless_loop(tmp_path: Path) -> None:
    folder = put(tmp_path / "photos", "cat/1.png", "dog/2.png")
    (folder / "cat" / "again").symlink_to(folder)
    assert classes(folder) == {"1.png": "cat", "2.png": "dog"}


def test_a_source_that_is_missing_or_no_container_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"there is no {tmp_path}/absent"):
        listing(tmp_path / "absent")
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(ValueError, match="neither a directory nor a zip file nor a tar shard"):
        listing(tmp_path / "text.zip")
