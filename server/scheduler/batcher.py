"""Dynamic batching without a timer.

While the engine runs, photos pile up; when it is free, the next batch is what waited, in the order
of the queue, and as large as the earliest deadline in it allows. A lone photo never waits for
company, and under load batches grow by themselves.

Each engine's thread takes its next batch itself: it never waits for a busy event loop. Where an
engine can be given a batch while another runs, it gets one as soon as a full one waits; a smaller
one may still grow.
"""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from server.engines.base import Engine
from server.errors import Expired, NotReady, WouldMiss
from server.scheduler.costs import CostModel
from server.scheduler.engine_thread import EngineThread, Ran
from server.scheduler.job import Job
from server.scheduler.queue import FairQueue

log = logging.getLogger(__name__)

DEADLINE_MARGIN = 1.25
"""A batch that waits for more photos starts this many times its own time before the deadline."""
POLL_S = 0.005
"""A photo that was expected may fail to decode, and then nothing wakes the engine."""
CLOSE_S = 10.0
"""An engine's thread that does not come back is left behind."""
HUNG_S = 10.0
"""A batch that is so late will not come back."""
FAILURES_UNTIL_BROKEN, PAUSE_S = 3, 10.0


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
    """One queue for any number of like engines."""

    def __init__(
        self,
        engines: Sequence[Engine],
        policy: BatchPolicy,
        costs: CostModel,
        ran: Ran,
        upstream: Collection[Job] = (),
        clock: Callable[[], float] = time.monotonic,
    ):
        """`ran`: see EngineThread. While there are jobs `upstream`, more will be here in a moment,
        and a small batch is better not started yet."""
        self._policy, self._costs = policy, costs
        self._upstream, self._clock = upstream, clock
        self.queue = FairQueue(policy.priority_levels)
        self._closed = False
        self._waiting_since = 0.0
        self.engines = [
            EngineThread(engine, i, self._take, ran) for i, engine in enumerate(engines)
        ]
        self.parallel = len(self.engines)
        """Batches that run at the same time, each on an engine of its own."""
        for engine in self.engines:
            engine.thread.start()

    @property
    def works(self) -> bool:
        """False while a batch hangs, or every engine keeps failing: until a pause, as a balancer
        that sends nothing to a broken replica would never find out that it works again."""
        now = time.monotonic()
        if min(now - (engine.free_at or now) for engine in self.engines) > HUNG_S:
            return False
        if min(engine.failures for engine in self.engines) < FAILURES_UNTIL_BROKEN:
            return True
        return now - max(engine.last_failure for engine in self.engines) > PAUSE_S

    def submit(self, job: Job) -> None:
        """From any thread."""
        with self.queue.changed:
            if not self._closed:
                if not job.settled:
                    if not self.queue.jobs:
                        self._waiting_since = self._clock()
                    self.queue.push(job)
                    self.queue.changed.notify_all()
                return
        job.fail(NotReady("the server stopped before the photo was classified"))

    def close(self) -> bool:
        """Ends after the run under way; jobs that wait get NotReady. False when an engine does not
        come back."""
        with self.queue.changed:
            self._closed = True
            left = self.queue.clear()
            self.queue.changed.notify_all()
        for job in left:
            job.fail(NotReady("the server stopped before the photo was classified"))
        end = time.monotonic() + CLOSE_S
        for engine in self.engines:
            engine.thread.join(max(0.0, end - time.monotonic()))
        hung = [engine.thread.name for engine in self.engines if engine.thread.is_alive()]
        if hung:
            log.error("%s did not come back within %.0f s", ", ".join(hung), CLOSE_S)
        return not hung

    def _take(self, engine: EngineThread) -> list[Job] | None:
        """The next batch: see EngineThread."""
        with self.queue.changed:
            idle_since = self._clock()
            while not (engine.busy or self._closed):
                wait_s = self._pause_s(engine) or self._wait_s(idle_since)
                if wait_s == 0:
                    break
                self.queue.changed.wait(wait_s)
            if self._closed:
                return None
            if engine.busy and len(self.queue.jobs) < self._policy.max_batch_size:
                return []
            now = self._clock()
            batch = self._next_batch(now)
            if batch:
                engine.free_at = max(now, engine.free_at) + self._costs.infer_s(len(batch))
            if self.queue.jobs:
                self.queue.changed.notify_all()  # for another engine
            return batch

    def _pause_s(self, engine: EngineThread) -> float:
        """An engine that keeps failing would be free most often, and take the work of others."""
        if engine.failures < FAILURES_UNTIL_BROKEN:
            return 0.0
        if all(e.failures >= FAILURES_UNTIL_BROKEN for e in self.engines if e is not engine):
            return 0.0
        return max(0.0, engine.last_failure + PAUSE_S - self._clock())

    def _wait_s(self, idle_since: float) -> float | None:
        """Seconds for which a fuller batch is worth waiting; None while nothing is there. The
        engine is idle since `idle_since`."""
        policy, costs, waiting = self._policy, self._costs, len(self.queue.jobs)
        if not waiting:
            return None
        worthwhile = min(costs.efficient_size, policy.max_batch_size)
        expecting = waiting < worthwhile and len(self._upstream) > 0
        enough = min(policy.preferred_batch_size, default=policy.max_batch_size)
        delayed = policy.max_queue_delay_s > 0 and waiting < enough
        if not expecting and not delayed:
            return 0
        now = self._clock()
        latest = self.queue.earliest - DEADLINE_MARGIN * costs.infer_s(waiting)
        if expecting:
            # No longer than so many small photos take to decode: the next one may be huge.
            longest = max(idle_since, self._waiting_since) + worthwhile * costs.decode_s(None)
            if now < min(latest, longest):
                return min(latest - now, longest - now, POLL_S)
        if not delayed:
            return 0
        oldest = min(job.queued for job in self.queue.jobs)
        return max(0.0, min(latest, oldest + policy.max_queue_delay_s) - now)

    def _next_batch(self, now: float) -> list[Job]:
        """The next jobs in order that can all be answered by the earliest deadline among them.

        Refused is a job that only a very small batch could answer, which would hold up the others.
        """
        queue, waiting, costs = self.queue, self.queue.jobs, self._costs
        room = self._target(len(waiting))
        bearable = min(room, costs.bearable_size)
        batch: list[Job] = []
        while waiting and len(batch) < room:
            job = queue.pop()
            if job.over:
                continue
            probe = job.probe and job.deadline > now
            fits = room if probe else costs.largest(room, job.deadline - now)
            if fits <= len(batch) and batch:
                queue.put_back(job)  # it would be late in this batch, and may lead the next
                break
            if fits < min(bearable, len(batch) + 1 + len(waiting)):
                if job.deadline <= now:
                    job.fail(Expired("the deadline passed while waiting for the engine"))
                else:
                    job.fail(WouldMiss("the deadline is too near to be met by the next batch"))
                continue
            batch.append(job)
            room = min(room, fits)
        for job in batch:
            job.batch_size = len(batch)
        return batch

    def _target(self, waiting: int) -> int:
        most = min(waiting, self._policy.max_batch_size)
        if not self._policy.preferred_batch_size:
            return most
        return max((p for p in self._policy.preferred_batch_size if p <= most), default=most)
