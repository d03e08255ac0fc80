"""Calls in a process of their own: a kernel that hangs or breaks the GPU costs its row only."""

from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from typing import Any


class LostError(RuntimeError):
    """The process died or did not answer in time; the next call has a new one."""


class Apart:
    """One process beside this one, kept between calls."""

    def __init__(self) -> None:
        self._process: Any = None
        self._pipe: Any = None

    def call(self, function: Callable[..., Any], *arguments: Any, limit_s: float) -> Any:
        """What the function returns there; it must not raise. Raises LostError."""
        if self._process is None:
            context = get_context("spawn")  # a fork would share a broken CUDA
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs,))
            self._process.start()
            theirs.close()
        try:
            self._pipe.send((function, arguments))
            if self._pipe.poll(limit_s):
                return self._pipe.recv()
            problem = f"no answer after {limit_s:g} s"
        except (EOFError, ConnectionError):
            self._process.join()
            problem = f"the process died with exit code {self._process.exitcode}"
        self.end()
        raise LostError(problem)

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None


def _serve(pipe: Any) -> None:
    with suppress(EOFError):  # whoever asked is gone
        while True:
            function, arguments = pipe.recv()
            pipe.send(function(*arguments))
