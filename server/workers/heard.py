"""What each worker said last to one question: one that hangs holds up no answer."""

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path

from server.workers.peers import asked, sockets

IN_TIME_S = 0.06
"""An answer that is later counts for the next time."""


class Heard:
    """`tell` is given each answer, and when it was asked for: the worker, the text, the number of
    the question, which grows."""

    def __init__(
        self,
        folder: Path,
        path: str,
        tell: Callable[[int, str, int], None] = lambda worker, text, number: None,
        number: Callable[[], int] | None = None,
        accept: str = "*/*",
    ):
        self._folder, self._path, self._tell, self._accept = folder, path, tell, accept
        self._number = number or count(1).__next__
        self._latest: Counter[int] = Counter()
        """worker -> the last question that is over."""
        self._said: dict[int, str] = {}
        self._late: set[asyncio.Task[None]] = set()

    async def ask(self) -> dict[int, str]:
        """worker -> what it says now, or said last where it lets us wait. Not in it is what did not
        answer 200 then."""
        found, number = sockets(self._folder), self._number()
        tasks = [asyncio.create_task(self._ask(socket, number)) for socket in found]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=IN_TIME_S)
            for task in late:
                self._late.add(task)
                task.add_done_callback(self._late.discard)
        there = {int(socket.stem) for socket in found}
        return {worker: text for worker, text in self._said.items() if worker in there}

    def close(self) -> None:
        for task in self._late:
            task.cancel()

    async def _ask(self, socket: Path, number: int) -> None:
        worker, text = int(socket.stem), await asked(socket, self._path, accept=self._accept)
        if text is not None:
            self._tell(worker, text, number)
        if number < self._latest[worker]:
            return
        self._latest[worker] = number
        self._said.pop(worker, None)
        if text is not None:
            self._said[worker] = text
