"""What streams of photos share: a place, and requests that are read while others are answered."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from server.api.status import abort
from server.errors import ServeError
from server.service import DataPlane


@asynccontextmanager
async def streaming(
    plane: DataPlane, context: Any, read: Callable[[], Coroutine[None, None, None]]
) -> AsyncIterator[None]:
    """A stream's place, and its requests being read while the block answers them."""
    try:
        place = plane.stream()
    except ServeError as error:
        await abort(context, error)
    with place:
        reader = asyncio.create_task(read())
        try:
            yield
        finally:  # who hangs up leaves the queues
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
