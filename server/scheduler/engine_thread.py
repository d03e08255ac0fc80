"""One engine and its thread: takes batches, keeps the engine fed, and settles who was in them."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alexnet.postprocess import softmax
from server.engines.base import Engine, Pending
from server.errors import EngineFailure
from server.scheduler import cpus
from server.scheduler.costs import CostModel
from server.scheduler.job import Inferred, Job

log = logging.getLogger(__name__)

FAILURES_UNTIL_REST, REST_S = 3, 10.0


@dataclass(frozen=True)
class Run:
    """A batch under way."""

    jobs: list[Job]
    pending: Pending
    begun: float


class Lane:
    """`take` gives the next batch: it waits for one while nothing is under way here, gives an empty
    one rather than wait, and None when there will be no more. `executed` is told of each batch and
    its seconds, on the loop."""

    def __init__(
        self,
        engine: Engine,
        number: int,
        take: Callable[["Lane"], list[Job] | None],
        costs: CostModel,
        executed: Callable[[list[Job], float], None],
    ):
        self._engine, self._take, self._costs, self._executed = engine, take, costs, executed
        self._under_way: deque[Run] = deque()
        self._finished = 0.0
        self.free_at = 0.0
        """When what it has taken should be ready; a time of time.monotonic, 0 when idle."""
        self.failures = 0
        """Runs that failed in a row."""
        self.last_failure = 0.0
        """A time of time.monotonic."""
        self.thread = threading.Thread(target=self._serve, name=f"engine-{number}", daemon=True)

    @property
    def busy(self) -> bool:
        return bool(self._under_way)

    def rest_s(self, now: float) -> float:
        """How long an engine that keeps failing should leave the work to others."""
        if self.failures < FAILURES_UNTIL_REST:
            return 0.0
        return max(0.0, self.last_failure + REST_S - now)

    def _serve(self) -> None:
        cpus.yield_to_others(cpus.ENGINE)
        while self._turn():
            pass  # and no local holds the last batch while the next is waited for

    def _turn(self) -> bool:
        """False after the last."""
        batch = self._take(self)
        if batch:
            self._begin(batch)
        if self._under_way and (not batch or len(self._under_way) == self._engine.depth):
            self._finish(self._under_way.popleft())
        return batch is not None or self.busy

    def _begin(self, jobs: list[Job]) -> None:
        begun = time.monotonic()
        try:
            pending = self._engine.begin([job.crop for job in jobs])  # type: ignore[misc] # decoded
        except Exception:
            self._failed(jobs)
            return
        self._under_way.append(Run(jobs, pending, begun))

    def _finish(self, run: Run) -> None:
        # Behind another batch its own time begins when that one has ended.
        start = max(run.begun, self._finished)
        try:
            logits = run.pending()
            now = time.monotonic()
            answers = _answers(logits, len(run.jobs))
        except Exception:
            self._failed(run.jobs)
            return
        self._finished = now
        self.failures = 0
        self._idle()
        for job in run.jobs:
            job.infer_started, job.inferred = start, now
        # All in one wake-up of the loop; there is one loop, and a batch does not mix any.
        loop = run.jobs[0].loop
        loop.call_soon_threadsafe(self._answer, run.jobs, answers, now - start)
        self._costs.ran(len(run.jobs), now - start)  # whoever waits for the answer has it first

    def _answer(self, jobs: list[Job], answers: list[Inferred | None], seconds: float) -> None:
        for job, inferred in zip(jobs, answers, strict=True):
            if job.answer.done():
                continue
            if inferred is None:
                job.answer.set_exception(EngineFailure())
            else:
                job.answer.set_result(inferred)
        # After the answers went out, and before anybody could ask for the counts.
        jobs[0].loop.call_soon(self._executed, jobs, seconds)

    def _failed(self, jobs: list[Job]) -> None:
        self.failures += 1
        self.last_failure = time.monotonic()
        self._idle()
        log.exception("%s failed on a batch of %d", self._engine.name, len(jobs))
        for job in jobs:
            job.fail(EngineFailure())

    def _idle(self) -> None:
        if not self._under_way:
            self.free_at = 0.0


def _answers(logits: NDArray[np.float32], photos: int) -> list[Inferred | None]:
    """For each photo; None where its logits are no numbers: its batch-mates need not suffer.

    Here and not on the loop: all 32 of a batch take 0.05 ms, one by one 0.2 ms.
    """
    if logits.ndim != 2 or len(logits) != photos:  # must not pair answers wrongly
        raise RuntimeError(f"logits of {logits.shape} came back for {photos} photos")
    finite = np.logical_and.reduce(np.isfinite(logits), axis=-1)
    if not finite.all():
        log.error("the engine gave logits that are not finite")
        logits = np.where(finite[:, None], logits, 0)
    rows = zip(softmax(logits), finite, strict=True)
    return [Inferred(row, photos) if fine else None for row, fine in rows]
