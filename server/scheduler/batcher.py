"""Dynamic batching without a timer.

While the engine runs, photos pile up; when it is free, the next batch is what waited, in the order
of the queue, and as large as the earliest deadline in it allows. A lone photo never waits for
company, and under load batches grow by themselves. Who was cancelled, or can no longer be answered
in time, leaves the queue without reaching the engine.

Each engine's thread takes its next batch itself: it never waits for a busy event loop. Where an
engine can be given a batch while another runs, it gets one as soon as a full one waits; a smaller
one may still grow.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server.engines.base import Engine
from server.errors import Expired, ServeError, WouldMiss
from server.scheduler.costs import CostModel
from server.scheduler.engine_thread import Lane
from server.scheduler.job import Job
from server.scheduler.queue import FairQueue
from server.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

# Who waits for company starts this many times the engine's time before the deadline.
DEADLINE_MARGIN = 1.25
# What was coming may turn out to be no photo: then nobody wakes the engine.
LOOK_AGAIN_S = 0.005
# An engine's thread that does not come back is left behind.
CLOSE_S = 10.0


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
    """One queue for any number of like engines. Every job is settled exactly once."""

    def __init__(
        self,
        engines: Sequence[Engine],
        policy: BatchPolicy,
        costs: CostModel,
        metrics: Metrics,
        executed: Callable[[list[Job], float], None] = lambda jobs, seconds: None,
        coming: Callable[[], bool] = lambda: False,
    ):
        """`executed` is told of each batch and its seconds, on the loop; `coming` says whether more
        photos will be here in a moment, so that a small batch is better not started yet."""
        self._policy, self._costs, self._metrics = policy, costs, metrics
        self._coming = coming
        self._waiting = FairQueue(policy.priority_levels)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._closed = False
        self._since = 0.0
        """When somebody began to wait; a time of time.monotonic."""
        self._lanes = [
            Lane(engine, i, self._take, costs, executed) for i, engine in enumerate(engines)
        ]
        for lane in self._lanes:
            lane.thread.start()

    @property
    def parallel(self) -> int:
        """Batches that run at the same time, each on an engine of its own."""
        return len(self._lanes)

    @property
    def busy_until(self) -> float:
        """When the first engine should be free; a time of time.monotonic."""
        return min(lane.free_at for lane in self._lanes)

    @property
    def overdue_s(self) -> float:
        """By how long a batch is late, on the engine where it is least."""
        now = time.monotonic()
        return min(now - (lane.free_at or now) for lane in self._lanes)

    @property
    def failures(self) -> int:
        """Runs that failed in a row on every engine."""
        return min(lane.failures for lane in self._lanes)

    @property
    def last_failure(self) -> float:
        """A time of time.monotonic."""
        return max(lane.last_failure for lane in self._lanes)

    def __len__(self) -> int:
        """Photos waiting for the engine."""
        return len(self._waiting)

    def submit(self, job: Job) -> None:
        """From any thread. The answer or a ServeError comes to `job.answer`."""
        with self._lock:
            if self._closed:
                job.loop.call_soon_threadsafe(job.answer.cancel)
            elif job.answer.done():
                self._metrics.left(job.deadline)
            else:
                if not self._waiting:
                    self._since = time.monotonic()
                self._waiting.push(job)
                self._changed.notify_all()

    def remove(self, job: Job) -> bool:
        """Takes the job out of the queue; False when it is not, or no longer, in it."""
        with self._lock:
            return self._waiting.remove(job)

    def around(self, level: int, deadline: float) -> tuple[list[Job], list[Job]]:
        with self._lock:
            return self._waiting.around(level, deadline)

    def close(self) -> bool:
        """Ends after the run under way; who waits then is cancelled. See DataPlane.drain.
        False when an engine does not come back."""
        with self._lock:
            self._closed = True
            left = [self._waiting.pop() for _ in range(len(self._waiting))]
            self._changed.notify_all()
        for job in left:
            job.loop.call_soon_threadsafe(job.answer.cancel)
        end = time.monotonic() + CLOSE_S
        for lane in self._lanes:
            lane.thread.join(max(0.0, end - time.monotonic()))
        hung = [lane.thread.name for lane in self._lanes if lane.thread.is_alive()]
        if hung:
            log.error("%s did not come back within %.0f s", ", ".join(hung), CLOSE_S)
        return not hung

    def _take(self, lane: Lane) -> list[Job] | None:
        """See Lane."""
        with self._lock:
            free = time.monotonic()
            while not (lane.busy or self._closed):
                rest_s = self._rest_s(lane)
                patience_s = rest_s or self._patience(free)
                if patience_s == 0:
                    break
                self._changed.wait(patience_s)
            if self._closed:
                return None
            if lane.busy and len(self._waiting) < self._policy.max_batch_size:
                return []
            now = time.monotonic()
            batch = self._next_batch(now)
            if batch:
                lane.free_at = max(now, lane.free_at) + self._costs.infer_s(len(batch))
            if self._waiting:
                self._changed.notify_all()  # for another engine
            return batch

    def _rest_s(self, lane: Lane) -> float:
        """An engine that keeps failing would be free most often, and eat what others can answer."""
        now = time.monotonic()
        others = (other for other in self._lanes if other is not lane)
        return lane.rest_s(now) if any(other.rest_s(now) == 0 for other in others) else 0.0

    def _patience(self, free: float) -> float | None:
        """Seconds for which a fuller batch is worth waiting; None while nobody is there. The engine
        is idle since `free`."""
        policy, costs, waiting = self._policy, self._costs, len(self._waiting)
        if not waiting:
            return None
        now = time.monotonic()
        latest = self._waiting.earliest - DEADLINE_MARGIN * costs.infer_s(waiting)
        worthwhile = min(costs.efficient_size, policy.max_batch_size)
        if waiting < worthwhile and self._coming():
            # No longer than so many small photos take: who is coming may be huge.
            longest = max(free, self._since) + worthwhile * costs.decode_s(None)
            if now < min(latest, longest):
                return min(latest - now, longest - now, LOOK_AGAIN_S)
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
        bearable = min(target, costs.bearable_size)
        batch: list[Job] = []
        room = target
        while waiting and len(batch) < room:
            job = waiting.peek()
            if job.answer.done():
                waiting.pop()
                self._metrics.left(job.deadline)
                continue
            tried = job.trial and job.deadline > now
            fits = room if tried else costs.largest(room, job.deadline - now)
            if fits <= len(batch) and batch:
                break  # it would be late in this batch, and may lead the next
            waiting.pop()
            if fits < min(bearable, len(batch) + 1 + len(waiting)):
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
