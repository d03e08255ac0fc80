"""A plain file's bytes: what else may lie under its name never ends, or blocks its reader."""

import os
import stat
from pathlib import Path


def read_plain(path: Path, most: int) -> bytes:
    """At most so many bytes, else ValueError; OSError where no plain file can be read.

    A FIFO or a device is not waited for.
    """
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:  # noqa: PTH123
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is no plain file")
        if status.st_size > most:
            raise ValueError(f"{path} has more than {most:,} bytes")
        return file.read(status.st_size)
