"""The stages of one version, one under the other: decoder -> batcher -> engine -> event loop.

Each stage hands its job to the next by itself, on its own thread: a photo wakes the event loop
once, when it is answered.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from alexnet.header import read_header
from alexnet.preprocess import ImageTooLarge, check_pixels, decoded_bytes
from server.engines.model import Model
from server.errors import (
    BadImage,
    Cancelled,
    EngineFailure,
    Expired,
    ServeError,
    TooLarge,
    WouldMiss,
)
from server.scheduler.batcher import Batcher, BatchPolicy
from server.scheduler.costs import CostModel
from server.scheduler.decoder import Decoder
from server.scheduler.estimate import Estimate
from server.scheduler.gate import Occupancy
from server.scheduler.job import Job, Row
from server.telemetry.counts import Timing
from server.telemetry.metrics import Metrics

_model = attrgetter("request.model")


def pixels_name(model: str) -> str:
    """The name under which the same engine takes crops in place of photos."""
    return f"{model}_pixels"


class Pipeline:
    """A version that is served: its model, its queue, and what is known of its speed."""

    def __init__(
        self,
        number: str,
        model: Model,
        costs: CostModel,
        decoder: Decoder,
        policy: BatchPolicy,
        metrics: Metrics,
        announced: Callable[[], None] = lambda: None,
    ):
        """`announced` is called when it begins to serve."""
        self.number, self.model, self.costs, self.policy = number, model, costs, policy
        self.max_batch_size = policy.max_batch_size
        self.decoder, self._metrics = decoder, metrics
        self.batcher = Batcher(model.engines, policy, costs, self._ran, self._upstream())
        self.estimate = Estimate(costs, decoder, self.batcher, policy)
        self.users = Occupancy()
        """Requests of this version; `close` waits for them."""
        self._announced, self._on_announced = False, announced

    def start(self, job: Job, photo: bytes | NDArray[np.uint8]) -> None:
        """On the event loop: what will it cost, and when would it be ready? Raises a ServeError."""
        if isinstance(photo, bytes):
            self._measure(job, photo)
            job.decode_s = self.costs.decode_s(job.header)
        else:
            job.crop = photo
        self.estimate.admit(job)
        job.queued = time.monotonic()
        if job.crop is None:
            self.decoder.submit(job)
        else:
            job.decode_started = job.decoded = job.request.received
            self.batcher.submit(job)

    def _measure(self, job: Job, photo: bytes) -> None:
        """By its first bytes. Raises BadImage, TooLarge, Overloaded."""
        if not photo:
            raise BadImage("the image is empty (0 bytes)")
        request, gate = job.request, job.request.gate
        most = gate.limits.max_request_bytes
        if len(photo) > most:
            raise TooLarge(f"the upload has {len(photo):,} bytes; at most {most:,} are accepted")
        job.image, job.header = photo, read_header(photo)
        size = 0 if request.upload_bytes else len(photo)
        if job.header:  # without one, nothing will be decoded
            try:
                check_pixels(job.header.width, job.header.height, self.decoder.max_pixels)
            except ImageTooLarge as error:
                raise TooLarge(str(error)) from None
            size += decoded_bytes(job.header, self.model.bundle.manifest.preprocess)
        gate.hold(size, request.held if request.all_or_none else request.upload_bytes)
        request.held += size
        job.held = size

    def decoded(self, job: Job) -> None:
        """On a decoder's thread."""
        self.costs.decoded(job.header, job.decoded - job.decode_started)
        self.batcher.submit(job)

    def _ran(self, jobs: list[Job], rows: list[Row | None], seconds: float) -> None:
        """On an engine's thread. All jobs of a process have the same event loop."""
        jobs[0].loop.call_soon_threadsafe(self._answer, jobs, rows, seconds)
        self.costs.ran(len(jobs), seconds)  # after that, so that the callers do not wait for it

    def _answer(self, jobs: list[Job], rows: list[Row | None], seconds: float) -> None:
        """On the event loop."""
        for job, row in zip(jobs, rows, strict=True):
            job.settle(EngineFailure() if row is None else row)
        self.estimate.ran(jobs)
        models = set(map(_model, jobs))
        jobs[0].loop.call_soon(self._metrics.batch_ran, models, self.number, len(jobs), seconds)

    def ended(self, job: Job, outcome: Timing | ServeError) -> None:
        """On the event loop: `Job.settle`. Counted after the answer has gone out, and before its
        caller could ask for the counts."""
        if isinstance(outcome, Timing):
            self.estimate.learn(job, answered=True)
            job.loop.call_soon(self._metrics.photo_answered, self.number, outcome)
            return
        waited = bool(job.queued) and not job.batch_size
        if waited:
            self.decoder.queue.remove(job)
            self.batcher.queue.remove(job)
        if job.queued:
            self.estimate.learn(job, answered=False)
        dropped = waited and isinstance(outcome, Expired | WouldMiss | Cancelled)
        self._metrics.photo_failed(self.number, outcome.reason, dropped)

    def waiting(self, model: str) -> int:
        """Requests for this model that wait for a decoder or the engine."""
        jobs = [*self.decoder.queue.jobs.copy(), *self.batcher.queue.jobs.copy()]
        asked = {job.request for job in jobs if job.request.version is self}
        return sum(request.model == model for request in asked)

    @property
    def info(self) -> tuple[str, str, str, str, str]:
        """The labels of the metric that says what is served."""
        model = self.model
        return model.name, self.number, model.build, model.precision, model.engine.name

    @property
    def drift(self) -> dict[str, Callable[[], float]]:
        """What each stage takes now, by what it took at calibration."""
        return {
            "decode": lambda: self.costs.drift["decode"],
            "infer": lambda: self.costs.drift["infer"],
            "pace": lambda: self.estimate.pace,
        }

    def announce(self) -> None:
        """From now on the metrics show it; `close` ends that."""
        name, pixels = self.model.name, pixels_name(self.model.name)
        waiting = {name: lambda: self.waiting(name), pixels: lambda: self.waiting(pixels)}
        self._metrics.serving(self.info, self.drift, waiting)
        self._on_announced()
        self._announced = True

    async def close(self) -> None:
        """Waits for its requests, then frees the engine; one that hangs is left behind."""
        await self.users.empty()
        if await asyncio.to_thread(self.batcher.close):
            for engine in self.model.engines:
                await asyncio.to_thread(engine.close)
        if self._announced:
            self._metrics.retired(self.info)

    def _upstream(self) -> Collection[Job]:
        """While photos wait for a decoder, small batches are no good use of the CPU."""
        return self.decoder.queue.jobs if self.model.engine.on_cpu else ()
