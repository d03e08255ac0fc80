"""Many photos at once, within bounds."""

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

from clients.errors import ClassifyError
from clients.photos import Photo
from clients.results import Classification

P = TypeVar("P", bound=bytes | Photo)
Photos: TypeAlias = Iterable[P] | AsyncIterable[P]
Answer: TypeAlias = tuple[P, Classification | ClassifyError]


async def answers(
    photos: Photos[P],
    ask: Callable[[bytes], Awaitable[Classification]],
    most: int,
    in_order: bool,
) -> AsyncGenerator[Answer[P]]:
    """Each photo with its answer, in the order of the photos or as soon as it is ready.

    At most `most` photos are read and in flight; as many more may wait for an earlier one or for
    the caller. What the source of the photos raises comes after the answers to those before.
    """
    if most < 1:
        raise ValueError(f"at least one photo has to be in flight, not {most}")
    asking = asyncio.Semaphore(most)
    places = asyncio.Semaphore(2 * most)
    tasks: set[asyncio.Task[Answer[P]]] = set()
    ready: asyncio.Queue[asyncio.Task[Answer[P]] | None] = asyncio.Queue()

    async def answer(photo: P) -> Answer[P]:
        async with asking:
            try:
                image = photo if isinstance(photo, bytes) else await asyncio.to_thread(photo.read)
                return photo, await ask(image)
            except ClassifyError as error:
                return photo, error
            except OSError as error:
                message = error.strerror or str(error)
                return photo, ClassifyError("UNREADABLE", message, attempts=0)

    async def feed() -> None:
        try:
            async for photo in _each(photos):
                if not isinstance(photo, bytes | Photo):
                    raise TypeError(f"a photo is bytes or a Photo, not {type(photo).__name__}")
                await places.acquire()
                task = asyncio.create_task(answer(photo))
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
            places.release()
        await feeding
    finally:
        for unfinished in (feeding, *tasks):
            unfinished.cancel()
        await asyncio.gather(feeding, *tasks, return_exceptions=True)


async def _each(photos: Photos[P]) -> AsyncIterator[P]:
    if isinstance(photos, AsyncIterable):
        async for photo in photos:
            yield photo
    else:
        for photo in photos:
            yield photo
