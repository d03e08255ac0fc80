"""A thread beside the event loop, for what reads storage: it may hang, and the process ends still.

Those of an executor are waited for at the exit, for ever.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import TypeVar

T = TypeVar("T")
ENDS_S = 1.0
"""How long a caller that is cancelled waits for its thread."""


async def beside(work: Callable[[], T], begin: Callable[[], object] = lambda: None) -> T:
    """What `work` returns or raises; `begin` is called before it, in the thread."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            begin()
            settle = partial(done.set_result, work())
        except Exception as error:
            settle = partial(done.set_exception, error)
        with suppress(RuntimeError):  # the event loop has ended without it
            loop.call_soon_threadsafe(settle)

    Thread(target=run, name="storage", daemon=True).start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        await asyncio.wait([done], timeout=ENDS_S)
        if done.done():
            done.exception()  # it has been looked at, and asyncio need not report it
        raise
