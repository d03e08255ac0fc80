"""The bytes that a decoder reads, which stop coming once the photo is of no use any more.

Pillow reads 64 KB at a time; in between its C code runs without the interpreter, and cannot be
stopped. What a block may cost at most is bounded by the price of the photo (alexnet/formats/).
"""

import io
from collections.abc import Callable

_MARKERS = (1, 2)  # of a header, which is short: not worth the question


Over = Callable[[], bool]


class OutOfTime(Exception):
    """The decode was given up: its end has come."""


def never() -> bool:
    return False


class Source(io.BytesIO):
    def __init__(self, data: bytes, over: Over = never):
        super().__init__(data)
        self._over = over

    def read(self, size: int | None = -1, /) -> bytes:
        """Raises OutOfTime."""
        if size not in _MARKERS and self._over():
            raise OutOfTime
        return super().read(size)
