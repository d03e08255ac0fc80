"""Several engines behind one queue, and engines that take a batch while another runs."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from server.engines.base import Pending
from server.errors import EngineFailure
from server.scheduler import engine_thread as lane
from server.scheduler.batcher import Batcher, BatchPolicy
from server.scheduler.job import Job
from server.telemetry.metrics import Metrics
from tests.batching import answered, job
from tests.fakes import FakeEngine, flat_costs


class DeepEngine(FakeEngine):
    """Takes two batches at once; `begun` has their first crops, and `finished` too, in order."""

    depth = 2

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[list[int]] = []
        self.finished: list[list[int]] = []
        self.second = threading.Event()

    def begin(self, crops: Sequence[NDArray[np.uint8]]) -> Pending:
        values = [int(crop[0, 0, 0]) for crop in crops]
        self.begun.append(values)
        if len(self.begun) == 2:
            self.second.set()
        pending = super().begin(crops)

        def finish() -> NDArray[np.float32]:
            logits = pending()
            self.finished.append(values)
            return logits

        return finish


@asynccontextmanager
async def batching(*engines: FakeEngine, max_batch_size: int = 4) -> AsyncIterator[Batcher]:
    metrics = Metrics(CollectorRegistry())
    batcher = Batcher(engines, BatchPolicy(max_batch_size), flat_costs(), metrics)
    try:
        yield batcher
    finally:
        for engine in engines:
            engine.gate.set()
        await asyncio.to_thread(batcher.close)


def submit(batcher: Batcher, *values: int) -> list[Job]:
    jobs = [job(value) for value in values]
    for each in jobs:
        batcher.submit(each)
    return jobs


def classes(results: list[Any]) -> list[int]:
    return [int(result.probabilities.argmax()) for result in results]


async def until(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 5)


async def test_two_engines_run_at_the_same_time_and_every_answer_is_its_own() -> None:
    left, right = FakeEngine(), FakeEngine()
    async with batching(left, right, max_batch_size=1) as batcher:
        left.gate.clear()
        right.gate.clear()
        jobs = submit(batcher, 25, 50)
        await until(left.started)
        await until(right.started)  # neither has answered yet
        assert batcher.parallel == 2
        assert sorted(left.batches + right.batches) == [[25], [50]]
        left.gate.set()
        right.gate.set()
        assert classes(await answered(*jobs)) == [1, 2]


async def test_a_free_engine_goes_on_while_another_is_held() -> None:
    held, free = FakeEngine(), FakeEngine()
    async with batching(held, free, max_batch_size=1) as batcher:
        held.gate.clear()
        jobs = []
        while not held.batches:  # whichever takes the first; until the held one has one
            jobs += submit(batcher, 200)
            await asyncio.sleep(0)
        rest = submit(batcher, *range(0, 250, 25))
        assert classes(await answered(*rest)) == list(range(10))
        held.gate.set()
        await answered(*jobs)


async def test_an_engine_that_keeps_failing_leaves_the_work_to_the_others() -> None:
    broken, sound = FakeEngine(), FakeEngine()
    broken.fail = True
    async with batching(broken, sound, max_batch_size=1) as batcher:
        failed = 0
        while failed < lane.FAILURES_UNTIL_REST:
            (result,) = await answered(*submit(batcher, 25))
            failed += isinstance(result, EngineFailure)
        assert batcher.failures == 0, "as long as one works, the server is ready"
        results = await answered(*submit(batcher, *[75] * 50))
        assert classes(results) == [3] * 50
        assert len(broken.batches) == lane.FAILURES_UNTIL_REST


async def test_when_all_engines_fail_nobody_rests_and_it_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engines = FakeEngine(), FakeEngine()
    for engine in engines:
        engine.fail = True
    async with batching(*engines, max_batch_size=1) as batcher:
        for _ in range(8 * lane.FAILURES_UNTIL_REST):
            (result,) = await answered(*submit(batcher, 25))
            assert isinstance(result, EngineFailure)
        assert sum(len(engine.batches) for engine in engines) == 8 * lane.FAILURES_UNTIL_REST
        for engine in engines:
            engine.fail = False
        assert classes(await answered(*submit(batcher, 25))) == [1]


async def test_a_full_batch_begins_while_another_runs() -> None:
    engine = DeepEngine()
    async with batching(engine, max_batch_size=2) as batcher:
        engine.gate.clear()
        first = submit(batcher, 0)
        await until(engine.started)
        # The engine's thread waits for the first; what came meanwhile is taken after it.
        others = submit(batcher, 25, 50, 75, 100)
        engine.gate.set()
        assert classes(await answered(*first, *others)) == [0, 1, 2, 3, 4]
        assert engine.begun == [[0], [25, 50], [75, 100]]
        assert engine.finished == engine.begun


async def test_the_second_full_batch_is_begun_before_the_first_is_waited_for() -> None:
    engine = DeepEngine()
    async with batching(engine, max_batch_size=2) as batcher:
        hold = threading.Lock()
        hold.acquire()
        begin = engine.begin

        def slow(crops: Sequence[NDArray[np.uint8]]) -> Pending:
            with hold:  # until four photos wait
                return begin(crops)

        engine.begin = slow  # type: ignore[method-assign]
        engine.gate.clear()
        jobs = submit(batcher, 25, 50, 75, 100, 125)
        hold.release()
        await until(engine.second)
        assert engine.finished == [], "both are under way"
        await until(engine.started)
        engine.gate.set()
        assert classes(await answered(*jobs)) == [1, 2, 3, 4, 5]


async def test_a_small_batch_is_not_begun_behind_another_since_it_may_still_grow() -> None:
    engine = DeepEngine()
    async with batching(engine, max_batch_size=4) as batcher:
        engine.gate.clear()
        first = submit(batcher, 0)
        await until(engine.started)
        small = submit(batcher, 25)
        grown = submit(batcher, 50)
        engine.gate.set()
        assert classes(await answered(*first, *small, *grown)) == [0, 1, 2]
        assert engine.begun == [[0], [25, 50]]


async def test_closing_answers_all_that_was_begun() -> None:
    engine = DeepEngine()
    async with batching(engine, max_batch_size=1) as batcher:
        engine.gate.clear()
        first = submit(batcher, 25)
        await until(engine.started)
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        engine.gate.set()
        assert classes(await answered(*first)) == [1]
        await closing
