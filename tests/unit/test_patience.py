"""How long an idle engine waits for more photos than there are, on a clock that the test turns."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from server.scheduler import batcher as module
from server.scheduler.batcher import Batcher, BatchPolicy
from server.scheduler.costs import CostModel
from server.scheduler.job import Job
from server.telemetry.metrics import Metrics
from tests.batching import answered, batching, crop, job, submit
from tests.fakes import FakeEngine, flat_costs

HOUR = 3600.0


class Room:
    """An engine with a queue, while decoders have work for ever. A batch costs a second however
    large it is, up to the four that are worth while, and a small photo takes ten to decode."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **policy: Any):
        self.now, self.looks = 5000.0, 0
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.engine = FakeEngine()
        self.batcher = Batcher(
            [self.engine],
            BatchPolicy(8, **policy),
            CostModel({1: 1000.0, 4: 1000.0, 8: 2000.0}, {"JPEG": (10_000.0, 0.0)}),
            Metrics(CollectorRegistry()),
            coming=self.coming,
        )

    def coming(self) -> bool:
        self.looks += 1
        return True

    def add(self, value: int, in_s: float = HOUR, level: int = 1) -> Job:
        photo = Job(self.now, self.now + in_s, level, crop=crop(value), arrived=self.now)
        self.batcher.submit(photo)
        return photo

    async def waits(self) -> bool:
        """The engine looked at its queue again and again, and took nothing."""
        seen, batches = self.looks, len(self.engine.batches)
        async with asyncio.timeout(5):
            while self.looks < seen + 3 and len(self.engine.batches) == batches:
                await asyncio.sleep(0.001)
        return len(self.engine.batches) == batches


@asynccontextmanager
async def room_of(monkeypatch: pytest.MonkeyPatch, **policy: Any) -> AsyncIterator[Room]:
    room = Room(monkeypatch, **policy)
    try:
        yield room
    finally:
        room.engine.gate.set()
        await asyncio.to_thread(room.batcher.close)


async def got(*jobs: Job) -> list[Any]:
    async with asyncio.timeout(5):
        return await answered(*jobs)


async def test_it_waits_for_a_batch_that_is_worth_while_and_no_larger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with room_of(monkeypatch) as room:
        some = [room.add(value) for value in (25, 50, 75)]
        assert await room.waits()
        await got(*some, room.add(100))
        assert room.engine.batches == [[25, 50, 75, 100]]


async def test_it_waits_no_longer_than_as_many_small_photos_take_to_decode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who is coming may be huge: the deadline of an hour is no reason to wait for an hour."""
    async with room_of(monkeypatch) as room:
        room.now += HOUR  # long idle: it is since somebody waits that counts
        lone = room.add(25)
        room.now += 39
        assert await room.waits()
        room.add(50)  # who comes later does not start the time again
        assert await room.waits()
        room.now += 2
        await got(lone)
        assert room.engine.batches == [[25, 50]]


async def test_who_waited_while_the_engine_ran_has_company_to_wait_for_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with room_of(monkeypatch) as room:
        room.engine.gate.clear()
        first = [room.add(0) for _ in range(4)]
        assert await asyncio.to_thread(room.engine.started.wait, 5)
        second = room.add(25)
        room.now += HOUR / 2
        room.engine.gate.set()
        await got(*first)
        assert await room.waits()
        room.now += 41
        await got(second)


async def test_company_never_costs_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    async with room_of(monkeypatch) as room:
        lone = room.add(25, in_s=20)
        room.now += 18
        assert await room.waits()
        room.now += 1
        await got(lone)


async def test_the_near_deadline_of_a_low_level_counts_though_a_higher_one_is_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with room_of(monkeypatch, priority_levels=2) as room:
        high, low = room.add(25), room.add(50, in_s=20, level=2)
        room.now += 19
        await got(high, low)
        assert room.engine.batches == [[25, 50]]


async def test_it_counts_for_a_delay_too() -> None:
    costs = flat_costs(infer_ms=10_000)
    async with batching(3, costs, max_queue_delay_s=HOUR, priority_levels=2) as (batcher, engine):
        await got(*submit(batcher, [job(25), job(50, in_s=12.55, level=2)]))
        assert engine.batches == [[25, 50]]
