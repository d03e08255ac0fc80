"""One engine and its thread: takes batches, keeps the engine fed, and says what came out."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alexnet.postprocess import softmax
from server.engines.base import Engine, LooksInside, Pending
from server.errors import EngineFailure
from server.scheduler import cpus
from server.scheduler.job import Job, Row

log = logging.getLogger(__name__)

Ran = Callable[[list[Job], list[Row | None], float], None]
"""Jobs of a batch, the probabilities of each (None where they are no numbers), and its seconds; on
the engine's thread."""


@dataclass(frozen=True)
class _Run:
    """A batch under way."""

    jobs: list[Job]
    pending: Pending
    began: float


class EngineThread:
    """`take` gives the next batch: it waits for one while nothing is under way here, gives an empty
    one rather than wait, and None when there will be no more."""

    def __init__(
        self,
        engine: Engine,
        number: int,
        take: Callable[["EngineThread"], list[Job] | None],
        ran: Ran,
    ):
        self._engine, self._take, self._ran = engine, take, ran
        self._runs: deque[_Run] = deque()
        self._finished = 0.0
        self.busy = False
        """A batch is under way."""
        self.free_at = 0.0
        """When what it has taken should be ready; a time of time.monotonic, 0 when idle."""
        self.failures = 0
        """Runs that failed in a row."""
        self.last_failure = 0.0
        """A time of time.monotonic."""
        self.thread = threading.Thread(target=self._serve, name=f"engine-{number}", daemon=True)

    def _serve(self) -> None:
        cpus.yield_to_others(cpus.ENGINE)
        while self._turn():
            pass  # and no local holds the last batch while the next is waited for
        # They lead back here: a version that was exchanged would keep its weights in memory until
        # the collector of cycles comes by, which knows nothing of their size.
        del self._engine, self._take, self._ran

    def _turn(self) -> bool:
        """False after the last."""
        batch = self._take(self)
        if batch:
            began = time.monotonic()
            try:
                self._runs.append(_Run(batch, self._begin(batch), began))
                self.busy = True
            except Exception:
                self._failed(batch)
        if self._runs and (not batch or len(self._runs) == self._engine.depth):
            run = self._runs.popleft()
            # Behind another batch its own time begins when that one has ended.
            start = max(run.began, self._finished)
            try:
                self._succeeded(run.jobs, run.pending(), start)
            except Exception:
                self._failed(run.jobs)
        return batch is not None or bool(self._runs)

    def _begin(self, batch: list[Job]) -> Pending:
        crops: list[NDArray[np.uint8]] = [job.crop for job in batch]  # type: ignore[misc] # decoded
        if not any(job.look_inside for job in batch):
            return self._engine.begin(crops)
        assert isinstance(self._engine, LooksInside)
        logits, inside = self._engine.look_inside(np.stack(crops))
        for job, seen in zip(batch, inside, strict=True):
            job.inside = seen if job.look_inside else None
        return lambda: logits

    def _succeeded(self, jobs: list[Job], logits: NDArray[np.float32], start: float) -> None:
        self._finished = now = time.monotonic()
        self._idle()
        rows = _rows(logits, len(jobs))
        self.failures = 0
        for job in jobs:
            job.infer_started, job.inferred = start, now
        self._ran(jobs, rows, now - start)

    def _failed(self, jobs: list[Job]) -> None:
        self.failures += 1
        self.last_failure = time.monotonic()
        self._idle()
        log.exception("%s failed on a batch of %d", self._engine.name, len(jobs))
        for job in jobs:
            job.fail(EngineFailure())

    def _idle(self) -> None:
        if not self._runs:
            self.busy, self.free_at = False, 0.0


def _rows(logits: NDArray[np.float32], photos: int) -> list[Row | None]:
    """For each photo; None where its logits are no numbers: its batch-mates need not suffer.

    Here and not on the loop: all 32 of a batch take 0.05 ms, one by one 0.2 ms.
    """
    if logits.ndim != 2 or len(logits) != photos:  # must not pair answers wrongly
        raise RuntimeError(f"logits of {logits.shape} came back for {photos} photos")
    finite = np.logical_and.reduce(np.isfinite(logits), axis=-1)
    if finite.all():
        return list(softmax(logits))
    log.error("the engine gave logits that are not finite")
    rows = softmax(np.where(finite[:, None], logits, 0))
    return [row if fine else None for row, fine in zip(rows, finite, strict=True)]
