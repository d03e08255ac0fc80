"""Calls in a separate process: a kernel that hangs or breaks the GPU costs only its own row."""

from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from typing import Any


class WorkerLostError(RuntimeError):
    """The process died or did not answer in time; the next call starts a new one."""


class Worker:
    """A child process that is kept between calls."""

    def __init__(self) -> None:
        self._process: Any = None
        self._pipe: Any = None

    def call(self, function: Callable[..., Any], *arguments: Any, limit_s: float) -> Any:
        """The result of the function, which must not raise. Raises WorkerLostError."""
        if self._process is None:
            context = get_context("spawn")  # a fork would inherit a broken CUDA context
            self._pipe, child_end = context.Pipe()
            self._process = context.Process(target=_serve, args=(child_end,))
            self._process.start()
            child_end.close()
        try:
            self._pipe.send((function, arguments))
            if self._pipe.poll(limit_s):
                return self._pipe.recv()
            problem = f"no answer after {limit_s:g} s"
        except (EOFError, ConnectionError):
            self._process.join()
            problem = f"the process died with exit code {self._process.exitcode}"
        self.end()
        raise WorkerLostError(problem)

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None


def _serve(pipe: Any) -> None:
    with suppress(EOFError):  # the parent has closed the pipe
        while True:
            function, arguments = pipe.recv()
            pipe.send(function(*arguments))
