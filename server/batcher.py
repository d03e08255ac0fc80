"""Dynamic batching without a timer.

While the engine runs, photos pile up; when it is free, the next batch is what waited, oldest
first. A lone photo never waits for company, and under load batches grow by themselves. Who was
cancelled, or can no longer be answered in time, leaves the queue without reaching the engine.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from server.errors import EngineFailure, Expired
from server.metrics import Metrics

log = logging.getLogger(__name__)

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class Inferred:
    """One photo's row of the engine's answer."""

    logits: NDArray[np.float32]
    """(classes,)"""
    queue: float
    """Seconds between submission and the start of the batch."""
    infer: float
    batch_size: int


@dataclass(eq=False)
class _Entry:
    crop: NDArray[np.uint8]
    deadline: float
    answer: asyncio.Future[Inferred]
    since: float = field(default_factory=time.monotonic)


class Batcher:
    """One engine, one thread for it, one queue. Every entry is answered exactly once."""

    def __init__(self, run: Run, max_batch_size: int, metrics: Metrics):
        self._run, self._max, self._metrics = run, max_batch_size, metrics
        self._queue: deque[_Entry] = deque()
        self._running: list[_Entry] = []
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._task = asyncio.create_task(self._serve(), name="batcher")
        self.failures = 0
        """Runs of the engine that failed in a row."""
        self.last_failure = 0.0
        """A time of time.monotonic."""

    def __len__(self) -> int:
        """Photos waiting for the engine."""
        return len(self._queue)

    async def infer(self, crop: NDArray[np.uint8], deadline: float) -> Inferred:
        """Waits for the engine's answer; `deadline` is a time of time.monotonic.

        Raises Expired or EngineFailure.
        """
        entry = _Entry(crop, deadline, asyncio.get_running_loop().create_future())
        self._queue.append(entry)
        self._arrived.set()
        return await entry.answer

    async def close(self) -> None:
        """Stops; who has no answer yet is cancelled. Drain first: see DataPlane.drain."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for entry in (*self._running, *self._queue):
            entry.answer.cancel()
        self._thread.shutdown()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while batch := self._next_batch():
                self._running = batch
                start = time.monotonic()
                crops = [entry.crop for entry in batch]
                try:
                    logits = await loop.run_in_executor(self._thread, self._execute, crops)
                except Exception:
                    self.failures += 1
                    self.last_failure = time.monotonic()
                    log.exception("the engine failed on a batch of %d", len(batch))
                    _answer_all(batch, EngineFailure())
                    continue
                self.failures = 0
                self._metrics.executed(len(batch))
                infer = time.monotonic() - start
                for entry, row in zip(batch, logits, strict=True):
                    if entry.answer.done():
                        continue
                    if np.isfinite(row).all():
                        queued = start - entry.since
                        entry.answer.set_result(Inferred(row, queued, infer, len(batch)))
                    else:  # its batch-mates need not suffer
                        log.error("the engine gave logits that are not finite")
                        entry.answer.set_exception(EngineFailure())

    def _next_batch(self) -> list[_Entry]:
        batch: list[_Entry] = []
        now = time.monotonic()
        while self._queue and len(batch) < self._max:
            entry = self._queue.popleft()
            if entry.deadline <= now:
                self._metrics.dropped.labels("expired").inc()
                if not entry.answer.done():  # who waits gives up at the same moment
                    entry.answer.set_exception(Expired("the deadline passed while waiting"))
            elif entry.answer.done():
                self._metrics.dropped.labels("cancelled").inc()
            else:
                batch.append(entry)
        return batch

    def _execute(self, crops: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """On the engine's thread. A wrong number of rows must not pair answers wrongly."""
        logits = self._run(np.stack(crops))
        if len(logits) != len(crops):
            raise RuntimeError(f"{len(logits)} rows came back for {len(crops)} photos")
        return logits


def _answer_all(batch: list[_Entry], error: Exception) -> None:
    for entry in batch:
        if not entry.answer.done():
            entry.answer.set_exception(error)
