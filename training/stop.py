"""Ctrl-C and SIGTERM, handled between two steps."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import torch

from training.ranks import Ranks

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """A context manager that records the first signal; a second one ends the process as usual."""

    def __init__(self, ranks: Ranks):
        self.ranks = ranks
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._request) for s in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._restore()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        for which, handler in self._before.items():
            signal.signal(which, handler)

    def is_due(self) -> bool:
        """Whether any process got a signal: all must stop after the same step."""
        if self.ranks.count == 1:
            return self.requested
        flag = torch.tensor(float(self.requested), device=self.ranks.device)
        return self.ranks.total(flag).item() > 0
