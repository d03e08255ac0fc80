"""The lane for photos that are larger than a worker's part of the memory: one at a time, of all."""

import fcntl
import os
from pathlib import Path


class Lane:
    """A lock on a file, which ends with the process that holds it. Not for several threads."""

    def __init__(self, path: Path, most_bytes: int):
        """`most_bytes`: of what goes through it. Raises OSError."""
        self.most_bytes = most_bytes
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def enter(self) -> bool:
        """Whether it was free."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def leave(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)
