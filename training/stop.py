"""Ctrl-C and SIGTERM, asked for between two steps instead of breaking one."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import torch

from training.ranks import Ranks

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """As a context: the first signal is remembered, a second one ends the process as usual."""

    def __init__(self, ranks: Ranks):
        self.ranks = ranks
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._ask) for s in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._restore()

    def _restore(self) -> None:
        for which, handler in self._before.items():
            signal.signal(which, handler)

    def agreed(self) -> bool:
        """Whether any process was asked: all must stop after the same step."""
        if self.ranks.count == 1:
            return self.asked
        flag = torch.tensor(float(self.asked), device=self.ranks.device)
        return self.ranks.total(flag).item() > 0
