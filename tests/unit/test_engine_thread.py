"""Several engines behind one queue, and engines that take a batch while another runs."""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.engines.base import Pending
from server.errors import EngineFailure
from server.scheduler.batcher import FAILURES_UNTIL_BROKEN, Batcher
from tests.batching import AwaitedJob, answered, batching, classes, job, submit
from tests.fakes import FakeEngine


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


def several(*engines: FakeEngine, max_batch_size: int = 4) -> AbstractAsyncContextManager[Any]:
    return batching(max_batch_size, engine=engines[0], others=engines[1:])


def submitted(batcher: Batcher, *values: int) -> list[AwaitedJob]:
    return submit(batcher, [job(value) for value in values])


async def until(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 5)


async def test_two_engines_run_at_the_same_time_and_every_answer_is_its_own() -> None:
    left, right = FakeEngine(), FakeEngine()
    async with several(left, right, max_batch_size=1) as (batcher, _):
        left.gate.clear()
        right.gate.clear()
        jobs = submitted(batcher, 25, 50)
        await until(left.started)
        await until(right.started)  # neither has answered yet
        assert batcher.parallel == 2
        assert sorted(left.batches + right.batches) == [[25], [50]]
        left.gate.set()
        right.gate.set()
        assert classes(await answered(*jobs)) == [1, 2]


async def test_a_free_engine_goes_on_while_another_is_held() -> None:
    held, free = FakeEngine(), FakeEngine()
    async with several(held, free, max_batch_size=1) as (batcher, _):
        held.gate.clear()
        jobs = []
        while not held.batches:  # whichever takes the first; until the held one has one
            jobs += submitted(batcher, 200)
            await asyncio.sleep(0)
        rest = submitted(batcher, *range(0, 250, 25))
        assert classes(await answered(*rest)) == list(range(10))
        held.gate.set()
        await answered(*jobs)


async def test_an_engine_that_keeps_failing_leaves_the_work_to_the_others() -> None:
    broken, sound = FakeEngine(), FakeEngine()
    broken.fail = True
    async with several(broken, sound, max_batch_size=1) as (batcher, _):
        failed = 0
        while failed < FAILURES_UNTIL_BROKEN:
            (result,) = await answered(*submitted(batcher, 25))
            failed += isinstance(result, EngineFailure)
        assert batcher.works, "as long as one engine does"
        results = await answered(*submitted(batcher, *[75] * 50))
        assert classes(results) == [3] * 50
        assert len(broken.batches) == FAILURES_UNTIL_BROKEN


async def test_when_all_engines_fail_none_of_them_pauses() -> None:
    engines = FakeEngine(), FakeEngine()
    for engine in engines:
        engine.fail = True
    async with several(*engines, max_batch_size=1) as (batcher, _):
        for _ in range(8 * FAILURES_UNTIL_BROKEN):
            (result,) = await answered(*submitted(batcher, 25))
            assert isinstance(result, EngineFailure)
        assert sum(len(engine.batches) for engine in engines) == 8 * FAILURES_UNTIL_BROKEN
        for engine in engines:
            engine.fail = False
        assert classes(await answered(*submitted(batcher, 25))) == [1]


async def test_a_full_batch_begins_while_another_runs() -> None:
    engine = DeepEngine()
    async with several(engine, max_batch_size=2) as (batcher, _):
        engine.gate.clear()
        first = submitted(batcher, 0)
        await until(engine.started)
        # The engine's thread waits for the first; what came meanwhile is taken after it.
        others = submitted(batcher, 25, 50, 75, 100)
        engine.gate.set()
        assert classes(await answered(*first, *others)) == [0, 1, 2, 3, 4]
        assert engine.begun == [[0], [25, 50], [75, 100]]
        assert engine.finished == engine.begun


async def test_the_second_full_batch_is_begun_before_the_first_is_waited_for() -> None:
    engine = DeepEngine()
    async with several(engine, max_batch_size=2) as (batcher, _):
        hold = threading.Lock()
        hold.acquire()
        begin = engine.begin

        def slow(crops: Sequence[NDArray[np.uint8]]) -> Pending:
            with hold:  # until four photos wait
                return begin(crops)

        engine.begin = slow  # type: ignore[method-assign]
        engine.gate.clear()
        jobs = submitted(batcher, 25, 50, 75, 100, 125)
        hold.release()
        await until(engine.second)
        assert engine.finished == [], "both are under way"
        await until(engine.started)
        engine.gate.set()
        assert classes(await answered(*jobs)) == [1, 2, 3, 4, 5]


async def test_a_small_batch_is_not_begun_behind_another_since_it_may_still_grow() -> None:
    engine = DeepEngine()
    async with several(engine, max_batch_size=4) as (batcher, _):
        engine.gate.clear()
        first = submitted(batcher, 0)
        await until(engine.started)
        small = submitted(batcher, 25)
        grown = submitted(batcher, 50)
        engine.gate.set()
        assert classes(await answered(*first, *small, *grown)) == [0, 1, 2]
        assert engine.begun == [[0], [25, 50]]


async def test_closing_answers_all_that_was_begun() -> None:
    engine = DeepEngine()
    async with several(engine, max_batch_size=1) as (batcher, _):
        engine.gate.clear()
        first = submitted(batcher, 25)
        await until(engine.started)
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        engine.gate.set()
        assert classes(await answered(*first)) == [1]
        await closing
