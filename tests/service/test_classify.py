"""`alexnet-classify` and its client, against a real server that answers as it is told."""

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread, Timer

import grpc
import pytest

from clients.client import ClassifyError, Client
from clients.photos import Photo
from tests.service.classifier_fake import FakeClassifier, command, on_terminal, run, serving

CLASSIFY = "clients.classify"


@pytest.fixture
def fake() -> Iterator[FakeClassifier]:
    with serving() as fake:
        yield fake


@pytest.fixture
def closed_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    path = tmp_path / "cat.jpg"
    path.write_bytes(b"n01 n02 n03")
    return path


# The client


def test_a_photo_is_answered(fake: FakeClassifier) -> None:
    with Client(fake.address) as client:
        response = client.classify(b"n01 n02 n03", top_k=2, request_id="mine")
    assert [p.synset for p in response.predictions] == ["n01", "n02"]
    assert response.request_id == "mine"


def test_messages_may_be_larger_than_4_mb_in_both_directions(fake: FakeClassifier) -> None:
    with Client(fake.address) as client:
        response = client.classify(b"n01 " + b"x" * (5 << 20))
    assert len(response.predictions[1].label) == 5 << 20


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_a_full_or_absent_server_is_asked_again(fake: FakeClassifier, code: str) -> None:
    fake.fail_next = [grpc.StatusCode[code]] * 2
    with Client(fake.address) as client:
        client.classify(b"n01\0" + b"." * (10 << 20))  # above what gRPC retries unless told
    assert len(fake.requests) == 3


def test_no_other_failure_is_retried(fake: FakeClassifier) -> None:
    with Client(fake.address) as client, pytest.raises(ClassifyError) as caught:
        client.classify(b"!INTERNAL internal error")
    assert (caught.value.code, caught.value.message) == ("INTERNAL", "internal error")
    assert len(fake.requests) == 1


def test_retries_come_to_an_end(fake: FakeClassifier) -> None:
    with Client(fake.address) as client, pytest.raises(ClassifyError, match="queue is full"):
        client.classify(b"!RESOURCE_EXHAUSTED the queue is full")
    assert len(fake.requests) == 5


def test_retries_stay_within_the_deadline(fake: FakeClassifier) -> None:
    start = time.monotonic()
    with Client(fake.address) as client, pytest.raises(ClassifyError, match="DEADLINE_EXCEEDED"):
        client.classify(b"!RESOURCE_EXHAUSTED the queue is full", timeout_s=0.2)
    assert time.monotonic() - start < 1


def test_a_server_that_starts_a_little_later_answers(closed_port: int) -> None:
    with Client(f"127.0.0.1:{closed_port}") as client:
        answers: list[object] = []
        asking = Thread(target=lambda: answers.append(client.classify(b"n01")))
        asking.start()
        time.sleep(0.2)
        with serving(closed_port):
            asking.join()
    assert len(answers) == 1


def test_many_photos_keep_their_order_and_their_own_errors(fake: FakeClassifier) -> None:
    images = [b"n01", b"!INVALID_ARGUMENT no photo", b"n02"] * 7
    photos = [Photo(str(i), lambda image=image: image) for i, image in enumerate(images)]  # type: ignore[misc]
    with Client(fake.address) as client:
        answers = list(client.classify_many(photos, concurrency=4))
    assert [photo.name for photo, _ in answers] == [str(i) for i in range(21)]
    for image, (_, answer) in zip(images, answers, strict=True):
        if isinstance(answer, ClassifyError):
            assert str(answer) == image.decode()[1:].replace(" ", ": ", 1)
        else:
            assert answer.predictions[0].synset == image.decode()


def test_photos_are_read_only_as_they_are_sent(fake: FakeClassifier) -> None:
    read: list[str] = []
    read_at_the_gate: list[int] = []

    def photo(name: str) -> Photo:
        def image() -> bytes:
            read.append(name)
            return b"n01"

        return Photo(name, image)

    def open_gate() -> None:
        read_at_the_gate.append(len(read))
        fake.gate.set()

    fake.gate.clear()
    Timer(0.5, open_gate).start()
    with Client(fake.address) as client:
        answers = client.classify_many([photo(str(i)) for i in range(50)], concurrency=4)
        assert next(answers)[0].name == "0"
        assert 1 <= read_at_the_gate[0] <= 4
        assert len(read) <= 8
        assert len(list(answers)) == 49
    assert fake.most_at_once <= 4


# The command


def test_the_table(fake: FakeClassifier, cat: Path) -> None:
    done = run(CLASSIFY, cat, cat, "--server", fake.address, "--top-k", 2)
    block = (
        f"{cat}\n"
        "   50.0%  ██████████            tabby cat                 n01\n"
        "   25.0%  █████                 Egyptian cat              n02\n"
    )
    assert (done.stdout, done.stderr, done.returncode) == (f"{block}\n{block}", "", 0)


def test_the_table_in_plain_ascii(fake: FakeClassifier, cat: Path) -> None:
    done = run(CLASSIFY, cat, "--server", fake.address, PYTHONIOENCODING="ascii")
    assert "##########  " in done.stdout
    assert done.returncode == 0


def test_json_lines(fake: FakeClassifier, cat: Path, tmp_path: Path) -> None:
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
            "model": {"name": "fake", "version": "7"},
            "image": {
                "format": "JPEG",
                "width": 640,
                "height": 480,
                "mode": "RGB",
                "orientation": 1,
            },
            "timing_ms": {"decode": 1.0, "queue": 2.0, "infer": 3.0, "total": 11.0},
            "request_id": "made-up",
        },
        {
            "file": str(missing),
            "error": {"code": "UNREADABLE", "message": "No such file or directory"},
        },
    ]


def test_one_bad_photo_does_not_stop_the_others(
    fake: FakeClassifier, cat: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"!INVALID_ARGUMENT the image is empty (0 bytes)")
    done = run(CLASSIFY, bad, cat, "--server", fake.address)
    assert done.stderr == f"{bad}: INVALID_ARGUMENT: the image is empty (0 bytes)\n"
    assert "tabby cat" in done.stdout
    assert done.returncode == 1


def test_a_photo_from_stdin(fake: FakeClassifier) -> None:
    done = run(CLASSIFY, "-", "--server", fake.address, stdin=b"n03")
    assert done.stdout.splitlines()[0] == "-"
    assert "lynx" in done.stdout


def test_a_slow_answer_is_given_up(fake: FakeClassifier, cat: Path) -> None:
    fake.gate.clear()
    done = run(CLASSIFY, cat, "--server", fake.address, "--timeout-s", 0.2)
    assert "DEADLINE_EXCEEDED" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("name", ["127.0.0.1", "nowhere.invalid"])
@pytest.mark.parametrize("module", [CLASSIFY, "clients.score"])
def test_no_server_is_one_sentence(module: str, name: str, closed_port: int, cat: Path) -> None:
    address = f"{name}:{closed_port}"
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


def test_a_folder_without_photos_is_said(tmp_path: Path) -> None:
    done = run(CLASSIFY, tmp_path)
    assert f"no photos in {tmp_path}" in done.stderr
    assert done.returncode == 2


@pytest.mark.parametrize("module", [CLASSIFY, "clients.score"])
def test_help_has_examples_within_100_columns(module: str) -> None:
    done = run(module, "--help", COLUMNS="100")
    assert "examples:\n  alexnet-" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_ctrl_c_ends_quietly(fake: FakeClassifier, cat: Path) -> None:
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


def test_a_closed_pipe_ends_quietly(fake: FakeClassifier, cat: Path) -> None:
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


def test_colour_only_where_it_is_wanted(fake: FakeClassifier, cat: Path) -> None:
    assert f"\x1b[1m{cat}\x1b[0m" in on_terminal(CLASSIFY, cat, "--server", fake.address)
    assert "\x1b" not in on_terminal(CLASSIFY, cat, "--server", fake.address, NO_COLOR="1")


def test_a_bar_for_many_photos(fake: FakeClassifier, cat: Path) -> None:
    many = on_terminal(CLASSIFY, *[cat] * 30, "--server", fake.address, NO_COLOR="1")
    assert re.search(r"\d/30 ", many)
    assert many.count("tabby cat") == 30
    assert "/20 " not in on_terminal(CLASSIFY, *[cat] * 20, "--server", fake.address, NO_COLOR="1")
