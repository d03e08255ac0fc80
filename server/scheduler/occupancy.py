"""How many are inside something, and a way to wait until nobody is."""

import asyncio


class Occupancy:
    """`with occupancy:` is inside; any number may be, one within the other too."""

    def __init__(self) -> None:
        self.count = 0
        self._emptied = asyncio.Event()

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, *exception: object) -> None:
        self.count -= 1
        if self.count == 0:
            self._emptied.set()

    async def empty(self) -> None:
        while self.count:
            self._emptied.clear()
            await self._emptied.wait()
