"""`alexnet-score` against a fake server that answers what the photo says."""

import json
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from alexnet_client.client import Client
from alexnet_client.errors import ClassifyError
from alexnet_client.fake import FakeServer
from alexnet_client.photos import photos_in
from tests.service.classifier_fake import on_terminal, run, telling

pytestmark = pytest.mark.process

SCORE = "alexnet_client.score"

# The right class comes first, second and not at all for n01, and first for n02.
ANSWERS = {
    "n01/a.jpg": "n01 n02",
    "n01/b.jpg": "n02 n01",
    "n01/c.jpg": "n03 n04 n05 n06 n07 n01",
    "n02/d.jpg": "n02",
}


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with telling() as fake:
        yield fake


def folder(path: Path, answers: dict[str, str]) -> Path:
    for name, answer in answers.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(answer)
    return path


def zipped(path: Path, answers: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, answer in answers.items():
            archive.writestr(f"val/{name}", answer)
    return path


def test_a_folder_and_its_zip_hold_the_same_photos(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    names = ["n01/a.JPEG", "n01/deep/b.png", "n02_cat.webp", "notes.txt", "__MACOSX/n01/._a.JPEG"]
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
            archive.writestr(name, name)
    for source in (folder, tmp_path / "photos.zip"):
        photos = photos_in(source)
        assert [(p.group, p.read().decode()) for p in photos] == [
            ("n01", "n01/a.JPEG"),
            ("n01", "n01/deep/b.png"),
            ("n02", "n02_cat.webp"),
        ]


def test_links_to_class_folders_are_followed_but_not_to_a_folder_above(tmp_path: Path) -> None:
    elsewhere = folder(tmp_path / "elsewhere", ANSWERS)
    val = folder(tmp_path / "val", {"n03/e.jpg": "n03"})
    for name in ("n01", "n02"):
        (val / name).symlink_to(elsewhere / name)
    (val / "n03" / "again").symlink_to(val)
    (val / "n03" / "itself").symlink_to("itself")
    assert [(Path(p.name).relative_to(val).as_posix(), p.group) for p in photos_in(val)] == [
        *((name, name[:3]) for name in ANSWERS), ("n03/e.jpg", "n03"),
    ]  # fmt: skip


# A header stands before each member; `LISTED` begins each entry in the list of members at the end.
LOCAL_HEADER_BYTES, LISTED = 30, b"PK\x01\x02"
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def unreadable(fake: FakeServer, path: Path) -> str:
    """Why the first of two photos cannot be read; the second one can."""
    with Client(fake.address) as client:
        (_, damaged), (_, good) = client.classify_many(photos_in(path))
    assert isinstance(damaged, ClassifyError)
    assert damaged.code == "UNREADABLE"
    assert not isinstance(good, ClassifyError)
    return damaged.message


@pytest.mark.parametrize("method", METHODS)
def test_a_damaged_member_of_a_zip_is_unreadable(
    tmp_path: Path, fake: FakeServer, method: int
) -> None:
    path = tmp_path / "damaged.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.jpg", bytes(range(256)) * 9)
        size = archive.getinfo("a.jpg").compress_size
        archive.writestr("b.jpg", "n03")
    data = bytearray(path.read_bytes())
    start = len("a.jpg") + LOCAL_HEADER_BYTES + size // 2
    data[start : start + 9] = b"?" * 9
    path.write_bytes(data)
    assert unreadable(fake, path)


def test_a_member_that_claims_to_be_larger_than_its_zip_is_unreadable(
    tmp_path: Path, fake: FakeServer
) -> None:
    path = zipped(tmp_path / "short.zip", {"a.jpg": "n01", "b.jpg": "n03"})
    data = bytearray(path.read_bytes())
    sizes = data.index(LISTED) + 20
    data[sizes : sizes + 8] = b"\0\0\1\0" * 2
    path.write_bytes(data)
    # Python 3.13 finds the overlap in the list of members.
    overlap = "Overlapped entries: 'val/a.jpg' (possible zip bomb)"
    assert unreadable(fake, path) in ("the zip is damaged", overlap)


def test_the_error_says_that_a_zip_without_its_list_of_members_is_damaged(tmp_path: Path) -> None:
    path = zipped(tmp_path / "damaged.zip", ANSWERS)
    path.write_bytes(path.read_bytes().replace(LISTED, b"PKPK"))
    done = run(SCORE, path)
    assert f"error: {path} is damaged: Bad magic number" in done.stderr
    assert (done.stdout, done.returncode) == ("", 2)


def scores(*arguments: object) -> list[dict[str, object]]:
    done = run(SCORE, "--json", *arguments)
    assert done.stderr == ""
    assert done.returncode == 0
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_folder_zip_and_flat_folder_score_the_same(fake: FakeServer, tmp_path: Path) -> None:
    flat = {name.replace("/", "_"): answer for name, answer in ANSWERS.items()}
    sources = [
        folder(tmp_path / "tree", ANSWERS),
        zipped(tmp_path / "val.zip", ANSWERS),
        folder(tmp_path / "flat", flat),
    ]
    rows = scores(*sources, "--server", fake.address)
    assert [row["source"] for row in rows] == [*map(str, sources), "total"]
    assert [row["photos"] for row in rows] == [4, 4, 4, 12]
    for row in rows:
        assert (row["top1"], row["top5"]) == (0.5, 0.75)
        assert (row["failed"], row["left_out"], row["model"]) == (0, 0, "fake 7")
        assert row["total_ms"] == {"median": 7.0, "p99": 23.0}  # lengths of the answers
        assert isinstance(row["photos_per_s"], float)


def test_the_report_is_a_table(fake: FakeServer, tmp_path: Path) -> None:
    source = zipped(tmp_path / "val.zip", ANSWERS)
    done = run(SCORE, source, "--server", fake.address)
    header, row, empty, model = done.stdout.splitlines()
    assert header.split("  ")[0] == "source"
    assert row.split()[:4] == [str(source), "4", "50.0%", "75.0%"]
    assert row.split()[5:] == ["7.0", "23.0", "0"]
    assert len(header) == len(row)
    assert (empty, model) == ("", f"model fake 7 at {fake.address}")
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize(("classes", "top5"), [(5, "-"), (6, "75.0%")])
def test_five_guesses_among_five_classes_are_not_scored(
    fake: FakeServer, tmp_path: Path, classes: int, top5: str
) -> None:
    fake.model = replace(fake.model, classes=classes)
    sources = folder(tmp_path / "photos", ANSWERS), zipped(tmp_path / "val.zip", ANSWERS)
    table = run(SCORE, *sources, "--server", fake.address).stdout.splitlines()
    assert [row.split()[2:4] for row in table[1:4]] == [["50.0%", top5]] * 3
    rows = scores(*sources, "--server", fake.address)
    assert [row["top5"] for row in rows] == [None if classes == 5 else 0.75] * 3


def test_a_model_of_fewer_than_five_classes_is_asked_for_all_of_them(
    fake: FakeServer, tmp_path: Path
) -> None:
    fake.model = replace(fake.model, classes=3)
    (row,) = scores(folder(tmp_path / "photos", ANSWERS), "--server", fake.address)
    assert (row["photos"], row["top1"], row["top5"]) == (4, 0.5, None)
    assert not any(request.HasField("top_k") for request in fake.requests)  # 5 is refused


def test_only_classes_of_another_source_are_scored(fake: FakeServer, tmp_path: Path) -> None:
    source = folder(tmp_path / "photos", ANSWERS)
    val = zipped(tmp_path / "val.zip", {"n01/x.jpg": ""})
    listed = tmp_path / "classes.txt"
    listed.write_text("n01 tabby cat\n\nn09 something else\n")
    for classes in (val, listed):
        (row,) = scores(source, "--classes", classes, "--server", fake.address)
        assert (row["photos"], row["left_out"]) == (3, 1)
    done = run(SCORE, source, "--classes", val, "--server", fake.address)
    assert f"left out: 1 of 4 photos, of classes that are not in {val}" in done.stdout


def test_failed_photos_are_counted_apart(fake: FakeServer, tmp_path: Path) -> None:
    bad = {f"n01/bad{i:02}.jpg": "!INVALID_ARGUMENT no photo" for i in range(12)}
    source = folder(tmp_path / "photos", ANSWERS | bad)
    done = run(SCORE, source, "--json", "--server", fake.address)
    row = json.loads(done.stdout)
    assert (row["photos"], row["failed"], row["top1"]) == (4, 12, 0.5)
    assert done.stderr.count("INVALID_ARGUMENT: no photo") == 10
    assert "more photos failed" in done.stderr
    assert done.returncode == 1


def test_nothing_to_score_is_a_failure(fake: FakeServer, tmp_path: Path) -> None:
    source = folder(tmp_path / "photos", {"n02_a.jpg": "n02"})
    other = folder(tmp_path / "other", {"n01_a.jpg": "n01"})
    done = run(SCORE, source, "--classes", other, "--server", fake.address)
    assert done.stdout.splitlines()[1].split()[1:] == ["0", *"-----", "0"]
    assert done.returncode == 1


def test_the_report_says_that_the_photos_have_no_class(fake: FakeServer, tmp_path: Path) -> None:
    source = folder(tmp_path / "n01", {"ILSVRC_a.jpg": "n01", "ILSVRC_b.jpg": "n02"})
    done = run(SCORE, source, "--server", fake.address)
    assert done.stdout.splitlines()[1].split()[1:4] == ["2", "0.0%", "0.0%"]
    assert "not one right: is each photo in a folder that has its synset" in done.stdout
    assert done.returncode == 0


def test_a_terminal_shows_a_progress_bar(fake: FakeServer, tmp_path: Path) -> None:
    source = zipped(tmp_path / "val.zip", ANSWERS)
    assert "/4 [" in on_terminal(SCORE, source, "--server", fake.address)


def test_no_more_photos_are_under_way_than_concurrency_says(
    fake: FakeServer, tmp_path: Path
) -> None:
    source = zipped(tmp_path / "val.zip", {f"n01/{i}.jpg": "n01" for i in range(60)})
    (row,) = scores(source, "--concurrency", 3, "--server", fake.address)
    assert row["photos"] == 60
    assert fake.most_at_once <= 3


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "required: DIR_OR_ZIP"),
        (["nowhere"], "nowhere does not exist"),
        ([__file__], "is neither a folder nor a zip"),
        ([Path(__file__).parent], "no photos in"),
        ([Path(__file__).parent, "--classes", "nowhere"], "nowhere"),
        ([__file__, "--classes", sys.executable], f"{sys.executable} is neither a folder"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[object], complaint: str) -> None:
    done = run(SCORE, *arguments)
    assert complaint in done.stderr
    assert (done.stdout, done.returncode) == ("", 2)
