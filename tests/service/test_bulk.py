"""`alexnet-classify --output` against a real server that answers as it is told."""

import json
import signal
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alexnet_client.fake import FakeServer
from tests.service.classifier_fake import command, on_terminal, run, telling, until

pytestmark = pytest.mark.process

CLASSIFY = "alexnet_client.classify"


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with telling() as fake:
        yield fake


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for i, text in enumerate(("n01 n02", "n02", "n03 n01")):
        (folder / "deep" / f"{i}.jpg").write_text(text)
    return folder


def shard(path: Path, count: int = 4) -> Path:
    with tarfile.open(path, "w") as tar:
        for i in range(count):
            for name, data in ((f"{i}.jpg", b"n01 n02"), (f"{i}.cls", b"3")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, BytesIO(data))
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    return [
        row for part in sorted(path.glob("*.parquet")) for row in pq.read_table(part).to_pylist()
    ]


def test_a_bar_counts_on_from_what_was_answered_before(
    fake: FakeServer, folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "answers.jsonl"
    first, *_ = sorted((folder / "deep").iterdir())
    assert "1 photos [" in on_terminal(
        CLASSIFY, first, "--output", output, "--server", fake.address
    )
    assert "3 photos [" in on_terminal(
        CLASSIFY, folder, "--output", output, "--server", fake.address
    )


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_every_kind_of_source_is_answered_once(
    fake: FakeServer, folder: Path, tmp_path: Path, suffix: str
) -> None:
    packed = tmp_path / "more.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a/1.jpg", "n03")
    table = tmp_path / "table.parquet"
    column = [{"bytes": b"n02 n01", "path": "cat.png"}, {"bytes": b"n03", "path": None}]
    pq.write_table(pa.table({"image": column, "label": [1, 2]}), table)
    output = tmp_path / f"answers{suffix}"
    arguments = (folder, packed, shard(tmp_path / "shard-0.tar"), table, "--output", output)
    done = run(CLASSIFY, *arguments, "--server", fake.address)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{output}: 10 new answers\n"
    rows = rows_of(output)
    assert [row["file"] for row in rows] == [
        *(str(folder / "deep" / f"{i}.jpg") for i in range(3)),
        f"{packed}!a/1.jpg",
        *(f"{tmp_path}/shard-0.tar!{i}.jpg" for i in range(4)),
        f"{table}!cat.png",
        f"{table}!1",
    ]
    assert rows[8]["synsets"] == ["n02", "n01"]
    assert rows[8]["labels"] == ["Egyptian cat", "tabby cat"]
    assert rows[8]["probabilities"] == pytest.approx([0.5, 0.25])
    assert rows[8]["error"] is None
    again = run(CLASSIFY, *arguments, "--server", fake.address)
    assert again.stdout == f"{output}: 0 new answers beside 10\n"
    assert rows_of(output) == rows


def test_a_photo_that_is_refused_is_written_down_and_one_that_failed_is_tried_again(
    fake: FakeServer, folder: Path, tmp_path: Path
) -> None:
    (folder / "deep" / "0.jpg").write_text("!INVALID_ARGUMENT:invalid_image no picture")
    (folder / "deep" / "1.jpg").write_text("!INTERNAL internal error")
    output = tmp_path / "answers.jsonl"
    done = run(CLASSIFY, folder, "--output", output, "--server", fake.address)
    assert done.returncode == 1
    assert "1.jpg: " in done.stderr
    assert done.stdout == (
        f"{output}: 2 new answers; 1 of them say that the photo cannot be read; "
        "1 photos failed: the same command tries them again\n"
    )
    assert [row["error"] for row in rows_of(output)] == ["INVALID_ARGUMENT: no picture", None]
    (folder / "deep" / "1.jpg").write_text("n02")
    done = run(CLASSIFY, folder, "--output", output, "--server", fake.address)
    assert (done.returncode, done.stdout) == (0, f"{output}: 1 new answers beside 2\n")


def test_a_file_that_cannot_be_read_is_tried_again_and_a_damaged_one_of_a_zip_is_not(
    fake: FakeServer, tmp_path: Path
) -> None:
    packed, late = tmp_path / "packed.zip", tmp_path / "late.jpg"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("1.jpg", "n03")
    packed.write_bytes(packed.read_bytes().replace(b"n03", b"n04", 1))
    output = tmp_path / "answers.jsonl"
    arguments = (late, packed, "--output", output, "--server", fake.address)
    done = run(CLASSIFY, *arguments)
    assert done.returncode == 1
    assert done.stderr == f"{late}: UNREADABLE: No such file or directory\n"
    assert [row["file"] for row in rows_of(output)] == [f"{packed}!1.jpg"]
    late.write_text("n02")
    done = run(CLASSIFY, *arguments)
    assert (done.returncode, done.stdout) == (0, f"{output}: 1 new answers beside 1\n")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_wrong_option_ends_the_run_and_no_photo_is_written_down_as_failed(
    fake: FakeServer, folder: Path, tmp_path: Path, suffix: str
) -> None:
    wrong = "top_k must lie between 1 and 1000, not 2000"
    for i in (1, 2):
        (folder / "deep" / f"{i}.jpg").write_text(f"!INVALID_ARGUMENT:invalid_argument {wrong}")
    output = tmp_path / f"answers{suffix}"
    done = run(CLASSIFY, folder, "--output", output, "--server", fake.address)
    assert done.returncode == 2
    assert done.stderr.endswith(f"error: {fake.address} refuses the command: {wrong}\n")
    assert [row["error"] for row in rows_of(output)] == [None]
    for i in (1, 2):
        (folder / "deep" / f"{i}.jpg").write_text("n02")
    done = run(CLASSIFY, folder, "--output", output, "--server", fake.address)
    assert (done.returncode, done.stdout) == (0, f"{output}: 2 new answers beside 1\n")


@pytest.mark.parametrize("reason", ["invalid_image", "unsupported_format", "too_large"])
def test_a_photo_is_refused_for_good_for_what_it_is(
    fake: FakeServer, folder: Path, tmp_path: Path, reason: str
) -> None:
    (folder / "deep" / "0.jpg").write_text(f"!INVALID_ARGUMENT:{reason} no")
    output = tmp_path / "answers.jsonl"
    done = run(CLASSIFY, folder, "--output", output, "--server", fake.address)
    assert done.returncode == 0
    assert [row["error"] for row in rows_of(output)] == ["INVALID_ARGUMENT: no", None, None]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_an_interrupted_run_goes_on_where_it_ended(
    fake: FakeServer, tmp_path: Path, suffix: str
) -> None:
    source, output = shard(tmp_path / "many.tar", 3000), tmp_path / f"answers{suffix}"
    arguments = (source, "--output", output, "--server", fake.address)
    running = subprocess.Popen(
        command(CLASSIFY, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    until(lambda: len(fake.requests) > 50)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=20)
    assert running.returncode == 130
    first = len(rows_of(output))
    assert 0 < first < 3000
    done = run(CLASSIFY, *arguments)
    assert done.stdout == f"{output}: {3000 - first:,} new answers beside {first:,}\n"
    assert len({row["file"] for row in rows_of(output)}) == 3000


def test_a_line_that_was_cut_off_is_asked_for_again(
    fake: FakeServer, folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "answers.jsonl"
    run(CLASSIFY, folder, "--output", output, "--server", fake.address)
    whole = output.read_bytes()
    output.write_bytes(whole[:-10])
    run(CLASSIFY, folder, "--output", output, "--server", fake.address)
    assert output.read_bytes() == whole


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("answers.csv", None, "answers are written to a .jsonl or a .parquet"),
        ("answers.jsonl", "{}\n", "holds something else than answers"),
    ],
)
def test_what_is_no_file_of_answers_is_refused(
    folder: Path, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content:
        (tmp_path / name).write_text(content)
    done = run(CLASSIFY, folder, "--output", tmp_path / name)
    assert done.returncode == 2
    assert message in done.stderr


def test_sources_that_are_none_are_refused_in_one_sentence(
    fake: FakeServer, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "text.parquet")
    (tmp_path / "bad.tar").write_bytes(b"no tar")
    for name, message in (
        ("text.parquet", "has no column of photos (image, bytes, jpg, photo), but text"),
        ("bad.tar", "bad.tar is damaged"),
    ):
        output = tmp_path / "answers.jsonl"
        done = run(CLASSIFY, tmp_path / name, "--output", output, "--server", fake.address)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_without_a_server_it_says_where_the_answers_are(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    done = run(CLASSIFY, folder, "--output", output, "--server", "127.0.0.1:9", "--timeout-s", 1)
    assert done.returncode == 1
    assert f"what was answered is in {output}" in done.stderr
