"""How many are inside something, and a way to wait until nobody is."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Occupancy:
    def __init__(self) -> None:
        self.count = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @contextmanager
    def inside(self) -> Iterator[None]:
        self.count += 1
        self._empty.clear()
        try:
            yield
        finally:
            self.count -= 1
            if self.count == 0:
                self._empty.set()

    async def empty(self) -> None:
        while self.count:
            await self._empty.wait()
