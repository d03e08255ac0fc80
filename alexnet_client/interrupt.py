"""Ctrl-C that is not lost: where it falls into what Python calls while it frees memory, the
exception is printed and ignored."""

import signal
from types import FrameType

_seen = False


def watch() -> None:
    """From the main thread. Where a shell has Ctrl-C ignored, it stays so."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _note)


def check() -> None:
    """Raises KeyboardInterrupt after any Ctrl-C."""
    if _seen:
        raise KeyboardInterrupt


def _note(number: int, frame: FrameType | None) -> None:
    global _seen
    _seen = True
    raise KeyboardInterrupt
