"""classify_stream over a real socket, against a fake server with scripted answers."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import grpc
import pytest

from alexnet_client import retry
from alexnet_client.client import Client
from alexnet_client.errors import ClassifyError
from alexnet_client.fake import FakeServer, Outcome
from alexnet_client.results import Classification
from tests.service.classifier_fake import parse_answer, telling, until

FULL = ClassifyError("RESOURCE_EXHAUSTED", "the queue is full", "overloaded", 0.01)


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with telling() as fake:
        yield fake


@pytest.fixture
def client(fake: FakeServer) -> Iterator[Client]:
    with Client(fake.address) as client:
        yield client


def test_answers_come_as_soon_as_they_are_ready() -> None:
    late = Event()

    def answer(image: bytes) -> Outcome:
        assert image != b"n01" or late.wait(10)
        return parse_answer(image)

    with FakeServer(answer) as fake, Client(fake.address) as client:
        answers = client.classify_stream([b"n01", b"n02"])
        assert next(answers)[0] == b"n02"
        late.set()
        assert [image for image, _ in answers] == [b"n01"]


def test_an_answer_does_not_wait_for_the_next_photo(client: Client) -> None:
    answered = Event()

    def photos() -> Iterator[bytes]:
        yield b"n01"
        assert answered.wait(10)
        yield b"n02"

    answers = client.classify_stream(photos())
    assert next(answers)[0] == b"n01"
    answered.set()
    assert next(answers)[0] == b"n02"


def test_all_photos_are_answered_within_the_window(fake: FakeServer, client: Client) -> None:
    images = [b"n%02d" % i for i in range(50)]
    fake.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(list, client.classify_stream(images, window=4, top_k=1, priority=2))
        until(lambda: len(fake.requests) == 4)
        fake.gate.set()
        assert sorted(image for image, _ in answers.result()) == images
    assert fake.most_at_once == 4
    for request in fake.requests:
        assert (request.top_k, request.priority) == (1, 2)
        assert 0 < request.timeout_ms <= 10_000
    assert len({request.request_id for request in fake.requests}) == 50


def test_a_photo_that_fails_does_not_end_the_stream(client: Client) -> None:
    images = [b"n01", b"!INVALID_ARGUMENT no photo", b"n02"]
    answers = dict(client.classify_stream(images))
    failed = answers[images[1]]
    assert isinstance(failed, ClassifyError)
    assert str(failed) == "INVALID_ARGUMENT: no photo"
    assert all(isinstance(answers[image], Classification) for image in (b"n01", b"n02"))


def test_a_refused_photo_is_retried(fake: FakeServer, client: Client) -> None:
    fake.failures = [FULL, FULL]
    ((_, answer),) = client.classify_stream([b"n01"])
    assert answer.attempts == 3
    assert len(fake.requests) == 3


def test_photos_time_out_when_the_server_does_not_answer(fake: FakeServer, client: Client) -> None:
    fake.gate.clear()
    answers = [answer for _, answer in client.classify_stream([b"n01", b"n02"], timeout_s=0.1)]
    assert [getattr(answer, "code", answer) for answer in answers] == ["DEADLINE_EXCEEDED"] * 2


def test_photos_without_an_answer_are_sent_to_a_restarted_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retry, "uniform", lambda low, high: high)
    with telling() as first, Client(first.address) as client:
        port = int(first.address.rpartition(":")[2])
        first.gate.clear()
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(list, client.classify_stream([b"n01", b"n02", b"n03"]))
            until(lambda: len(first.requests) == 3)
            first.__exit__()
            with FakeServer(parse_answer, port):
                answers = [answer for _, answer in future.result()]
    assert all(isinstance(answer, Classification) for answer in answers)
    assert all(answer.attempts > 1 for answer in answers)


class Ending(FakeServer):
    """Ends its first stream without an answer, after `photos` photos."""

    def __init__(self, code: str, photos: int) -> None:
        super().__init__(parse_answer)
        self.code = grpc.StatusCode[code]
        self.photos = photos
        self.streams = 0

    def ClassifyStream(self, requests: Any, context: Any) -> Any:  # noqa: N802 - the proto's name
        self.streams += 1
        if self.streams > 1:
            yield from super().ClassifyStream(requests, context)
            return
        for _ in range(self.photos):
            next(requests)
        if self.code is not grpc.StatusCode.OK:
            context.abort(self.code, "as planned")


@pytest.mark.parametrize("code", ["OK", "UNAVAILABLE"])
def test_a_stream_that_ends_early_is_followed_by_another(code: str) -> None:
    with Ending(code, photos=2) as fake, Client(fake.address) as client:
        answers = [answer for _, answer in client.classify_stream([b"n01", b"n02"])]
        assert [answer.attempts for answer in answers] == [2, 2]
        assert fake.streams == 2


def test_a_stream_that_ends_with_an_error_fails_only_its_own_photos() -> None:
    with Ending("INTERNAL", photos=1) as fake, Client(fake.address) as client:
        answers = list(client.classify_stream([b"n01", b"n02"], window=1))
    failed, good = (answer for _, answer in answers)
    assert isinstance(failed, ClassifyError)
    assert (str(failed), failed.attempts) == ("INTERNAL: as planned", 1)
    assert isinstance(good, Classification)


def test_a_stream_may_end_while_photos_are_sent() -> None:
    images = [b"n01".ljust(1 << 20, b"\0")] * 9
    with Ending("UNAVAILABLE", photos=0) as fake, Client(fake.address) as client:
        answers = [answer for _, answer in client.classify_stream(images)]
    assert [type(answer) for answer in answers] == [Classification] * 9


def test_a_photo_above_the_servers_size_limit_fails_alone() -> None:
    images = [b"n01"] * 5 + [bytes(2 << 20)] + [b"n02"] * 5
    with FakeServer(parse_answer, max_image_bytes=1 << 20) as fake, Client(fake.address) as client:
        answers = list(client.classify_stream(images))
    assert sorted(image for image, _ in answers) == sorted(images)
    for image, answer in answers:
        assert isinstance(answer, ClassifyError) == (len(image) > 1 << 20)
        assert answer.attempts == 1


def test_leaving_the_loop_ends_the_call() -> None:
    left = Event()

    class Watched(FakeServer):
        def ClassifyStream(self, requests: Any, context: Any) -> Any:  # noqa: N802
            context.add_callback(left.set)
            return super().ClassifyStream(requests, context)

    with Watched() as fake, Client(fake.address) as client:
        for image, _ in client.classify_stream(iter(lambda: b"endless", None)):
            assert image == b"endless"
            break
        assert left.wait(10)
