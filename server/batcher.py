"""Dynamic batching without a timer.

While the engine runs, photos pile up; when it is free, the next batch is what waited, in the order
of the queue, and as large as the earliest deadline in it allows. A lone photo never waits for
company, and under load batches grow by themselves. Who was cancelled, or can no longer be answered
in time, leaves the queue without reaching the engine.

The engine's thread takes its next batch itself: it never waits for a busy event loop.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server import cpus
from server.costmodel import CostModel
from server.errors import EngineFailure, Expired, ServeError, WouldMiss
from server.job import Inferred, Job
from server.metrics import Metrics
from server.queue import FairQueue

log = logging.getLogger(__name__)

# Who waits for company starts this many times the engine's time before the deadline.
DEADLINE_MARGIN = 1.25
# What was coming may turn out to be no photo: then nobody wakes the engine.
LOOK_AGAIN_S = 0.005

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class BatchPolicy:
    """Triton's names and meanings (its model configuration, `dynamic_batching`)."""

    max_batch_size: int
    preferred_batch_size: tuple[int, ...] = ()
    """The largest that can be filled is taken; if none can, whatever waits."""
    max_queue_delay_s: float = 0.0
    """How long the oldest may wait for a preferred size, or for a full batch."""
    priority_levels: int = 1


class Batcher:
    """One engine, one thread for it, one queue. Every job is settled exactly once."""

    def __init__(
        self,
        run: Run,
        policy: BatchPolicy,
        costs: CostModel,
        metrics: Metrics,
        executed: Callable[[list[Job], float], None] = lambda jobs, seconds: None,
        coming: Callable[[], bool] = lambda: False,
    ):
        """`executed` is told of each batch and its seconds, on the loop; `coming` says whether more
        photos will be here in a moment, so that a small batch is better not started yet."""
        self._run, self._policy, self._costs = run, policy, costs
        self._metrics, self._executed, self._coming = metrics, executed, coming
        self._waiting = FairQueue(policy.priority_levels)
        self._running: list[Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self.busy_until = 0.0
        """When the batch in the engine should be ready; a time of time.monotonic."""
        self.failures = 0
        """Runs of the engine that failed in a row."""
        self.last_failure = 0.0
        """A time of time.monotonic."""
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Photos waiting for the engine."""
        return len(self._waiting)

    def submit(self, job: Job) -> None:
        """From any thread. The answer or a ServeError comes to `job.answer`."""
        with self._changed:
            if self._closed:
                job.loop.call_soon_threadsafe(job.answer.cancel)
            elif not job.answer.done():
                self._waiting.push(job)
                self._changed.notify()

    def remove(self, job: Job) -> bool:
        """Takes the job out of the queue; False when it is not, or no longer, in it."""
        with self._changed:
            return self._waiting.remove(job)

    def around(self, level: int, deadline: float) -> tuple[list[Job], list[Job]]:
        with self._changed:
            return self._waiting.around(level, deadline)

    def close(self) -> None:
        """Ends after the run under way; who waits then is cancelled. See DataPlane.drain."""
        with self._changed:
            self._closed = True
            left = [self._waiting.pop() for _ in range(len(self._waiting))]
            self._changed.notify()
        for job in left:
            job.loop.call_soon_threadsafe(job.answer.cancel)
        self._thread.join()

    def _serve(self) -> None:
        cpus.yield_to_others(cpus.ENGINE)
        while True:
            with self._changed:
                while not self._closed and not self._ripe():
                    self._changed.wait(self._patience())
                if self._closed:
                    return
                batch = self._next_batch(time.monotonic())
                self.busy_until = time.monotonic() + self._costs.infer_s(len(batch))
            if batch:
                self._settle(batch)
                self.busy_until = 0.0

    def _ripe(self) -> bool:
        return bool(self._waiting) and self._patience() == 0

    def _patience(self) -> float | None:
        """Seconds for which a fuller batch is worth waiting; None while nobody is there."""
        policy, costs, waiting = self._policy, self._costs, len(self._waiting)
        if not waiting:
            return None
        now = time.monotonic()
        latest = self._waiting.peek().deadline - DEADLINE_MARGIN * costs.infer_s(waiting)
        if waiting < min(costs.efficient_size, policy.max_batch_size) and self._coming():
            return max(0.0, min(latest - now, LOOK_AGAIN_S))
        enough = min(policy.preferred_batch_size, default=policy.max_batch_size)
        if policy.max_queue_delay_s == 0 or waiting >= enough:
            return 0
        return max(0.0, min(latest, self._waiting.oldest + policy.max_queue_delay_s) - now)

    def _next_batch(self, now: float) -> list[Job]:
        """The next jobs in order that can all be answered by the earliest deadline among them.

        Whoever could be answered only in a batch so small that it holds up the others is refused.
        """
        waiting, costs = self._waiting, self._costs
        target = self._target(len(waiting))
        worthwhile = min(target, costs.efficient_size)
        batch: list[Job] = []
        room = target
        while waiting and len(batch) < room:
            job = waiting.peek()
            if job.answer.done():
                waiting.pop()
                continue
            fits = costs.largest(room, job.deadline - now)
            if fits <= len(batch) and batch:
                break  # it would be late in this batch, and may lead the next
            waiting.pop()
            if fits < min(worthwhile, len(batch) + 1 + len(waiting)):
                self._refuse(job, now)
                continue
            batch.append(job)
            room = min(room, fits)
        return batch

    def _target(self, waiting: int) -> int:
        most = min(waiting, self._policy.max_batch_size)
        return max((p for p in self._policy.preferred_batch_size if p <= most), default=most)

    def _refuse(self, job: Job, now: float) -> None:
        error: ServeError
        if job.deadline <= now:
            error = Expired("the deadline passed while waiting for the engine")
        else:
            error = WouldMiss("the deadline is too near to be met by the next batch")
        self._metrics.dropped.labels(error.reason).inc()
        job.fail(error)

    def _settle(self, batch: list[Job]) -> None:
        start = time.monotonic()
        try:
            crops = np.stack([job.crop for job in batch])  # type: ignore[misc] # decoded by now
            logits = self._run(crops)
            if len(logits) != len(batch):  # must not pair answers wrongly
                raise RuntimeError(f"{len(logits)} rows came back for {len(batch)} photos")
        except Exception:
            self.failures += 1
            self.last_failure = time.monotonic()
            log.exception("the engine failed on a batch of %d", len(batch))
            for job in batch:
                job.fail(EngineFailure())
            return
        self.failures = 0
        now = time.monotonic()
        finite = [bool(np.isfinite(row).all()) for row in logits]
        if not all(finite):
            log.error("the engine gave logits that are not finite")
        for job in batch:
            job.infer_started, job.inferred = start, now
        answers = [
            Inferred(row, len(batch)) if fine else None
            for row, fine in zip(logits, finite, strict=True)
        ]
        self._costs.ran(len(batch), now - start)
        # All in one wake-up of the loop; there is one loop, and a batch does not mix any.
        batch[0].loop.call_soon_threadsafe(self._answer, batch, answers, now - start)

    def _answer(self, batch: list[Job], answers: list[Inferred | None], seconds: float) -> None:
        for job, inferred in zip(batch, answers, strict=True):
            if job.answer.done():
                continue
            if inferred is None:  # its batch-mates need not suffer
                job.answer.set_exception(EngineFailure())
            else:
                job.answer.set_result(inferred)
        # After the answers went out, and before anybody could ask for the counts.
        batch[0].loop.call_soon(self._executed, batch, seconds)
