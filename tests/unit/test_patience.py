"""How long an idle engine waits for more photos than there are, on a clock that the test turns."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from server.scheduler.batcher import Batcher, BatchPolicy
from server.scheduler.costs import CostModel
from server.scheduler.job import Job
from tests.batching import AwaitedJob, answered, batching, crop, job, request, settle, submit
from tests.fakes import FakeEngine, flat_costs

HOUR = 3600.0


class Upstream(list[Job]):
    """Decoders that have work for ever; it counts how often the engine looks."""

    looks = 0

    def __len__(self) -> int:
        self.looks += 1
        return 1


class Room:
    """An engine with a queue, while decoders have work for ever. A batch costs a second however
    large it is, up to the four that are worth while, and a small photo takes ten to decode."""

    def __init__(self, **policy: Any):
        self.now, self.upstream = 5000.0, Upstream()
        self.engine = FakeEngine()
        self.batcher = Batcher(
            [self.engine],
            BatchPolicy(8, **policy),
            CostModel({1: 1000.0, 4: 1000.0, 8: 2000.0}, {"JPEG": (10_000.0, 0.0)}),
            settle,
            self.upstream,
            clock=lambda: self.now,
        )

    def add(self, value: int, in_s: float = HOUR, level: int = 1) -> AwaitedJob:
        asked = request(self.now, in_s, level)
        photo = AwaitedJob(asked, asked.deadline, level, crop=crop(value), queued=self.now)
        photo.loop.call_soon(self._never_expires, photo)
        self.batcher.submit(photo)
        return photo

    @staticmethod
    def _never_expires(photo: AwaitedJob) -> None:
        """Its deadline is of the test's clock, and the event loop has another."""
        assert photo._timer is not None
        photo._timer.cancel()

    async def waits(self) -> bool:
        """The engine looked at its queue again and again, and took nothing."""
        seen, batches = self.upstream.looks, len(self.engine.batches)
        async with asyncio.timeout(5):
            while self.upstream.looks < seen + 3 and len(self.engine.batches) == batches:
                await asyncio.sleep(0.001)
        return len(self.engine.batches) == batches


@asynccontextmanager
async def room_of(**policy: Any) -> AsyncIterator[Room]:
    room = Room(**policy)
    try:
        yield room
    finally:
        room.engine.gate.set()
        await asyncio.to_thread(room.batcher.close)


async def got(*jobs: AwaitedJob) -> list[Any]:
    async with asyncio.timeout(5):
        return await answered(*jobs)


async def test_it_waits_for_a_batch_that_is_worth_while_and_no_larger() -> None:
    async with room_of() as room:
        some = [room.add(value) for value in (25, 50, 75)]
        assert await room.waits()
        await got(*some, room.add(100))
        assert room.engine.batches == [[25, 50, 75, 100]]


async def test_it_waits_no_longer_than_as_many_small_photos_take_to_decode() -> None:
    """The next one may be huge: the deadline of an hour is no reason to wait for an hour."""
    async with room_of() as room:
        room.now += HOUR  # long idle: what counts is since when a job waits
        lone = room.add(25)
        room.now += 39
        assert await room.waits()
        room.add(50)  # a later one does not start the time again
        assert await room.waits()
        room.now += 2
        await got(lone)
        assert room.engine.batches == [[25, 50]]


async def test_a_job_that_waited_while_the_engine_ran_waits_for_others_too() -> None:
    async with room_of() as room:
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


async def test_waiting_for_others_never_costs_a_deadline() -> None:
    async with room_of() as room:
        lone = room.add(25, in_s=20)
        room.now += 18
        assert await room.waits()
        room.now += 1
        await got(lone)


async def test_the_near_deadline_of_a_low_level_counts_though_a_higher_one_is_next() -> None:
    async with room_of(priority_levels=2) as room:
        high, low = room.add(25), room.add(50, in_s=20, level=2)
        room.now += 19
        await got(high, low)
        assert room.engine.batches == [[25, 50]]


async def test_it_counts_for_a_delay_too() -> None:
    costs = flat_costs(infer_ms=10_000)
    async with batching(3, costs, max_queue_delay_s=HOUR, priority_levels=2) as (batcher, engine):
        await got(*submit(batcher, [job(25), job(50, in_s=12.55, level=2)]))
        assert engine.batches == [[25, 50]]
