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
from server.scheduler.decoder import COSTLY_S, Decoder
from server.scheduler.estimate import Estimate
from server.scheduler.gate import Occupancy
from server.scheduler.job import Job, Row
from server.telemetry.counts import Timing
from server.telemetry.metrics import Metrics

NO_ROW = np.zeros(0, np.float32)
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
            job.costly = self.costs.quiet_s(job.header) > COSTLY_S
        else:
            job.crop, job.cut = photo, job.request.cut
        self.estimate.admit(job)
        job.queued = time.monotonic()
        if job.crop is None:
            self.decoder.submit(job)
        else:
            job.decode_started = job.decoded = job.arrived
            self.batcher.submit(job)

    def _measure(self, job: Job, photo: bytes) -> None:
        """By its first bytes. Raises BadImage, TooLarge, Overloaded."""
        if not photo:
            raise BadImage("the image is empty (0 bytes)")
        request, gate = job.request, job.request.gate
        if len(photo) > gate.limits.max_request_bytes:
            raise gate.limits.too_large(len(photo))
        job.image, job.header = photo, read_header(photo)
        if job.header:  # without one, nothing will be decoded
            spec = self.model.bundle.manifest.preprocess
            try:
                check_pixels(job.header, spec, self.decoder.max_pixels)
            except ImageTooLarge as error:
                raise TooLarge(str(error)) from None
            # The decoder is given a copy that holds nothing but the picture.
            job.decoding_bytes = len(photo) + decoded_bytes(job.header, spec)
            self.decoder.check_room(job.decoding_bytes)
        # What was counted as its upload is counted as the photo's now, which gives it back.
        request.hold_upload(request.uploaded - min(request.uploaded, len(photo)))
        gate.hold_photo(job, len(photo), request.held if request.upload_bytes else 0)
        request.held += len(photo)

    def decoded(self, job: Job) -> None:
        """On a decoder's thread."""
        self.costs.decoded(job.header, job.decoded - job.decode_started)
        if job.square:
            job.infer_started = job.inferred = job.decoded
            job.loop.call_soon_threadsafe(job.settle, NO_ROW)
        else:
            self.batcher.submit(job)

    def _ran(self, jobs: list[Job], rows: list[Row | None], seconds: float) -> None:
        """On an engine's thread. All jobs of a process have the same event loop."""
        jobs[0].loop.call_soon_threadsafe(self._answer, jobs, rows, seconds)
        self.costs.ran(len(jobs), seconds)  # after that, so that the callers do not wait for it

    def _answer(self, jobs: list[Job], rows: list[Row | None], seconds: float) -> None:
        """On the event loop."""
        if traced := [trace for job in jobs if (trace := job.request.trace)]:
            start, end = jobs[0].infer_started, jobs[0].inferred
            batch = traced[0].batch(traced, start, end, len(jobs))
            for job in jobs:
                job.batch = batch
        for job, row in zip(jobs, rows, strict=True):
            job.settle(EngineFailure() if row is None else row)
        self.estimate.ran(jobs)
        models = set(map(_model, jobs))
        jobs[0].loop.call_soon(self._metrics.batch_ran, models, self.number, len(jobs), seconds)

    def ended(self, job: Job, outcome: Timing | ServeError) -> None:
        """On the event loop: `Job.settle`. Counted after the answer has gone out, and before its
        caller could ask for the counts."""
        if isinstance(outcome, Timing):
            if job.square:  # its views are what is counted
                return
            self.estimate.learn(job, answered=True)
            visit = job.request.visit
            trace_id = visit.trace_id if visit else ""
            job.loop.call_soon(self._metrics.photo_answered, self.number, outcome, trace_id)
            return
        waited = bool(job.queued) and not job.batch_size
        if waited:
            self.decoder.remove(job)
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
        return self.decoder.soon if self.model.engine.on_cpu else ()
