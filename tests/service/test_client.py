"""The client for threads over a real socket, against a fake server with scripted answers."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import pytest

from alexnet_client import retry
from alexnet_client.aio import MAX_IMAGE_BYTES
from alexnet_client.client import Client
from alexnet_client.errors import ClassifyError
from alexnet_client.fake import FakeServer
from alexnet_client.photos import Photo
from alexnet_client.results import Classification, Model
from tests.service.classifier_fake import telling, until


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with telling() as fake:
        yield fake


@pytest.fixture
def client(fake: FakeServer) -> Iterator[Client]:
    with Client(fake.address) as client:
        yield client


def test_a_photo_is_answered(fake: FakeServer, client: Client) -> None:
    answer = client.classify(b"n01 n02 n03", top_k=2, request_id="mine", priority=1, version="7")
    assert [p.synset for p in answer.predictions] == ["n01", "n02"]
    assert (answer.top1.label, answer.model.version) == ("tabby cat", "7")
    assert (answer.request_id, answer.attempts) == ("mine", 1)
    (request,) = fake.requests
    assert (request.priority, request.version) == (1, "7")


def test_options_that_are_not_given_are_not_sent(fake: FakeServer, client: Client) -> None:
    client.classify(b"n01")
    (request,) = fake.requests
    assert not any(map(request.HasField, ("top_k", "priority", "timeout_ms")))
    assert (request.request_id, request.version) == ("", "")


def test_messages_may_be_larger_than_4_mb_in_both_directions(client: Client) -> None:
    answer = client.classify(b"n01 " + b"x" * (5 << 20))
    assert len(answer.predictions[1].label) == 5 << 20


def test_a_photo_that_is_too_large_is_not_sent(fake: FakeServer, client: Client) -> None:
    with pytest.raises(ClassifyError, match=r"at most 67,108,864 can be sent") as caught:
        client.classify(bytes(MAX_IMAGE_BYTES + 1))
    assert (caught.value.reason, caught.value.attempts) == ("too_large", 0)
    assert fake.requests == []


def test_a_photo_may_be_exactly_as_large_as_the_limit(client: Client) -> None:
    assert client.classify(b"n01".ljust(MAX_IMAGE_BYTES, b"\0")).top1.synset == "n01"


def test_model_and_readiness(fake: FakeServer, client: Client) -> None:
    fake.model = Model("mine", "3", 10, 9, 0.5, 0.75, "val", "int8", 224, "b", ("3", "2"))
    assert client.model() == fake.model
    assert client.ready()
    fake.set_ready(False)
    assert not client.ready()


@pytest.mark.parametrize("timeout_s", [5e6, float("inf")])
def test_timeouts_may_be_huge_or_infinite(client: Client, timeout_s: float) -> None:
    assert client.classify(b"n01", timeout_s=timeout_s).attempts == 1
    for ask in (client.classify_many, client.classify_stream):
        assert [answer.attempts for _, answer in ask([b"n01"], timeout_s=timeout_s)] == [1]
    assert client.model(timeout_s=timeout_s).name == "fake"
    assert client.ready(timeout_s=timeout_s)


def test_no_server_is_not_ready(unused_tcp_port: int) -> None:
    with Client(f"127.0.0.1:{unused_tcp_port}") as client:
        assert not client.ready()


def test_a_server_that_starts_a_little_later_answers(
    unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "uniform", lambda low, high: high)
    with Client(f"127.0.0.1:{unused_tcp_port}") as client, ThreadPoolExecutor(1) as pool:
        assert not client.ready()
        answer = pool.submit(client.classify, b"n01")
        with FakeServer(port=unused_tcp_port):
            assert answer.result().top1.label == "tabby cat"


def test_many_threads_may_share_a_client(fake: FakeServer, client: Client) -> None:
    answers: SimpleQueue[Classification] = SimpleQueue()
    fake.gate.clear()
    threads = [Thread(target=lambda: answers.put(client.classify(b"n01"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    fake.gate.set()
    for thread in threads:
        thread.join()
    assert answers.qsize() == 8


async def test_the_client_works_while_an_event_loop_runs(client: Client) -> None:
    assert client.classify(b"n01").top1.synset == "n01"
    assert [a.attempts for _, a in client.classify_many([b"n01"])] == [1]


def test_many_photos_keep_their_order_and_their_own_errors(client: Client) -> None:
    images = [b"n01", b"!INVALID_ARGUMENT no photo", b"n02"] * 7
    answers = list(client.classify_many(images, concurrency=4))
    assert [image for image, _ in answers] == images
    for image, answer in answers:
        if isinstance(answer, ClassifyError):
            assert str(answer) == image.decode()[1:].replace(" ", ": ", 1)
        else:
            assert answer.top1.synset == image.decode()


def test_photos_are_read_only_as_they_are_sent(fake: FakeServer, client: Client) -> None:
    read: list[int] = []

    def image(name: int) -> bytes:
        read.append(name)
        return b"n01"

    photos = [Photo(str(i), partial(image, i)) for i in range(50)]
    fake.gate.clear()
    answers = client.classify_many(photos, concurrency=4)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(next, answers)
        until(lambda: len(fake.requests) == 4)
        assert read == [0, 1, 2, 3]
        fake.gate.set()
        assert first.result()[0].name == "0"
    assert len(list(answers)) == 49
    assert fake.most_at_once == 4


@pytest.mark.parametrize("streamed", [False, True], ids=["many", "stream"])
def test_the_source_waits_while_no_answers_are_taken(client: Client, streamed: bool) -> None:
    taken = count()
    source = (b"%d" % next(taken) for _ in count())
    if streamed:
        answers = client.classify_stream(source, window=2)
    else:
        answers = client.classify_many(source, concurrency=2)
    next(answers)
    for _ in range(20):  # time in which an unbounded reader would get far
        client.classify(b"n01")
    assert next(taken) <= 1 + 2 * 2 + 1, "answered, in flight or waiting, and the next"


def test_a_photo_that_cannot_be_read_fails_alone(client: Client, tmp_path: Path) -> None:
    missing = Photo("missing", (tmp_path / "missing.jpg").read_bytes)
    (_, failed), (_, good) = client.classify_many([missing, Photo("n01", lambda: b"n01")])
    assert isinstance(failed, ClassifyError)
    assert (failed.code, failed.attempts) == ("UNREADABLE", 0)
    assert isinstance(good, Classification)


def test_an_exception_of_the_source_follows_the_answers_so_far(client: Client) -> None:
    def photos() -> Iterator[bytes]:
        yield b"n01"
        yield b"n02"
        raise LookupError("the camera is gone")

    for ask in (client.classify_many, client.classify_stream):
        answers = ask(photos())
        assert {next(answers)[0], next(answers)[0]} == {b"n01", b"n02"}
        with pytest.raises(LookupError, match="camera"):
            next(answers)


@pytest.mark.parametrize("wrong", [None, "photo.jpg", bytearray(b"n02")])
def test_a_source_of_anything_but_photos_raises_type_error(client: Client, wrong: Any) -> None:
    photos: list[Any] = [b"n01", wrong, b"n02"]
    for ask in (client.classify_many, client.classify_stream):
        for source in (photos, iter(photos)):
            answers = ask(source)
            assert next(answers)[0] == b"n01"
            with pytest.raises(TypeError, match=f"bytes or a Photo, not {type(wrong).__name__}"):
                next(answers)


def test_leaving_the_loop_does_not_wait_for_a_blocking_source(client: Client) -> None:
    source: SimpleQueue[bytes] = SimpleQueue()
    source.put(b"n01")
    for image, _ in client.classify_many(iter(source.get, b"")):
        assert image == b"n01"
        break
    assert client.classify(b"n02").top1.synset == "n02"


def test_a_concurrency_of_zero_is_refused(client: Client) -> None:
    with pytest.raises(ValueError, match="at least one photo has to be in flight, not 0"):
        next(client.classify_many([b"n01"], concurrency=0))
