"""The response cache is bounded in bytes, and forgets first what was asked for longest ago."""

import gc
import tracemalloc
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from alexnet.preprocess import Photo
from server.scheduler.cache import ENTRY_BYTES, AnswerCache
from server.scheduler.job import Answer
from server.telemetry.counts import Timing
from server.telemetry.metrics import Metrics

CLASSES = 1000
EACH = ENTRY_BYTES + 4 * CLASSES
TIMING = Timing(0, 0, 0, 0, 0, 0, 1)


class Version:
    number = "1"


def asked(version: Any) -> Any:
    return SimpleNamespace(
        version=version, level=1, model="m", received=0.0, start=0.0, timings=[], visit=None
    )


def computing(version: Any, made: list[int]) -> Callable[[], Awaitable[Answer]]:
    """What stands for the stages: a row of a batch of 32."""

    async def compute() -> Answer:
        made.append(1)
        batch = np.full((32, CLASSES), 0.5, np.float32)
        crop = np.zeros((224, 224, 3), np.uint8)
        return Answer(batch[3], TIMING, Photo(crop, "JPEG", 640, 480, "RGB", 1), version)

    return compute


async def test_the_oldest_makes_room_and_what_is_asked_for_stays() -> None:
    cache, version, made = AnswerCache(3 * EACH, Metrics(CollectorRegistry())), Version(), [0][:0]
    compute: Any = computing(version, made)
    for photo in (b"a", b"b", b"c", b"a", b"d", b"a", b"c", b"d"):
        await cache.answer(asked(version), photo, compute)
        assert cache.held <= 3 * EACH
    assert len(made) == 4, "a, b, c and d, of which b alone went away"
    await cache.answer(asked(version), b"b", compute)
    assert len(made) == 5


async def test_an_answer_that_has_no_room_is_answered_all_the_same() -> None:
    cache, version, made = AnswerCache(10, Metrics(CollectorRegistry())), Version(), [0][:0]
    for _ in range(2):
        answer = await cache.answer(asked(version), b"a", computing(version, made))
        assert answer.probabilities.shape == (CLASSES,)
    assert (len(made), cache.held) == (2, 0)


async def test_the_bytes_that_are_counted_are_those_that_are_held() -> None:
    """Of the crop and of the batch nothing is kept."""
    cache, version, made = AnswerCache(10 << 20, Metrics(CollectorRegistry())), Version(), [0][:0]
    compute = computing(version, made)
    for i in range(100):  # what is made once
        await cache.answer(asked(version), b"%d" % i, compute)
    tracemalloc.start()
    before, counted = tracemalloc.get_traced_memory()[0], cache.held
    for i in range(100, 1100):
        await cache.answer(asked(version), b"%d" % i, compute)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0.6 * (cache.held - counted) < held <= cache.held - counted
