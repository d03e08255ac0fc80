"""What a key may still ask for: so many requests a second, of all workers together."""

import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TIME = struct.Struct("d")


class Allowance:
    """A second's worth at once, and then at the rate (GCRA, ITU-T I.371): one number is kept, the
    moment of time.monotonic at which all that was asked for is paid off."""

    def __init__(self, path: Path | None = None):
        """A file at the `path` is shared with other processes; all zeros is a new one."""
        self._file = None
        if path:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            os.ftruncate(self._file, _TIME.size)
        self._paid = mmap.mmap(-1 if self._file is None else self._file, _TIME.size)

    def spend(self, count: int, rate: float, now: float, debt: bool = False) -> float:
        """0.0, or how many seconds too early it is: then nothing is spent. With `debt` it is spent
        all the same, and what comes later waits."""
        with self._alone():
            paid = max(_TIME.unpack_from(self._paid)[0], now) + count / rate
            early_s = paid - now - max(1.0, 1 / rate)
            if early_s > 1e-9 and not debt:  # rounding is no reason
                return float(early_s)
            _TIME.pack_into(self._paid, 0, paid)
            return 0.0

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._file is None:
            yield
            return
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
