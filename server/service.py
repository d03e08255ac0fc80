"""The use case, free of any protocol: admit, decode, infer, rank. Faces convert and call this."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from alexnet.header import read_header
from alexnet.postprocess import Ranked, top_k
from alexnet.preprocess import Photo, decoded_bytes
from server.errors import BadImage, BadRequest, Expired, NotReady, Overloaded, ServeError, TooLarge
from server.models.repository import Repository
from server.models.version import Outcome, Served
from server.scheduler.decoder import Decoder
from server.scheduler.estimate import jittered
from server.scheduler.job import Job
from server.scheduler.occupancy import Occupancy
from server.scheduler.request import Admission
from server.telemetry.metrics import Metrics, Timing

DEFAULT_TOP_K = 5
# Photos of one stream that are under way, in batches: the next is read when one is answered, and
# gRPC's flow control stops a sender that is faster.
STREAM_BATCHES = 2
FAILURES_UNTIL_NOT_READY = 3
FAILURE_PAUSE_S = 10.0
HUNG_S = 10.0
"""A batch that is so late will not come back."""


class State(Enum):
    SERVING = "serving"
    LEAVING = "leaving"  # not ready any more, but who still comes is served
    STOPPING = "stopping"  # nobody is admitted; who was admitted is answered


@dataclass(frozen=True)
class Limits:
    max_queue_size: int
    max_request_bytes: int
    max_photo_bytes: int
    """Encoded and decoded, of all that are admitted."""
    request_timeout_s: float
    priority_levels: int = 1
    default_priority_level: int = 1


@dataclass(frozen=True)
class Classification:
    predictions: list[Ranked]
    photo: Photo
    timing: Timing
    served: Served


class DataPlane:
    def __init__(self, repository: Repository, decoder: Decoder, limits: Limits, metrics: Metrics):
        self.repository, self.limits = repository, limits
        self.state = State.SERVING
        self._decoder, self._metrics = decoder, metrics
        self._in_flight, self._streams, self._held = Occupancy(), Occupancy(), 0
        queued = {
            "decode": lambda: len(decoder),
            "infer": lambda: sum(len(served.batcher) for served in repository.served),
        }
        metrics.watch(lambda: self.ready, lambda: self._in_flight.count, lambda: self._held, queued)

    @property
    def ready(self) -> bool:
        """For probes and load balancers."""
        served = self.repository.served
        return self.state is State.SERVING and bool(served) and all(map(_works, served))

    @property
    def stream_window(self) -> int:
        """Photos, or requests, of one stream that may be under way."""
        served = self.repository.served
        most = max((each.policy.max_batch_size for each in served), default=1)
        return min(STREAM_BATCHES * most, self.share)

    @property
    def share(self) -> int:
        """Places that one caller may fill."""
        return max(1, self.limits.max_queue_size // 2)

    @contextmanager
    def admit(
        self,
        face: str,
        timeout_s: float | None = None,
        *,
        priority: int | None = None,
        version: str = "",
        model: str = "",
        upload_bytes: int | None = None,
        hurried: bool = True,
        form: Admission | None = None,
    ) -> Iterator[Admission]:
        """A request's place, held while the block runs; errors inside it are counted.

        Enter it before a photo is read from the network, with what it may have as `upload_bytes`:
        memory is bounded by it too, and who has no chance to be answered in time need not upload:
        unless he is not `hurried`, as a later deadline may stand in the upload.
        Raises Overloaded or WouldMiss at once then, Expired for a timeout of zero, NotFound for a
        version that is not served. A photo of a `form` that was admitted shares its deadline,
        and a stopping server still takes it.
        """
        start = form.start if form else time.monotonic()
        try:
            self._check_place(form)
            served = form.served if form else self.repository.pick(version)
        except ServeError as error:
            self.refused(face, error)
            raise
        model = model or served.model.name
        statistics = served.statistics[model]
        statistics.pending += 1
        admission = Admission(face, model, served, start, start, level=1)
        try:
            with self.hold(), served.in_use():
                if form:
                    admission.deadline, admission.level = form.deadline, form.level
                    if time.monotonic() >= form.deadline:
                        raise Expired("the form's deadline passed before it was this photo's turn")
                else:
                    admission.deadline = start + self._timeout(timeout_s)
                    admission.level = self._level(priority)
                if upload_bytes is not None:
                    if upload_bytes > self.limits.max_request_bytes:
                        raise self.too_large(upload_bytes)
                    self._reserve(admission, upload_bytes)
                    admission.uploaded = True
                    if hurried:
                        served.forecast.check(admission.level, start, admission.deadline)
                yield admission
        except BaseException as error:
            reason = "cancelled" if isinstance(error, asyncio.CancelledError) else "internal"
            reason = error.reason if isinstance(error, ServeError) else reason
            self._metrics.failed(face, reason, served.version)
            statistics.failed(time.monotonic() - start, reason)
            raise
        else:
            if timings := admission.timings:
                # After the answer has gone out, and before anybody could ask for the counts.
                loop, total_s = asyncio.get_running_loop(), time.monotonic() - start
                loop.call_soon(self._metrics.answered, face, served.version, timings)
                loop.call_soon(statistics.answered, timings, total_s)
        finally:
            statistics.pending -= 1
            self._held -= admission.held

    def refused(self, face: str, error: ServeError) -> None:
        """To be called for who was refused without having asked for a place."""
        self._metrics.failed(face, error.reason, "")

    def stream(self) -> AbstractContextManager[None]:
        """A stream's place, idle or not. Raises Overloaded: some calls must be left for others."""
        if self._streams.count >= self.limits.max_queue_size:
            raise Overloaded(
                f"all {self.limits.max_queue_size} streams are taken; try again later",
                retry_after_s=jittered(1.0),
            )
        return self._streams

    def hold(self) -> AbstractContextManager[None]:
        """A place for what was admitted already: the drain waits for it, nothing is counted."""
        return self._in_flight

    async def infer(self, source: bytes | NDArray[np.uint8], admission: Admission) -> Outcome:
        """A photo, or the crop of one: (crop, crop, 3). Raises a ServeError; nothing else is the
        caller's doing."""
        served = admission.served
        job = Job(admission.start, admission.deadline, admission.level, model=admission.model)
        if isinstance(source, bytes):
            self._check_size(source)
            job.image, job.header = source, read_header(source)
            spec = served.model.bundle.manifest.preprocess
            size = 0 if admission.uploaded else len(source)
            if job.header:  # without one, nothing will be decoded
                self._decoder.check(job.header)
                size += decoded_bytes(job.header, spec)
            self._reserve(admission, size)
        else:
            job.crop = source
        served.forecast.admit(job)
        outcome = await served.infer(job)
        admission.timings.append(outcome.timing)
        return outcome

    async def classify(
        self, image: bytes, admission: Admission, k: int | None = None
    ) -> Classification:
        """Raises a ServeError; nothing else is the caller's doing."""
        served = admission.served
        k = checked_k(k, served.model.classes)
        outcome = await self.infer(image, admission)
        predictions = top_k(outcome.probabilities, k)
        assert outcome.photo is not None  # it was one
        return Classification(predictions, outcome.photo, outcome.timing, served)

    async def drain(self, timeout_s: float) -> bool:
        """Admits nobody any more and waits for who was admitted; False if some are left."""
        self.state = State.STOPPING
        try:
            async with asyncio.timeout(timeout_s):
                await self._in_flight.empty()
        except TimeoutError:
            return False
        return True

    def too_large(self, size: int | None = None) -> TooLarge:
        upload = f"the upload has {size:,} bytes" if size else "the upload is too large"
        return TooLarge(f"{upload}; at most {self.limits.max_request_bytes:,} are accepted")

    def _check_place(self, form: Admission | None) -> None:
        if self.state is State.STOPPING and form is None:
            raise NotReady("the server is stopping")
        others = self._in_flight.count - (form is not None)  # its own place is for its photos
        if others >= self.limits.max_queue_size:
            backlog_s = max((s.forecast.backlog_s() for s in self.repository.served), default=0)
            raise Overloaded(
                f"all {self.limits.max_queue_size} places are taken; try again later",
                retry_after_s=jittered(backlog_s),
            )

    def _reserve(self, admission: Admission, size: int) -> None:
        """Counts so many bytes until the request is answered. A request that is alone always has
        room: its own limits bound it."""
        others, most = self._held - admission.held, self.limits.max_photo_bytes
        if others and self._held + size > most:
            raise Overloaded(
                f"the photos under way hold {self._held:,} of {most:,} bytes; try again later",
                retry_after_s=jittered(admission.served.forecast.backlog_s()),
            )
        self._held += size
        admission.held += size

    def _check_size(self, image: bytes) -> None:
        if not image:
            raise BadImage("the image is empty (0 bytes)")
        if len(image) > self.limits.max_request_bytes:
            raise self.too_large(len(image))

    def _timeout(self, timeout_s: float | None) -> float:
        if timeout_s is None:
            return self.limits.request_timeout_s
        if not timeout_s > 0:
            raise Expired("the deadline passed before the request arrived")
        return timeout_s

    def _level(self, priority: int | None) -> int:
        levels = self.limits.priority_levels
        if priority is None:
            return self.limits.default_priority_level
        if not 1 <= priority <= levels:
            raise BadRequest(f"priority must lie between 1, the highest, and {levels}")
        return priority


def checked_k(k: int | None, classes: int) -> int:
    """Raises BadRequest; 5 unless told, or all classes of a model that has fewer."""
    if k is None:
        return min(DEFAULT_TOP_K, classes)
    if not 1 <= k <= classes:
        raise BadRequest(f"top_k must lie between 1 and {classes}, not {k}")
    return k


def _works(served: Served) -> bool:
    """An engine that keeps failing is not ready, until it has had a pause: a balancer that sends
    nothing to who is not ready would never find out that it works again."""
    failing = served.batcher.failures >= FAILURES_UNTIL_NOT_READY
    if served.batcher.overdue_s > HUNG_S:
        return False
    return not failing or time.monotonic() - served.batcher.last_failure > FAILURE_PAUSE_S
