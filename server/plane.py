"""The use case, free of any protocol: admit, decode, infer, rank. Faces convert and call this."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import Enum

from alexnet.labels import Label
from alexnet.postprocess import softmax, top_k
from alexnet.preprocess import Photo
from server.batcher import Batcher
from server.decode import Decoder
from server.errors import BadImage, BadRequest, Expired, NotReady, Overloaded, ServeError, TooLarge
from server.metrics import Metrics, Timing
from server.repository import Model

DEFAULT_TOP_K = 5
FAILURES_UNTIL_NOT_READY = 3
FAILURE_PAUSE_S = 10.0


class State(Enum):
    SERVING = "serving"
    LEAVING = "leaving"  # not ready any more, but who still comes is served
    STOPPING = "stopping"  # nobody is admitted; who was admitted is answered


@dataclass(frozen=True)
class Limits:
    max_queue_size: int
    max_request_bytes: int
    request_timeout_s: float


@dataclass(frozen=True)
class Prediction:
    index: int
    label: Label
    probability: float


@dataclass(frozen=True)
class Classification:
    predictions: list[Prediction]
    photo: Photo
    timing: Timing


@dataclass(frozen=True)
class Admission:
    """The right to one photo's worth of work; what happens to it is counted once."""

    face: str
    start: float
    deadline: float
    """A time of time.monotonic, like `start`."""

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Raises Expired when the block has not ended at the deadline."""
        try:
            async with asyncio.timeout(self.deadline - time.monotonic()):
                yield
        except TimeoutError:
            spent = round((time.monotonic() - self.start) * 1000)
            raise Expired(f"the deadline passed after {spent} ms") from None


class DataPlane:
    def __init__(
        self, model: Model, decoder: Decoder, batcher: Batcher, limits: Limits, metrics: Metrics
    ):
        self.model, self.limits = model, limits
        self.state = State.SERVING
        self._decoder, self._batcher, self._metrics = decoder, batcher, metrics
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._seconds_each = 0.0  # between two answers while busy, smoothed
        self._last_answer = 0.0
        metrics.watch(lambda: self.ready, lambda: self._in_flight, lambda: len(batcher))

    @property
    def ready(self) -> bool:
        """For probes and load balancers.

        An engine that keeps failing is not ready either, until it has had a pause: a balancer that
        sends nothing to who is not ready would never find out that it works again.
        """
        failing = self._batcher.failures >= FAILURES_UNTIL_NOT_READY
        paused = time.monotonic() - self._batcher.last_failure > FAILURE_PAUSE_S
        return self.state is State.SERVING and (paused or not failing)

    @contextmanager
    def admit(
        self, face: str, timeout_s: float | None = None, form: Admission | None = None
    ) -> Iterator[Admission]:
        """One photo's place, held while the block runs; errors inside it are counted.

        Enter it before the photo is read from the network: memory is bounded by it too. Raises
        Overloaded at once when every place is taken, and Expired for a timeout of zero. A photo
        of a `form` that was admitted shares its deadline, and a stopping server still takes it.
        """
        try:
            self._check_place(form)
            start = time.monotonic()
            deadline = form.deadline if form else start + self._timeout(timeout_s)
            admission = Admission(face, start, deadline)
        except ServeError as error:
            self._metrics.failed(face, error.reason)
            raise
        with self.hold():
            try:
                yield admission
            except ServeError as error:
                self._metrics.failed(face, error.reason)
                raise
            except asyncio.CancelledError:
                self._metrics.failed(face, "cancelled")
                raise
            except Exception:
                self._metrics.failed(face, "internal")
                raise

    @contextmanager
    def hold(self) -> Iterator[None]:
        """A place for what was admitted already: the drain waits for it, nothing is counted."""
        self._in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            if self._in_flight == 0:
                self._idle.set()

    async def classify(
        self, image: bytes, admission: Admission, k: int | None = None
    ) -> Classification:
        """Raises a ServeError; nothing else is the caller's doing."""
        k = self._checked_k(k)
        self._check_size(image)
        async with admission.in_time():
            started = time.monotonic()
            photo = await self._decoder.decode(image)
            decoded = time.monotonic()
            inferred = await self._batcher.infer(photo.crop, admission.deadline)
        ranked = top_k(softmax(inferred.logits), k)
        labels = self.model.bundle.labels
        predictions = [Prediction(r.index, labels[r.index], r.probability) for r in ranked]
        now = time.monotonic()
        self._answered(now)
        timing = Timing(
            decode=decoded - started,
            queue=inferred.queue,
            infer=inferred.infer,
            total=now - admission.start,
            batch_size=inferred.batch_size,
        )
        self._metrics.classified(admission.face, timing)
        return Classification(predictions, photo, timing)

    async def drain(self, timeout_s: float) -> bool:
        """Admits nobody any more and waits for who was admitted; False if some are left."""
        self.state = State.STOPPING
        try:
            async with asyncio.timeout(timeout_s):
                while self._in_flight:
                    await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def _check_place(self, form: Admission | None) -> None:
        if self.state is State.STOPPING and form is None:
            raise NotReady("the server is stopping")
        others = self._in_flight - (form is not None)  # the form's own place is for its photos
        if others >= self.limits.max_queue_size:
            raise Overloaded(
                f"all {self.limits.max_queue_size} places are taken; try again later",
                retry_after_s=max(0.1, self._in_flight * self._seconds_each),
            )

    def _check_size(self, image: bytes) -> None:
        if not image:
            raise BadImage("the image is empty (0 bytes)")
        if len(image) > self.limits.max_request_bytes:
            raise self.too_large(len(image))

    def too_large(self, size: int | None = None) -> TooLarge:
        upload = f"the upload has {size:,} bytes" if size else "the upload is too large"
        return TooLarge(f"{upload}; at most {self.limits.max_request_bytes:,} are accepted")

    def _timeout(self, timeout_s: float | None) -> float:
        if timeout_s is None:
            return self.limits.request_timeout_s
        if not timeout_s > 0:
            raise Expired("the deadline passed before the request arrived")
        return timeout_s

    def _checked_k(self, k: int | None) -> int:
        classes = self.model.classes
        if k is None:
            return min(DEFAULT_TOP_K, classes)
        if not 1 <= k <= classes:
            raise BadRequest(f"top_k must lie between 1 and {classes}, not {k}")
        return k

    def _answered(self, now: float) -> None:
        """Learns how long an answer takes while answers follow each other."""
        gap = min(now - self._last_answer, 1.0)
        self._seconds_each += 0.05 * (gap - self._seconds_each)
        self._last_answer = now
