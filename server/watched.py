"""Files that are read again when they change, and on SIGHUP, without a restart."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path

log = logging.getLogger(__name__)


class Unusable(OSError):
    """What the files hold cannot be used; the message names the file, and never what is in it."""


class Watched(ABC):
    """Files that belong together. What cannot be used leaves in place what was read before."""

    def __init__(self, name: str, *paths: Path):
        self.name, self._paths = name, paths
        self.followers: list[Callable[[], Awaitable[None]]] = []
        """Called on the event loop when the files have been read again."""
        self._seen = self._marks()
        self.read()

    @abstractmethod
    def read(self) -> None:
        """Takes over what the files hold now, all of it or nothing. Raises OSError."""

    async def refresh(self, anyway: bool = False) -> None:
        """Reads the files if they have changed, or `anyway`."""
        try:
            if not await asyncio.to_thread(self._refresh, anyway):
                return
        except OSError as error:
            log.error("the %s stay as they were: %s", self.name, error)
            return
        except Exception:
            log.exception("a bug kept the %s as they were", self.name)
            return
        for follow in self.followers:
            await follow()
        log.info("the %s were read again", self.name)

    def _refresh(self, anyway: bool) -> bool:
        """Whether they were read. What changes meanwhile is read again at the next look."""
        marks = self._marks()
        if marks == self._seen and not anyway:
            return False
        self._seen = marks
        self.read()
        return True

    def _marks(self) -> list[tuple[int, int, int] | None]:
        return [_mark(path) for path in self._paths]


def _mark(path: Path) -> tuple[int, int, int] | None:
    """Differs when the file was written or another took its place, behind a link too."""
    try:
        status = path.stat()
    except OSError:  # reading it says why
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
