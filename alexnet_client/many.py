"""Many photos at a time, with a bounded number in flight."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
)
from typing import TypeAlias, TypeVar

from alexnet_client.errors import ClassifyError
from alexnet_client.photos import Photo
from alexnet_client.results import Classification

P = TypeVar("P", bound=bytes | Photo)
Photos: TypeAlias = Iterable[P] | AsyncIterable[P]
Answer: TypeAlias = tuple[P, Classification | ClassifyError]


async def ask_many(
    photos: Photos[P],
    ask: Callable[[bytes], Awaitable[Classification]],
    max_in_flight: int,
    in_order: bool,
) -> AsyncGenerator[Answer[P]]:
    """Each photo with its answer, in the order of the photos or as soon as it is ready.

    At most `max_in_flight` photos are in memory or in flight; as many answers more may wait for an
    earlier one or for the caller. An exception of the source follows the answers so far.
    """
    if max_in_flight < 1:
        raise ValueError(f"at least one photo has to be in flight, not {max_in_flight}")
    in_flight = asyncio.Semaphore(max_in_flight)
    unread = asyncio.Semaphore(2 * max_in_flight)
    tasks: set[asyncio.Task[Answer[P]]] = set()
    ready: asyncio.Queue[asyncio.Task[Answer[P]] | None] = asyncio.Queue()

    async def ask_one(photo: P) -> Answer[P]:
        async with in_flight:
            try:
                image = photo if isinstance(photo, bytes) else await asyncio.to_thread(photo.read)
                return photo, await ask(image)
            except ClassifyError as error:
                return photo, error
            except OSError as error:
                message = error.strerror or str(error)
                reason = "" if error.errno else "invalid_image"
                return photo, ClassifyError("UNREADABLE", message, reason, attempts=0)

    async def feed() -> None:
        try:
            async for photo in _iterate(photos):
                if not isinstance(photo, bytes | Photo):
                    raise TypeError(f"a photo is bytes or a Photo, not {type(photo).__name__}")
                await unread.acquire()
                task = asyncio.create_task(ask_one(photo))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                if in_order:
                    ready.put_nowait(task)
                else:
                    task.add_done_callback(ready.put_nowait)
        finally:
            if tasks:
                await asyncio.wait(tasks)
            ready.put_nowait(None)

    feeding = asyncio.create_task(feed())
    try:
        while task := await ready.get():
            yield await task
            unread.release()
        await feeding
    finally:
        for unfinished in (feeding, *tasks):
            unfinished.cancel()
        await asyncio.gather(feeding, *tasks, return_exceptions=True)


async def _iterate(photos: Photos[P]) -> AsyncIterator[P]:
    if isinstance(photos, AsyncIterable):
        async for photo in photos:
            yield photo
    else:
        for photo in photos:
            yield photo
