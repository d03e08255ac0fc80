"""Waiting for an event in the same process."""

import asyncio
from collections.abc import Callable


async def until(true: Callable[[], object]) -> None:
    """Raises TimeoutError after 5 s."""
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.002)
