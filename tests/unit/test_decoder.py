"""Decoders give room to what is decoded, and a stop does not wait for one that takes too long."""

import asyncio
import threading
import time
from typing import Any

import pytest

from alexnet.header import Header, read_header
from alexnet.preprocess import Photo, decoded_bytes, preprocess
from alexnet.source import Over
from alexnet.spec import Preprocess
from server.errors import ServeError, TooLarge
from server.scheduler import decoder as module
from tests.fakes import faking
from tests.photos import png

LARGE = png(400, 400)
HEADER = read_header(LARGE)
assert HEADER
NEEDED = len(LARGE) + decoded_bytes(HEADER, Preprocess())


class Watched:
    """`preprocess`, which counts how many run at once and may be held up."""

    def __init__(self) -> None:
        self.open, self.started = threading.Event(), threading.Event()
        self.open.set()
        self._lock, self.running, self.most = threading.Lock(), 0, 0

    def __call__(
        self, data: bytes, spec: Preprocess, most: int, header: Header | None, over: Over
    ) -> Photo:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.started.set()
        try:
            self.open.wait(10)
            return preprocess(data, spec, most, header, over)
        finally:
            with self._lock:
                self.running -= 1


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    result = Watched()
    monkeypatch.setattr(module, "preprocess", result)
    return result


@pytest.mark.parametrize(("times", "at_once"), [(2.1, 2), (4.0, 2)])
async def test_photos_wait_for_room_and_all_are_answered(
    watched: Watched, times: float, at_once: int
) -> None:
    async with faking(max_photo_bytes=int(times * NEEDED)) as fake:
        with fake.service.admit("test") as asked:
            answers: list[Any] = await fake.service.classify_many(asked, [LARGE] * 8)
    assert not [answer for answer in answers if isinstance(answer, ServeError)]
    assert watched.most <= at_once


async def test_a_photo_that_needs_the_room_of_the_others_is_refused() -> None:
    async with faking(max_photo_bytes=int(1.1 * NEEDED)) as fake:
        refused = pytest.raises(TooLarge, match="decoding the image would take")
        with refused, fake.service.admit("test") as asked:
            await fake.service.classify(asked, LARGE)
        with fake.service.admit("test") as asked:
            await fake.service.classify(asked, png(100, 100))


async def test_a_stop_leaves_a_decode_behind_that_does_not_end(watched: Watched) -> None:
    watched.open.clear()
    try:
        async with faking() as fake:
            with fake.service.admit("test") as asked:
                task = asyncio.ensure_future(fake.service.classify(asked, LARGE))
                assert await asyncio.to_thread(watched.started.wait, 5)
                task.cancel()
            start = time.monotonic()
        assert time.monotonic() - start < 5  # its drain timeout is 0; it would be 10
    finally:
        watched.open.set()
