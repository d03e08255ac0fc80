"""The batcher's promises, with an engine behind a gate and never a sleep."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from server.batcher import Batcher, Inferred
from server.errors import EngineFailure, Expired
from server.metrics import Metrics
from tests.fakes import SIDE, FakeEngine

LATER = time.monotonic() + 3600


def crop(value: int) -> NDArray[np.uint8]:
    return np.full((SIDE, SIDE, 3), value, np.uint8)


@asynccontextmanager
async def batching(max_batch_size: int = 4) -> AsyncIterator[tuple[Batcher, FakeEngine]]:
    engine = FakeEngine()
    batcher = Batcher(engine.run, max_batch_size, Metrics(CollectorRegistry()))
    try:
        yield batcher, engine
    finally:
        engine.gate.set()
        await batcher.close()


async def hold(batcher: Batcher, engine: FakeEngine) -> "asyncio.Task[Inferred]":
    """A first photo that keeps the engine busy until the gate opens."""
    engine.gate.clear()
    first = asyncio.create_task(batcher.infer(crop(250), LATER))
    await asyncio.to_thread(engine.started.wait, 5)
    return first


async def submit(batcher: Batcher, values: list[int]) -> "list[asyncio.Task[Inferred]]":
    before = len(batcher)
    tasks = [asyncio.create_task(batcher.infer(crop(v), LATER)) for v in values]
    while len(batcher) < before + len(values):
        await asyncio.sleep(0)
    return tasks


async def test_a_lone_photo_goes_at_once_in_a_batch_of_one() -> None:
    async with batching() as (batcher, engine):
        result = await batcher.infer(crop(75), LATER)
        assert engine.batches == [[75]]
        assert result.batch_size == 1
        assert result.logits.argmax() == 3


async def test_what_waited_while_the_engine_ran_is_the_next_batch_oldest_first() -> None:
    async with batching() as (batcher, engine):
        first = await hold(batcher, engine)
        waiting = await submit(batcher, [0, 25, 50])
        engine.gate.set()
        await asyncio.gather(first, *waiting)
        assert engine.batches == [[250], [0, 25, 50]]


async def test_a_batch_never_exceeds_the_maximum() -> None:
    async with batching(max_batch_size=4) as (batcher, engine):
        first = await hold(batcher, engine)
        waiting = await submit(batcher, list(range(11)))
        engine.gate.set()
        await asyncio.gather(first, *waiting)
        assert [len(b) for b in engine.batches] == [1, 4, 4, 3]


async def test_each_caller_gets_the_row_of_its_own_photo() -> None:
    async with batching(max_batch_size=7) as (batcher, _):
        values = [int(v) for v in np.random.default_rng(0).integers(0, 10, 500) * 25]
        results = await asyncio.gather(*(batcher.infer(crop(v), LATER) for v in values))
        assert [int(r.logits.argmax()) * 25 for r in results] == values


async def test_a_cancelled_photo_never_reaches_the_engine() -> None:
    async with batching() as (batcher, engine):
        first = await hold(batcher, engine)
        keep, drop = await submit(batcher, [25, 50])
        drop.cancel()
        await asyncio.gather(drop, return_exceptions=True)
        engine.gate.set()
        await asyncio.gather(first, keep)
        assert engine.batches == [[250], [25]]


async def test_an_expired_photo_never_reaches_the_engine() -> None:
    async with batching() as (batcher, engine):
        first = await hold(batcher, engine)
        late = asyncio.create_task(batcher.infer(crop(50), time.monotonic()))
        (keep,) = await submit(batcher, [25])
        engine.gate.set()
        with pytest.raises(Expired):
            await late
        await asyncio.gather(first, keep)
        assert engine.batches == [[250], [25]]


async def test_an_engine_that_fails_answers_its_batch_and_serves_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with batching() as (batcher, engine):
        engine.fail = True
        results = await asyncio.gather(
            *(batcher.infer(crop(v), LATER) for v in (25, 50)), return_exceptions=True
        )
        assert all(isinstance(r, EngineFailure) for r in results)
        assert "secret" not in str(results[0])
        assert "a secret of the engine" in caplog.text
        assert batcher.failures >= 1
        engine.fail = False
        assert (await batcher.infer(crop(75), LATER)).logits.argmax() == 3
        assert batcher.failures == 0


async def test_an_engine_with_a_row_too_few_is_a_failure_and_no_mix_up() -> None:
    engine = FakeEngine()
    batcher = Batcher(lambda c: engine.run(c)[:-1], 4, Metrics(CollectorRegistry()))
    with pytest.raises(EngineFailure):
        await batcher.infer(crop(25), LATER)
    await batcher.close()


async def test_closing_cancels_who_still_waits() -> None:
    async with batching() as (batcher, engine):
        first = await hold(batcher, engine)
        (waiting,) = await submit(batcher, [25])
        engine.gate.set()
        await batcher.close()
        results = await asyncio.gather(first, waiting, return_exceptions=True)
        assert isinstance(results[1], asyncio.CancelledError)


async def test_logits_that_are_not_finite_fail_one_photo_and_not_its_batch_mates() -> None:
    engine = FakeEngine()

    def run(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = engine.run(crops)
        logits[crops[:, 0, 0, 0] == 50] = np.nan
        return logits

    batcher = Batcher(run, 4, Metrics(CollectorRegistry()))
    good, bad = await asyncio.gather(
        batcher.infer(crop(25), LATER), batcher.infer(crop(50), LATER), return_exceptions=True
    )
    assert isinstance(good, Inferred)
    assert isinstance(bad, EngineFailure)
    await batcher.close()
