"""The right to one request's worth of work."""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

from server.errors import Expired
from server.models.version import Served
from server.telemetry.counts import Timing

Body = TypeVar("Body")


@dataclass
class Admission:
    """What happens to it is counted once, by the plane."""

    face: str
    model: str
    """The name that was asked for: several share an engine."""
    served: Served
    start: float
    deadline: float
    """A time of time.monotonic, like `start`."""
    level: int
    uploaded: bool = False
    """Its upload was counted before it was read."""
    held: int = 0
    """Bytes that its photos are counted with."""
    timings: list[Timing] = field(default_factory=list)
    """Of the photos that were answered."""

    async def in_time(self, body: Awaitable[Body], most_s: float) -> Body:
        """Raises Expired when it is not here at the deadline, or `most_s` after the start: a
        trickle must not hold the place for as long as the caller likes."""
        end = min(self.deadline, self.start + most_s)
        try:
            async with asyncio.timeout(end - time.monotonic()):
                return await body
        except TimeoutError:
            raise Expired.after(self.start) from None
