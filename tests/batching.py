"""A batcher around an engine that the test controls, and jobs for it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from server.scheduler.batcher import Batcher, BatchPolicy
from server.scheduler.costs import CostModel
from server.scheduler.job import Job
from server.telemetry.metrics import Metrics
from tests.fakes import SIDE, FakeEngine, flat_costs


def crop(value: int, side: int = SIDE) -> NDArray[np.uint8]:
    return np.full((side, side, 3), value, np.uint8)


def job(value: int, in_s: float = 3600.0, level: int = 1, side: int = SIDE) -> Job:
    now = time.monotonic()
    return Job(now, now + in_s, level, crop=crop(value, side))


@asynccontextmanager
async def batching(
    max_batch_size: int = 4,
    costs: CostModel | None = None,
    run: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None = None,
    others: Sequence[FakeEngine] = (),
    **policy: Any,
) -> AsyncIterator[tuple[Batcher, FakeEngine]]:
    engine = FakeEngine()
    if run:
        engine.run = run  # type: ignore[method-assign,assignment]
    batcher = Batcher(
        [engine, *others],
        BatchPolicy(max_batch_size, **policy),
        costs or flat_costs(),
        Metrics(CollectorRegistry()),
    )
    try:
        yield batcher, engine
    finally:
        engine.gate.set()
        await asyncio.to_thread(batcher.close)


async def hold(batcher: Batcher, engine: FakeEngine) -> Job:
    """A first photo that keeps the engine busy until the gate opens."""
    engine.gate.clear()
    first = job(250)
    batcher.submit(first)
    await asyncio.to_thread(engine.started.wait, 5)
    return first


def submit(batcher: Batcher, jobs: list[Job]) -> list[Job]:
    for each in jobs:
        batcher.submit(each)
    return jobs


async def answered(*jobs: Job) -> list[Any]:
    return await asyncio.gather(*(each.answer for each in jobs), return_exceptions=True)
