"""`alexnet-classify` against a real server that answers as it is told."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

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
def cat(tmp_path: Path) -> Path:
    path = tmp_path / "cat.jpg"
    path.write_bytes(b"n01 n02 n03")
    return path


def test_the_table(fake: FakeServer, cat: Path) -> None:
    done = run(CLASSIFY, cat, cat, "--server", fake.address, "--top-k", 2)
    block = (
        f"{cat}\n"
        "   50.0%  ██████████            tabby cat                 n01\n"
        "   25.0%  █████                 Egyptian cat              n02\n"
    )
    assert (done.stdout, done.stderr, done.returncode) == (f"{block}\n{block}", "", 0)


def test_the_table_in_plain_ascii(fake: FakeServer, cat: Path) -> None:
    done = run(CLASSIFY, cat, "--server", fake.address, PYTHONIOENCODING="ascii")
    assert "##########  " in done.stdout
    assert done.returncode == 0


def test_json_lines(fake: FakeServer, cat: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing.jpg"
    done = run(CLASSIFY, "--json", "--top-k", 1, "--server", fake.address, cat, missing)
    assert done.returncode == 1
    assert done.stderr == ""
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {
            "file": str(cat),
            "predictions": [
                {"index": 0, "synset": "n01", "label": "tabby cat", "probability": 0.5}
            ],
            "model": {"name": "fake", "version": "7", "build": ""},
            "image": {
                "format": "JPEG",
                "width": 640,
                "height": 480,
                "mode": "RGB",
                "orientation": 1,
                "icc": "",
                "frames": 1,
                "warnings": [],
            },
            "timing_ms": {
                "decode": 1.0,
                "queue": 2.0,
                "infer": 3.0,
                "total": 11.0,
                "upload": 0.0,
                "decode_queue": 0.0,
                "batch_queue": 0.0,
            },
            "request_id": "made-up",
        },
        {
            "file": str(missing),
            "error": {"code": "UNREADABLE", "message": "No such file or directory"},
        },
    ]


def test_one_bad_photo_does_not_stop_the_others(
    fake: FakeServer, cat: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"!INVALID_ARGUMENT the image is empty (0 bytes)")
    done = run(CLASSIFY, bad, cat, "--server", fake.address)
    assert done.stderr == f"{bad}: INVALID_ARGUMENT: the image is empty (0 bytes)\n"
    assert "tabby cat" in done.stdout
    assert done.returncode == 1


def test_a_photo_from_stdin(fake: FakeServer) -> None:
    done = run(CLASSIFY, "-", "--server", fake.address, stdin=b"n03")
    assert done.stdout.splitlines()[0] == "-"
    assert "lynx" in done.stdout


def test_a_pipe_is_read_as_stdin_is(fake: FakeServer) -> None:
    done = run(CLASSIFY, "/dev/stdin", "--server", fake.address, stdin=b"n03")
    assert "lynx" in done.stdout


@pytest.mark.parametrize(
    ("redirection", "complaint"),
    [
        (">/dev/full", "No space left on device"),
        (">&-", "standard output is closed"),
        ("<&-", "standard input is closed"),
    ],
)
def test_what_can_be_neither_read_nor_written_is_one_sentence(
    fake: FakeServer, cat: Path, redirection: str, complaint: str
) -> None:
    asked = command(CLASSIFY, cat, "-", "--server", fake.address)
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *asked],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert len(done.stderr.splitlines()) == 1
    assert complaint in done.stderr
    assert (done.stdout, done.returncode) == ("", 1)


def test_stderr_may_be_closed(fake: FakeServer, cat: Path) -> None:
    asked = command(CLASSIFY, *[cat] * 30, "--server", fake.address)
    done = subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", *asked], stdout=subprocess.PIPE)
    assert (done.stdout.count(b"tabby cat"), done.returncode) == (30, 0)


def test_a_slow_answer_is_given_up(fake: FakeServer, cat: Path) -> None:
    fake.gate.clear()
    done = run(CLASSIFY, cat, "--server", fake.address, "--timeout-s", 0.2)
    assert "DEADLINE_EXCEEDED" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("name", ["127.0.0.1", "nowhere.invalid"])
@pytest.mark.parametrize("module", [CLASSIFY, "alexnet_client.score"])
def test_no_server_is_one_sentence(module: str, name: str, unused_tcp_port: int, cat: Path) -> None:
    address = f"{name}:{unused_tcp_port}"
    source = cat if module == CLASSIFY else cat.parent
    done = run(module, *[source] * 3, "--server", address)
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert f"no server answers at {address} (" in done.stderr
    assert "make serve" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "required: PHOTO"),
        (["a.jpg", "--top-k", "0"], "'0' is not a whole number"),
        (["a.jpg", "--server", "localhost"], "'localhost' is not host:port"),
        (["a.jpg", "--timeout-s", "soon"], "'soon' is not a number of seconds"),
        (["a.jpg", "--concurrency", "-3"], "'-3' is not a whole number"),
        (["nowhere.zip"], "nowhere.zip does not exist"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], complaint: str) -> None:
    done = run(CLASSIFY, *arguments)
    assert complaint in done.stderr
    assert (done.stdout, done.returncode) == ("", 2)


@pytest.mark.parametrize("words", [["--ca", "ca.pem"], ["--certificate", "a.pem", "--key", "b"]])
@pytest.mark.parametrize(
    "module", [CLASSIFY, "alexnet_client.score", "alexnet_client.load.command"]
)
def test_certificates_without_tls_are_wrong_usage(
    module: str, words: list[str], cat: Path, tmp_path: Path
) -> None:
    more = [["--output", tmp_path / "answers.jsonl"]] if module == CLASSIFY else []
    for rest in ([], *more):
        done = run(module, cat.parent, "--server", "host:1", *words, *rest)
        last = done.stderr.splitlines()[-1]
        assert last.endswith("error: certificates are for TLS: name the server https://host:1")
        assert "Traceback" not in done.stderr
        assert (done.stdout, done.returncode) == ("", 2)


def test_a_folder_without_photos_is_said(tmp_path: Path) -> None:
    done = run(CLASSIFY, tmp_path)
    assert f"no photos in {tmp_path}" in done.stderr
    assert done.returncode == 2


@pytest.mark.parametrize("module", [CLASSIFY, "alexnet_client.score"])
def test_help_has_examples_within_100_columns(module: str) -> None:
    done = run(module, "--help", COLUMNS="100")
    assert "examples:\n  alexnet-" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_ctrl_c_ends_quietly(fake: FakeServer, cat: Path) -> None:
    fake.gate.clear()
    process = subprocess.Popen(
        command(CLASSIFY, *[cat] * 40, "--server", fake.address),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert fake.waiting.wait(20)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10) == (b"", b"")
    assert process.returncode == 130


def test_ctrl_c_ends_a_wait_for_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        command(CLASSIFY, pipe), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process, pipe.open("wb") as photo:
        photo.write(bytes(1 << 17))  # more than a pipe holds: it is being read, to its end when
        until(lambda: Path(f"/proc/{process.pid}/stat").read_text().split()[2] == "S")  # it sleeps
        process.send_signal(signal.SIGINT)
        try:
            assert process.communicate(timeout=10) == (b"", b"")
        finally:
            process.kill()
    assert process.returncode == 130


def test_gRPC_adds_nothing_when_a_server_goes_away(fake: FakeServer, cat: Path) -> None:  # noqa: N802
    fake.gate.clear()
    with subprocess.Popen(
        command(CLASSIFY, cat, "--server", fake.address, "--timeout-s", 1),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert fake.waiting.wait(20)
        fake.__exit__()
        _, complaint = process.communicate(timeout=20)
    assert complaint
    assert not re.search(r"^I\d{4} ", complaint, re.MULTILINE)


def test_a_closed_pipe_ends_quietly(fake: FakeServer, cat: Path) -> None:
    # More than a pipe holds, so that it is still writing when its reader leaves.
    with subprocess.Popen(
        command(CLASSIFY, *[cat] * 600, "--server", fake.address),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_colour_only_where_it_is_wanted(fake: FakeServer, cat: Path) -> None:
    assert f"\x1b[1m{cat}\x1b[0m" in on_terminal(CLASSIFY, cat, "--server", fake.address)
    assert "\x1b" not in on_terminal(CLASSIFY, cat, "--server", fake.address, NO_COLOR="1")


def test_a_bar_for_many_photos(fake: FakeServer, cat: Path) -> None:
    many = on_terminal(CLASSIFY, *[cat] * 30, "--server", fake.address, NO_COLOR="1")
    assert re.search(r"\d/30 ", many)
    assert many.count("tabby cat") == 30
    assert "/20 " not in on_terminal(CLASSIFY, *[cat] * 20, "--server", fake.address, NO_COLOR="1")
