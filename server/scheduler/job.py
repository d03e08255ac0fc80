"""One photo's way through the server: who it belongs to, until when, and its answer."""

import asyncio
import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from alexnet.header import Header
from alexnet.preprocess import Photo
from server.errors import Expired


@dataclass(frozen=True)
class Inferred:
    """One photo's row of the engine's answer."""

    probabilities: NDArray[np.float32]
    """(classes,)"""
    batch_size: int


@dataclass(eq=False)
class Job:
    """Settled exactly once, on the loop that made it; times are of time.monotonic."""

    start: float
    """Of the request it belongs to."""
    deadline: float
    level: int = 1
    """Priority: 1 is the highest."""
    image: bytes = b""
    header: Header | None = None
    crop: NDArray[np.uint8] | None = None
    """(crop, crop, 3); None until decoded."""
    photo: Photo | None = None
    model: str = ""
    """The name that was asked for; several share an engine."""

    decode_s: float = 0.0
    """What decoding it is expected to cost one thread."""
    expected: float = 0.0
    """When its answer is expected."""
    trial: bool = False
    """Decoded and run though it is expected to be late."""

    arrived: float = field(default_factory=time.monotonic)
    decode_started: float = 0.0
    decoded: float = 0.0
    infer_started: float = 0.0
    inferred: float = 0.0

    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    answer: "asyncio.Future[Inferred]" = field(init=False)

    def __post_init__(self) -> None:
        self.answer = self.loop.create_future()

    def fail(self, error: Exception) -> None:
        """From any thread; nothing happens when it is settled."""
        self.loop.call_soon_threadsafe(self._fail, error)

    def expire(self) -> None:
        """To be called on the loop, when the deadline has passed."""
        self._fail(Expired.after(self.start))

    def abandon(self) -> None:
        """Nobody waits for the answer any more; an error in it has a traceback with frames that
        have the job: a circle."""
        self.answer = self.loop.create_future()
        self.answer.cancel()

    def _fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
