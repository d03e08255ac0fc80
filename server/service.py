"""The use case, free of any protocol: admit a request, classify its photos. An API calls this."""

import asyncio
import math
import time
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from server.errors import (
    BadImage,
    BadRequest,
    Expired,
    Forbidden,
    NotFound,
    NotReady,
    ServeError,
    TooLarge,
    UnsupportedImage,
    outcome,
)
from server.keys import caller
from server.models.repository import Repository
from server.scheduler.cache import AnswerCache
from server.scheduler.decoder import Decoder
from server.scheduler.gate import CHUNK_BYTES, Gate, Limits
from server.scheduler.job import Answer, Job, Request
from server.scheduler.pipeline import Pipeline
from server.telemetry import visits
from server.telemetry.metrics import Metrics

STREAM_BATCHES = 2
"""Photos of one stream that are under way, in batches: the next is read when one is answered, and
gRPC's flow control stops a sender that is faster."""

Photo = bytes | NDArray[np.uint8]
"""A file, or the crop of one: (crop, crop, 3)."""


class State(Enum):
    SERVING = "serving"
    LEAVING = "leaving"  # not ready any more, but requests that still come are served
    STOPPING = "stopping"  # nothing is admitted; what was admitted is answered


class Service:
    def __init__(
        self,
        repository: Repository,
        decoder: Decoder,
        limits: Limits,
        metrics: Metrics,
        cache: AnswerCache | None = None,
    ):
        self._cache = cache
        self.repository, self.limits, self.metrics = repository, limits, metrics
        self.gate = Gate(limits, self._backlog_s)
        self.state = State.SERVING
        queued = {
            "decode": lambda: len(decoder.queue.jobs),
            "infer": lambda: sum(len(p.batcher.queue.jobs) for p in repository.served),
        }
        metrics.watch(
            lambda: self.ready,
            lambda: self.gate.places.count,
            lambda: self.gate.held,
            queued,
            {"requests": limits.max_queue_size, "photo_bytes": limits.max_photo_bytes},
        )

    @property
    def ready(self) -> bool:
        """For probes and load balancers."""
        served = self.repository.served
        serving = self.state is State.SERVING and bool(served)
        return serving and all(pipeline.batcher.works for pipeline in served)

    @property
    def share(self) -> int:
        """Photos, of the places, that one caller may have under way."""
        return max(1, self.limits.max_queue_size // 2)

    @property
    def stream_window(self) -> int:
        """Photos, or requests, of one stream that may be under way."""
        most = max((p.policy.max_batch_size for p in self.repository.served), default=1)
        return min(STREAM_BATCHES * most, self.share)

    def pick(self, version: str = "") -> Pipeline:
        """What serves the caller. Raises NotFound, NotReady, Forbidden."""
        key = caller.get()
        return self.repository.pick(version, key.versions if key else ())

    @property
    def levels(self) -> tuple[int, int]:
        """The highest that the caller may name, and that of its requests that name none."""
        key = caller.get()
        if key is None or key.priority is None:
            return 1, self.limits.default_priority_level
        level = min(key.priority, self.limits.priority_levels)
        return level, level

    @contextmanager
    def admit(
        self,
        face: str,
        timeout_s: float | None = None,
        *,
        priority: int | None = None,
        version: str = "",
        model: str = "",
        upload_bytes: int = 0,
        check: bool = False,
    ) -> Iterator[Request]:
        """A request, which has its place while the block runs; its end is counted here.

        To be entered before a photo is read from the network, with what it may have as
        `upload_bytes`; what arrives of it is counted (`Request.hold_upload`). `check` then refuses,
        before the upload, what cannot be answered in time: it is False where a later deadline may
        stand in the upload.
        Raises Overloaded or WouldMiss at once then, Expired for a timeout of zero, NotFound for a
        version that is not served.
        """
        start = time.monotonic()
        wanted_s = self.limits.request_timeout_s if timeout_s is None else timeout_s
        request = None
        try:
            if self.state is State.STOPPING:
                raise NotReady("the server is stopping")
            level = self._level(priority)
            pipeline = self.pick(version)
            if face.endswith("-stream") and (key := caller.get()):
                key.spend()  # other faces have asked for it before (api/access.py)
            request = Request(
                face, model or pipeline.model.name, pipeline, self.gate, start, start + wanted_s,
                timeout_s is not None, level, start, upload_bytes, visits.current.get(),
            )  # fmt: skip
            if not wanted_s > 0:
                raise Expired("the deadline passed before the request arrived")
            if upload_bytes > self.limits.max_request_bytes:
                raise self.limits.too_large(upload_bytes)
            first = min(upload_bytes, CHUNK_BYTES)
            self.gate.enter(pipeline.users, first)
            request.uploaded = request.held = first
        except ServeError as error:
            self.refused(face, error, request)
            raise
        try:
            if check:
                pipeline.estimate.check(request)
            yield request
        except BaseException as error:
            self.refused(face, error, request)
            raise
        else:
            if not request.timings and request.failure:
                self.refused(face, request.failure, request)
                if request.visit:
                    request.visit.error = request.failure
            if request.timings:
                # After the answer has gone out, and before its caller could ask for the counts.
                number, total_s = request.version.number, time.monotonic() - start
                asyncio.get_running_loop().call_soon(
                    self.metrics.request_answered,
                    face, request.model, number, request.timings, total_s,
                )  # fmt: skip
        finally:
            if request.visit:
                request.visit.version = request.version.number
            self.gate.leave(request.version.users, request.uploaded)

    def amend(
        self,
        request: Request,
        timeout_s: float | None = None,
        priority: int | None = None,
        version: str = "",
    ) -> None:
        """What a message asks for that was read after the request was admitted: a timeout from
        then, a priority, a version. Raises as `admit` does."""
        if version and version != request.version.number:
            pipeline = self.pick(version)
            pipeline.users.count += 1
            request.version.users.leave()
            request.version = pipeline
        if priority is not None:
            request.level = self._level(priority)
        if timeout_s is not None:
            if not timeout_s > 0:
                raise Expired("the deadline passed before the request arrived")
            latest = request.deadline if request.has_deadline else math.inf
            request.deadline = min(latest, request.received + timeout_s)

    def classify(
        self,
        request: Request,
        photo: Photo,
        waited: bool = False,
        square: bool = False,
        fresh: bool = False,
        look_inside: bool = False,
    ) -> Awaitable[Answer]:
        """Raises a ServeError, at once or when awaited; nothing else is the caller's doing.
        `waited`: other photos of the request came first. `square`, `look_inside`: see Job. `fresh`:
        not from the cache, which keeps no crops."""
        if self._cache is None or square or fresh or look_inside:
            return self._compute(request, photo, waited, square, look_inside)
        return self._cache.answer(request, photo, lambda: self._compute(request, photo, waited))

    def _compute(
        self,
        request: Request,
        photo: Photo,
        waited: bool,
        square: bool = False,
        look_inside: bool = False,
    ) -> Awaitable[Answer]:
        job = Job(request, request.deadline, request.level, square, look_inside)
        try:
            if waited and time.monotonic() >= request.deadline:
                raise Expired("the deadline passed before it was this photo's turn")
            request.version.start(job, photo)
        except Exception as error:
            job.settle(error if isinstance(error, ServeError) else ServeError())
            raise
        return job.answer()

    async def classify_many(
        self,
        request: Request,
        photos: Sequence[Photo],
        *,
        all_or_none: bool = False,
        fresh: bool = False,
    ) -> list[Answer | ServeError]:
        """Many photos of one request at once, so that they share batches. Each has its own end, and
        the request counts as failed when none was answered; with `all_or_none` the first photo that
        fails, fails the request: then a ServeError is raised."""
        if (key := caller.get()) and len(photos) > 1:
            key.spend(len(photos) - 1, debt=True)
        window = asyncio.Semaphore(self.share)

        async def answer(number: int, photo: Photo) -> Answer | ServeError:
            async with window:
                try:
                    return await self.classify(request, photo, number >= self.share, fresh=fresh)
                except ServeError as error:
                    if not all_or_none:
                        return error.without_traceback()
                    if isinstance(error, BadImage | UnsupportedImage | TooLarge):
                        raise type(error)(f"photo {number}: {error}") from None
                    raise

        tasks = [asyncio.ensure_future(answer(i, photo)) for i, photo in enumerate(photos)]
        try:
            answers = await asyncio.gather(*tasks)
        finally:
            while tasks:  # or task, error, traceback, this frame: a circle
                tasks.pop().cancel()
        request.failure = next((a for a in answers if isinstance(a, ServeError)), None)
        return answers

    def refused(self, face: str, error: BaseException, request: Request | None = None) -> None:
        """Counts a request that failed, admitted or not."""
        error = outcome(error)
        visit = request.visit if request else visits.current.get()
        if visit:
            visit.counted = True
        if not request or isinstance(error, NotFound):  # no version's doing
            self.metrics.request_failed(face, error)
            return
        total_s = time.monotonic() - request.start
        number = request.version.number
        self.metrics.request_failed(face, error, request.model, number, total_s)

    async def drain(self, timeout_s: float) -> bool:
        """Admits nothing any more and waits for what was admitted; False if some is left."""
        self.state = State.STOPPING
        return await self.gate.drain(timeout_s)

    def _level(self, priority: int | None) -> int:
        highest, default = self.levels
        if priority is None:
            return default
        if not 1 <= priority <= self.limits.priority_levels:
            levels = self.limits.priority_levels
            raise BadRequest(f"priority must lie between 1, the highest, and {levels}")
        if priority < highest:
            raise Forbidden(f"this key may name priority {highest} or lower ones: 1 is the highest")
        return priority

    def _backlog_s(self) -> float:
        return max((p.estimate.backlog_s() for p in self.repository.served), default=0.0)
