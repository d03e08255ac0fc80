"""A batcher around an engine that the test controls, and jobs for it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.engines.model import Model
from server.errors import EngineFailure, ServeError
from server.scheduler.batcher import Batcher, BatchPolicy
from server.scheduler.costs import CostModel
from server.scheduler.gate import Gate, Limits, Occupancy
from server.scheduler.job import Answer, Job, Request, Row
from server.telemetry.counts import Timing
from tests.fakes import SIDE, FakeEngine, flat_costs, tiny_bundle


def crop(value: int, side: int = SIDE) -> NDArray[np.uint8]:
    return np.full((side, side, 3), value, np.uint8)


def _model() -> Model:
    bundle = tiny_bundle()
    return Model(bundle, bundle.manifest.artifacts[0], "int8", ())


@dataclass
class FakeVersion:
    """What a job needs of its version; it notes the outcome of each job."""

    number: str = "1"
    model: Model = field(default_factory=_model)
    users: Occupancy = field(default_factory=Occupancy)
    max_batch_size: int = 4
    outcomes: list[Timing | ServeError] = field(default_factory=list)
    ready: list[Job] = field(default_factory=list)
    """Decoded."""

    def start(self, job: Job, photo: bytes | NDArray[np.uint8]) -> None:
        raise NotImplementedError("tests give jobs to the stage they test")

    def decoded(self, job: Job) -> None:
        self.ready.append(job)

    def ended(self, job: Job, outcome: Timing | ServeError) -> None:
        self.outcomes.append(outcome)


@dataclass(eq=False)
class AwaitedJob(Job):
    """A job with a task that awaits its answer from the start."""

    task: "asyncio.Task[Answer]" = field(init=False)

    def __post_init__(self) -> None:
        self.task = asyncio.create_task(self.answer())


def request(now: float, in_s: float, level: int = 1) -> Request:
    gate = Gate(Limits(64, 1 << 20, 1 << 30, 5.0), lambda: 0.0)
    return Request(
        "test", "tiny", FakeVersion(), gate, now, now + in_s, True, level, now, upload_bytes=0
    )


def job(value: int, in_s: float = 3600.0, level: int = 1, side: int = SIDE) -> AwaitedJob:
    asked = request(time.monotonic(), in_s, level)
    return AwaitedJob(asked, asked.deadline, level, crop=crop(value, side), queued=asked.start)


def settle(jobs: list[Job], rows: list[Row | None], seconds: float) -> None:
    """What a pipeline does with a batch that has run."""
    for each, row in zip(jobs, rows, strict=True):
        each.loop.call_soon_threadsafe(each.settle, EngineFailure() if row is None else row)


@asynccontextmanager
async def batching(
    max_batch_size: int = 4,
    costs: CostModel | None = None,
    run: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None = None,
    others: Sequence[FakeEngine] = (),
    engine: FakeEngine | None = None,
    **policy: Any,
) -> AsyncIterator[tuple[Batcher, FakeEngine]]:
    engine = engine or FakeEngine()
    if run:
        engine.run = run  # type: ignore[method-assign,assignment]
    batcher = Batcher(
        [engine, *others], BatchPolicy(max_batch_size, **policy), costs or flat_costs(), settle
    )
    try:
        yield batcher, engine
    finally:
        for each in (engine, *others):
            each.gate.set()
        await asyncio.to_thread(batcher.close)


async def hold(batcher: Batcher, engine: FakeEngine) -> AwaitedJob:
    """A first photo that keeps the engine busy until the gate opens."""
    engine.gate.clear()
    first = job(250)
    batcher.submit(first)
    await asyncio.to_thread(engine.started.wait, 5)
    return first


def submit(batcher: Batcher, jobs: list[AwaitedJob]) -> list[AwaitedJob]:
    for each in jobs:
        batcher.submit(each)
    return jobs


async def answered(*jobs: AwaitedJob) -> list[Any]:
    return await asyncio.gather(*(each.task for each in jobs), return_exceptions=True)


def classes(answers: list[Any]) -> list[int]:
    return [int(answer.probabilities.argmax()) for answer in answers]
