"""Answers that are kept for photos that come again, by the hash of their bytes, before any decode.

What is kept of an answer is all that it says: it is the same bit for bit. Photos that are equal and
under way at once share one computation. On the event loop only.
"""

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from alexnet.preprocess import Photo
from server.errors import Expired, ServeError
from server.scheduler.job import Answer, Request, Row, Version
from server.telemetry.counts import Timing
from server.telemetry.metrics import Metrics

LARGE_BYTES = 1 << 18
"""More is hashed beside the event loop: so much takes 0.2 ms."""
ENTRY_BYTES = 1_500
"""What an entry takes beside its probabilities, measured in tests/unit/test_cache.py."""
_NO_CROP = np.empty((0, 0, 3), np.uint8)


class _Kept(NamedTuple):
    probabilities: Row
    photo: Photo | None


class AnswerCache:
    def __init__(self, max_bytes: int, metrics: Metrics):
        self.max_bytes, self._metrics = max_bytes, metrics
        self.held = 0
        """Bytes, counted as `_size` does."""
        self._entries: OrderedDict[bytes, _Kept] = OrderedDict()
        """The one that was asked for last is the last."""
        self._computing: dict[tuple[bytes, int], asyncio.Future[_Kept | None]] = {}
        """By hash and level of priority: none waits for a photo that may wait longer."""
        self._salts: WeakKeyDictionary[Version, bytes] = WeakKeyDictionary()
        metrics.caching(lambda: self.held, lambda: len(self._entries))

    async def answer(
        self,
        request: Request,
        photo: bytes | NDArray[np.uint8],
        compute: Callable[[], Awaitable[Answer]],
    ) -> Answer:
        """One that is kept, or what `compute` answers. Raises as that does, and Expired."""
        version, start = request.version, time.monotonic()
        key = await self._key(version, photo)
        shared = key, request.level
        while True:
            kept = self._entries.get(key)
            if kept is None and shared in self._computing:
                kept = await self._computed(shared, request)
            if kept is not None:
                size = len(photo) if isinstance(photo, bytes) else 0
                return self._hit(request, key, kept, size, time.monotonic() - start)
            if shared not in self._computing:
                break
        looked_s = time.monotonic() - start
        ended = self._computing[shared] = asyncio.get_running_loop().create_future()
        kept = None
        try:
            answer = await compute()
            start = time.monotonic()
            kept = _kept(answer)
            self._keep(key, kept)
        finally:
            del self._computing[shared]
            ended.set_result(kept)
        looked_s += time.monotonic() - start
        self._metrics.cache_asked(request.model, version.number, False, looked_s)
        return answer

    async def _key(self, version: Version, photo: bytes | NDArray[np.uint8]) -> bytes:
        """Of version and photo: new weights under the same number have other keys."""
        salt = self._salts.setdefault(version, os.urandom(16))
        kind, data = (b"photo", photo) if isinstance(photo, bytes) else (b"crop", photo.tobytes())

        def digest() -> bytes:
            hashed = sha256(salt + kind)
            hashed.update(data)
            return hashed.digest()

        if len(data) > LARGE_BYTES:
            return await asyncio.to_thread(digest)
        return digest()

    async def _computed(self, shared: tuple[bytes, int], request: Request) -> _Kept | None:
        """None where the other photo failed: it may have had less time. Raises Expired."""
        other = self._computing[shared]
        left_s = max(0.0, request.deadline - time.monotonic())
        await asyncio.wait([other], timeout=left_s)
        if other.done():
            return other.result()
        expired = Expired.after(request.start)
        self._ended(request, None, 0, expired)
        self._metrics.photo_failed(request.version.number, expired.reason, True)
        raise expired

    def _hit(self, request: Request, key: bytes, kept: _Kept, size: int, looked_s: float) -> Answer:
        if key in self._entries:
            self._entries.move_to_end(key)
        upload, total = request.received - request.start, time.monotonic() - request.start
        timing = Timing(upload, 0.0, 0.0, 0.0, 0.0, total, batch_size=0, cached=True)
        request.timings.append(timing)
        self._ended(request, kept.photo, size, timing)
        number = request.version.number
        self._metrics.cache_asked(request.model, number, True, looked_s)
        return Answer(kept.probabilities, timing, kept.photo, request.version)

    def _ended(
        self, request: Request, photo: Photo | None, size: int, outcome: Timing | ServeError
    ) -> None:
        if request.visit:
            request.visit.photo(photo, size, outcome)

    def _keep(self, key: bytes, kept: _Kept) -> None:
        size = _size(kept)
        if size > self.max_bytes or key in self._entries:
            return
        self._entries[key] = kept
        self.held += size
        while self.held > self.max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self.held -= _size(oldest)


def _kept(answer: Answer) -> _Kept:
    """Without the crop, which is forty times the rest, and with a row that holds no batch."""
    row = answer.probabilities.copy()
    row.flags.writeable = False
    return _Kept(row, answer.photo and replace(answer.photo, crop=_NO_CROP))


def _size(kept: _Kept) -> int:
    texts = (kept.photo.icc, *kept.photo.warnings) if kept.photo else ()
    return ENTRY_BYTES + kept.probabilities.nbytes + sum(4 * len(text) for text in texts)
