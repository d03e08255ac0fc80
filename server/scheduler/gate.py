"""The gate that requests come in by: places, bytes, streams, and the drain."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from random import uniform
from typing import Protocol

from server.errors import Overloaded, TooLarge
from server.scheduler import cpus

CHUNK_BYTES = 1 << 16
"""Of an upload that is under way, what is counted beyond the bytes that are here."""
LEAST_WAIT_S = 0.1
"""Until room is looked for again, where what holds it is late."""


@dataclass(frozen=True)
class Limits:
    max_queue_size: int
    max_request_bytes: int
    max_photo_bytes: int
    """Encoded and decoded, of all requests that are admitted."""
    request_timeout_s: float
    priority_levels: int = 1
    default_priority_level: int = 1

    def too_large(self, size: int | None = None) -> TooLarge:
        upload = f"the upload has {size:,} bytes" if size else "the upload is too large"
        return TooLarge(f"{upload}; at most {self.max_request_bytes:,} are accepted")


class Holder(Protocol):
    """A photo whose bytes are counted: scheduler/job.py."""

    held: int
    expected: float


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


class Gate:
    """Counts what is inside; the event loop only."""

    def __init__(self, limits: Limits, backlog_s: Callable[[], float]):
        """`backlog_s`: how long until everything that waits now is answered."""
        self.limits, self._backlog_s = limits, backlog_s
        self.held = 0
        """Bytes of all requests inside, of `limits.max_photo_bytes`."""
        self.places, self._streams = Occupancy(), 0
        self._holders: set[Holder] = set()
        self.aside: Executor = ThreadPoolExecutor(1, "body", cpus.yield_to_others, (cpus.DECODER,))
        """For what takes long with a body before its photos are known: one at a time, as several
        keep the interpreter, or both CPUs, from everything else."""

    def enter(self, users: Occupancy, upload_bytes: int) -> None:
        """Takes a place, and counts the first bytes of an upload, until `leave`. `users` are the
        requests of the same version. Raises Overloaded."""
        if self.places.count >= self.limits.max_queue_size:
            text = f"all {self.limits.max_queue_size} places are taken; try again later"
            raise Overloaded(text, jittered(self._backlog_s()))
        if upload_bytes:
            self.hold(upload_bytes, 0)
        self.places.count += 1
        users.count += 1

    def leave(self, users: Occupancy, held: int) -> None:
        self.free(held)
        self.places.leave()
        users.leave()

    def hold(self, size: int, mine: int) -> None:
        """Counts so many bytes more for a request that holds `mine`. One that is alone always has
        room: its own limits bound it. Raises Overloaded."""
        most = self.limits.max_photo_bytes
        if self.held > mine and self.held + size > most:
            text = f"the photos under way hold {self.held:,} of {most:,} bytes; try again later"
            raise Overloaded(text, jittered(self._room_s(min(self.held, self.held + size - most))))
        self.held += size

    def free(self, size: int) -> None:
        self.held -= size

    def hold_photo(self, photo: Holder, size: int, mine: int) -> None:
        """`hold`, until `free_photo`: when that is expected tells others when to come again."""
        self.hold(size, mine)
        photo.held = size
        self._holders.add(photo)

    def free_photo(self, photo: Holder) -> None:
        self._holders.discard(photo)
        self.free(photo.held)

    def _room_s(self, needed: int) -> float:
        """How long until so many bytes are given back: by photos when they are answered, by what
        is uploaded when its time is over, or earlier."""
        now = time.monotonic()
        for photo in sorted(self._holders, key=lambda photo: photo.expected):
            needed -= photo.held
            if needed <= 0:
                return max(LEAST_WAIT_S, photo.expected - now)
        return self.limits.request_timeout_s

    @contextmanager
    def stream(self) -> Iterator[None]:
        """A stream's place, idle or not. Raises Overloaded: some calls must be left for others."""
        most = self.limits.max_queue_size
        if self._streams >= most:
            raise Overloaded(f"all {most} streams are taken; try again later", jittered(1.0))
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    async def drain(self, timeout_s: float) -> bool:
        """Waits until everything inside is answered; False if something is left."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.places.empty()
        except TimeoutError:
            return False
        return True


def jittered(seconds: float) -> float:
    """Half to one and a half of it, so that refused callers do not all come back at once."""
    return max(0.01, seconds) * uniform(0.5, 1.5)
