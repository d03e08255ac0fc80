"""The life of a photo in three types: the Request that brings it, its Job, and the Answer.

All times are of time.monotonic.
"""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from alexnet.header import Header
from alexnet.preprocess import Photo
from server.engines.activation import Inside
from server.engines.model import Model
from server.errors import Cancelled, Expired, ServeError
from server.scheduler.gate import Gate, Occupancy
from server.telemetry.counts import Timing
from server.telemetry.traces import Trace
from server.telemetry.visits import Visit

STAGES = "decode_queue", "decode", "batch_queue", "infer"

Body = TypeVar("Body")
Row = NDArray[np.float32]
"""Of probabilities: (classes,)"""


class Version(Protocol):
    """What serves a request: scheduler/pipeline.py."""

    number: str
    model: Model
    users: Occupancy
    max_batch_size: int

    def start(self, job: "Job", photo: bytes | NDArray[np.uint8]) -> None: ...
    def decoded(self, job: "Job") -> None: ...
    def ended(self, job: "Job", outcome: Timing | ServeError) -> None: ...


@dataclass(frozen=True)
class Cut:
    """Of crops that are made here, of the request's photo: when they were ready, and the photo's
    time in the decoder where it is not counted as a photo itself."""

    ready: float
    decode_queue: float = 0.0
    decode: float = 0.0


@dataclass(eq=False)
class Request:
    """What a caller asked for, from its admission to its end."""

    face: str
    """The protocol: rest, grpc, grpc-stream, oip-rest, oip-grpc or oip-grpc-stream."""
    model: str
    """The name that was asked for: several share an engine."""
    version: Version
    gate: Gate
    start: float
    deadline: float
    has_deadline: bool
    """The call names one; else it is the server's own."""
    level: int
    """Priority: 1 is the highest."""
    received: float
    """When its photos were here; `start` where they came with it."""
    upload_bytes: int
    """At most; 0 where its photos came with it."""
    visit: Visit | None = None
    """For the access log and the traces."""
    uploaded: int = 0
    """Bytes that are counted for its upload."""
    held: int = 0
    """Bytes that are counted for it: the upload and the photos."""
    cut: Cut | None = None
    """Of the crops that follow."""
    failure: ServeError | None = None
    """Of the first of its photos that failed."""
    timings: list[Timing] = field(default_factory=list)
    """Of its photos that were answered."""

    def hold_upload(self, size: int) -> None:
        """From now on its upload is counted as so many bytes. Raises Overloaded."""
        more = size - self.uploaded
        if more > 0:
            self.gate.hold(more, self.held)
        else:
            self.gate.free(-more)
        self.uploaded += more
        self.held += more

    async def receive(self, body: Awaitable[Body]) -> Body:
        """The body. Raises Expired when it is not here at the deadline, or after the server's own
        timeout: a slow upload must not keep its place for as long as the caller likes."""
        end = min(self.deadline, self.start + self.gate.limits.request_timeout_s)
        try:
            async with asyncio.timeout(end - time.monotonic()):
                received = await body
        except TimeoutError:
            raise Expired.after(self.start) from None
        finally:
            self.received = time.monotonic()
            if self.trace:
                self.trace.stage("upload", self.start, self.received)
        return received

    @property
    def trace(self) -> Trace | None:
        return self.visit.trace if self.visit else None


@dataclass(frozen=True)
class Answer:
    """What the network says of one photo, and where the time went."""

    probabilities: Row
    timing: Timing
    photo: Photo | None
    """None when the caller sent pixels."""
    version: Version
    inside: Inside | None = None
    """Where it was asked for."""


@dataclass(eq=False)
class Job:
    """One photo on its way through the stages; settled exactly once, on the event loop."""

    request: Request
    deadline: float
    level: int
    square: bool = False
    """It ends decoded, with the whole central square as its crop, and no engine runs it: the square
    is cut into views, which are jobs of their own."""
    look_inside: bool = False
    """Its answer has what happened inside of the network."""
    image: bytes = b""
    header: Header | None = None
    crop: NDArray[np.uint8] | None = None
    """(crop, crop, 3); None until decoded."""
    cut: Cut | None = None
    """None of a photo, and of a crop that the caller sent."""
    photo: Photo | None = None
    held: int = 0
    """Bytes, of those of the request."""
    decoding_bytes: int = 0
    """What it takes beside those while it is decoded."""

    decode_s: float = 0.0
    """What decoding it is expected to cost one thread."""
    costly: bool = False
    """Decoding it takes so long that others would wait: scheduler/decoder.py."""
    expected: float = 0.0
    """When its answer is expected."""
    probe: bool = False
    """Admitted although the estimate says no: the cost model learns from it."""

    queued: float = 0.0
    decode_started: float = 0.0
    decoded: float = 0.0
    infer_started: float = 0.0
    inferred: float = 0.0
    batch_size: int = 0
    """0 until an engine has taken it."""
    inside: Inside | None = None

    batch: Any = None
    """The batch it ran in, where that is traced."""

    settled: bool = False
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _timer: asyncio.TimerHandle | None = None
    _answer: "asyncio.Future[Answer] | None" = None

    @property
    def arrived(self) -> float:
        return self.cut.ready if self.cut else self.request.received

    @property
    def over(self) -> bool:
        """Settled, or about to be: its caller has gone, and the event loop has not turned yet."""
        answer = self._answer
        return self.settled or (answer is not None and answer.done())

    async def answer(self) -> Answer:
        """To be called once the job has started. Raises a ServeError: Expired at the deadline.
        Cancelled, the job leaves whichever queue it is in, at once."""
        self._timer = self.loop.call_at(self.deadline, self._expire)
        self._answer = self.loop.create_future()
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.settle(Cancelled())
            raise
        finally:
            self._answer = None  # an error's traceback leads here, and must not lead to itself

    def settle(self, result: Row | ServeError) -> None:
        """The only way out. Wakes the caller, gives the bytes back, counts the end and teaches the
        estimates; what comes second is ignored."""
        if self.settled or (self.over and not isinstance(result, Cancelled)):
            return
        self.settled, now, request = True, time.monotonic(), self.request
        waiting = self._answer if self._answer and not self._answer.done() else None
        request.held -= self.held
        request.gate.free_photo(self)
        if self._timer:
            self._timer.cancel()
        if isinstance(result, ServeError):
            if waiting:
                waiting.set_exception(result)
            self._tell_visit(result)
            request.version.ended(self, result)
            return
        timing = Timing(
            upload=request.received - request.start,
            decode_queue=self.decode_started - self.arrived,
            decode=self.decoded - self.decode_started,
            batch_queue=self.infer_started - self.decoded,
            infer=self.inferred - self.infer_started,
            total=now - request.start,
            batch_size=self.batch_size,
        )
        if cut := self.cut:
            timing = replace(timing, decode_queue=cut.decode_queue, decode=cut.decode)
        if not self.square:
            request.timings.append(timing)
        if waiting:
            answer = Answer(result, timing, self.photo, request.version, self.inside)
            waiting.set_result(answer)
        self._tell_visit(timing)
        request.version.ended(self, timing)

    def fail(self, error: ServeError) -> None:
        """`settle`, from any thread."""
        self.loop.call_soon_threadsafe(self.settle, error)

    def _tell_visit(self, outcome: Timing | ServeError) -> None:
        if visit := self.request.visit:
            visit.photo(self.photo or self.header, self.held, outcome, crop=self.cut is not None)
            if visit.trace:
                self._tell_trace(visit.trace, time.monotonic())

    def _tell_trace(self, trace: Trace, now: float) -> None:
        """A span for each stage that it came to; the last may have been cut short."""
        if not self.queued:
            return
        times = self.arrived, self.decode_started, self.decoded, self.infer_started
        for stage, start, end in zip(STAGES, times, (*times[1:], self.inferred), strict=True):
            if start and start != end:
                last = stage == "infer"
                size = {"alexnet.batch_size": self.batch_size} if last else None
                links = (self.batch,) if last and self.batch else ()
                trace.stage(stage, start, end or now, size, links)

    def _expire(self) -> None:
        self.settle(Expired.after(self.request.start))
