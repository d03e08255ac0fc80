"""The client for threads: photos to a server, their classes back, over one channel."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from queue import SimpleQueue
from typing import Any, Self, TypeVar, Unpack

from clients.aio import DEFAULT_ADDRESS, AsyncClient, Options
from clients.errors import closed
from clients.many import Answer, P, Photos
from clients.results import Classification, Model

T = TypeVar("T")


class Client:
    """AsyncClient, which see, for any number of threads; it runs in a thread of its own."""

    def __init__(self, address: str = DEFAULT_ADDRESS) -> None:
        self.address = address
        started: Future[tuple[asyncio.AbstractEventLoop, AsyncClient, asyncio.Event]] = Future()

        async def serve() -> None:
            async with AsyncClient(address) as client:
                closing = asyncio.Event()
                started.set_result((asyncio.get_running_loop(), client, closing))
                await closing.wait()

        def run() -> None:
            try:
                asyncio.run(serve())
            except BaseException as error:
                if started.done():
                    raise
                started.set_exception(error)

        self._thread = threading.Thread(target=run, name=f"client of {address}", daemon=True)
        self._thread.start()
        self._loop, self._client, self._closing = started.result()
        self._closed = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancels what is in flight; whoever asks later gets the same ClassifyError."""
        if self._thread.is_alive():  # a fork of this process has none
            with self._lock:
                if not self._closed:
                    self._closed = True
                    self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def classify(
        self, image: bytes, *, request_id: str = "", **options: Unpack[Options]
    ) -> Classification:
        return self._run(self._client.classify(image, request_id=request_id, **options))

    def classify_many(
        self, photos: Iterable[P], *, concurrency: int = 8, **options: Unpack[Options]
    ) -> Iterator[Answer[P]]:
        """Each photo with its answer, in the order of the photos; a call for each."""
        source = _source(photos)
        return self._each(self._client.classify_many(source, concurrency=concurrency, **options))

    def classify_stream(
        self, photos: Iterable[P], *, window: int = 32, **options: Unpack[Options]
    ) -> Iterator[Answer[P]]:
        """Each photo with its answer as soon as that is ready; one call for all."""
        source = _source(photos)
        return self._each(self._client.classify_stream(source, window=window, **options))

    def model(self, version: str = "", *, timeout_s: float = 10.0) -> Model:
        """What is being served."""
        return self._run(self._client.model(version, timeout_s=timeout_s))

    def ready(self, *, timeout_s: float = 1.0) -> bool:
        """Whether a server is there and takes photos now."""
        return self._run(self._client.ready(timeout_s=timeout_s))

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if not (self._thread.is_alive() or self._closed):
            coroutine.close()
            raise RuntimeError("neither client nor gRPC work in a forked process: spawn it instead")
        with self._lock:  # a coroutine that comes after the closing would never be run
            if self._closed:
                coroutine.close()
                raise closed()
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise closed() from None
        except KeyboardInterrupt:
            future.cancel()
            raise

    def _each(self, answers: AsyncGenerator[T]) -> Iterator[T]:
        """One that is given up is closed by the event loop, as no one holds `answers` any more."""

        async def following() -> T | None:
            return await anext(answers, None)

        while (answer := self._run(following())) is not None:
            yield answer


def _source(photos: Iterable[P]) -> Photos[P]:
    return photos if isinstance(photos, Sequence) else _pulled(photos)


async def _pulled(photos: Iterable[P]) -> AsyncIterator[P]:
    """A source that may block has a thread of its own, which nobody waits for."""
    source, end = iter(photos), object()
    asked: SimpleQueue[Future[Any] | None] = SimpleQueue()

    def pull() -> None:
        while following := asked.get():
            if following.set_running_or_notify_cancel():
                try:
                    following.set_result(next(source, end))
                except BaseException as error:
                    following.set_exception(error)

    threading.Thread(target=pull, name="source of photos", daemon=True).start()
    try:
        while True:
            following: Future[Any] = Future()
            asked.put(following)
            if (photo := await asyncio.wrap_future(following)) is end:
                return
            yield photo
    finally:
        asked.put(None)
