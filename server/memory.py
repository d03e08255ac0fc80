"""The memory that the C library keeps for later."""

import ctypes
from contextlib import suppress

_M_MMAP_THRESHOLD = -3
LARGE_BYTES = 4 << 20


def return_large_blocks() -> None:
    """To the system, as soon as they are free. glibc keeps blocks of up to 32 MB once it has seen
    such a one, which was 100 MB under large messages. Other libraries have no such setting.
    https://man7.org/linux/man-pages/man3/mallopt.3.html"""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
