"""The gate that requests come in by: places, bytes, streams, and the drain."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import uniform
from typing import Protocol

from server.errors import NotReady, Overloaded


@dataclass(frozen=True)
class Limits:
    max_queue_size: int
    max_request_bytes: int
    max_photo_bytes: int
    """Encoded and decoded, of all requests that are admitted."""
    request_timeout_s: float
    priority_levels: int = 1
    default_priority_level: int = 1


class Occupancy:
    """How many are inside (`count` += 1 enters), and a way to wait until none is."""

    def __init__(self) -> None:
        self.count = 0
        self._emptied = asyncio.Event()

    def leave(self) -> None:
        self.count -= 1
        if self.count == 0:
            self._emptied.set()

    async def empty(self) -> None:
        while self.count:
            self._emptied.clear()
            await self._emptied.wait()


class Version(Protocol):
    users: Occupancy


class Entering(Protocol):
    """A request, as the gate sees it."""

    held: int

    @property
    def version(self) -> Version: ...


class Gate:
    """Counts what is inside; the event loop only."""

    def __init__(self, limits: Limits, backlog_s: Callable[[], float]):
        """`backlog_s`: how long until everything that waits now is answered."""
        self.limits, self._backlog_s = limits, backlog_s
        self.open = True
        self.held = 0
        """Bytes of all requests inside, of `limits.max_photo_bytes`."""
        self._places, self._streams = Occupancy(), 0

    @property
    def taken(self) -> int:
        """Places, of `limits.max_queue_size`."""
        return self._places.count

    def enter(self, request: Entering, upload_bytes: int = 0) -> None:
        """Takes a place, and counts what the upload may have, until `leave`. Raises NotReady,
        Overloaded."""
        if not self.open:
            raise NotReady("the server is stopping")
        if self._places.count >= self.limits.max_queue_size:
            raise Overloaded(
                f"all {self.limits.max_queue_size} places are taken; try again later",
                retry_after_s=jittered(self._backlog_s()),
            )
        if upload_bytes:
            self.hold(request, upload_bytes)
        self._places.count += 1
        request.version.users.count += 1

    def leave(self, request: Entering) -> None:
        self.held -= request.held
        request.held = 0
        self._places.leave()
        request.version.users.leave()

    def hold(self, request: Entering, size: int) -> None:
        """Counts so many bytes more for a request. One that is alone always has room: its own
        limits bound it. Raises Overloaded."""
        most = self.limits.max_photo_bytes
        if self.held > request.held and self.held + size > most:
            raise Overloaded(
                f"the photos under way hold {self.held:,} of {most:,} bytes; try again later",
                retry_after_s=jittered(self._backlog_s()),
            )
        self.held += size
        request.held += size

    @contextmanager
    def stream(self) -> Iterator[None]:
        """A stream's place, idle or not. Raises Overloaded: some calls must be left for others."""
        if self._streams >= self.limits.max_queue_size:
            raise Overloaded(
                f"all {self.limits.max_queue_size} streams are taken; try again later",
                retry_after_s=jittered(1.0),
            )
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    async def drain(self, timeout_s: float) -> bool:
        """Closes, and waits until everything inside is answered; False if something is left."""
        self.open = False
        try:
            async with asyncio.timeout(timeout_s):
                await self._places.empty()
        except TimeoutError:
            return False
        return True


def jittered(seconds: float) -> float:
    """Half to one and a half of it, so that refused callers do not all come back at once."""
    return max(0.01, seconds) * uniform(0.5, 1.5)
