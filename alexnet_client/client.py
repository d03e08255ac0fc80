"""The client for threads: sends photos to a server over one channel, returns their classes."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from queue import SimpleQueue
from typing import Any, Self, TypeVar, Unpack

from alexnet_client.access import Access
from alexnet_client.aio import DEFAULT_ADDRESS, AsyncClient, Options
from alexnet_client.errors import closed_error
from alexnet_client.many import Answer, P, Photos
from alexnet_client.results import Classification, Model

T = TypeVar("T")


class Client:
    """AsyncClient for any number of threads; its event loop runs in a thread of its own."""

    def __init__(self, address: str = DEFAULT_ADDRESS, access: Access | None = None) -> None:
        self.address = address
        started: Future[tuple[asyncio.AbstractEventLoop, AsyncClient, asyncio.Event]] = Future()

        async def serve() -> None:
            async with AsyncClient(address, access) as client:
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
        """Cancels the calls in flight; later calls raise the same ClassifyError."""
        if self._thread.is_alive():  # not in a forked process
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
        """Each photo with its answer, in the order of the photos; one call per photo."""
        source = _as_source(photos)
        return self._iterate(self._client.classify_many(source, concurrency=concurrency, **options))

    def classify_stream(
        self, photos: Iterable[P], *, window: int = 32, **options: Unpack[Options]
    ) -> Iterator[Answer[P]]:
        """Each photo with its answer as soon as that is ready; one call for all."""
        source = _as_source(photos)
        return self._iterate(self._client.classify_stream(source, window=window, **options))

    def model(self, version: str = "", *, timeout_s: float = 10.0) -> Model:
        return self._run(self._client.model(version, timeout_s=timeout_s))

    def ready(self, *, timeout_s: float = 1.0) -> bool:
        """Whether a server answers and takes photos now."""
        return self._run(self._client.ready(timeout_s=timeout_s))

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if not (self._thread.is_alive() or self._closed):
            coroutine.close()
            raise RuntimeError("neither client nor gRPC work in a forked process: spawn it instead")
        with self._lock:  # a coroutine submitted after the loop has closed would never run
            if self._closed:
                coroutine.close()
                raise closed_error()
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise closed_error() from None
        except KeyboardInterrupt:
            future.cancel()
            raise

    def _iterate(self, answers: AsyncGenerator[T]) -> Iterator[T]:
        """If the caller drops it, `answers` is garbage, and the event loop closes it."""

        async def next_answer() -> T | None:
            return await anext(answers, None)

        while (answer := self._run(next_answer())) is not None:
            yield answer


def _as_source(photos: Iterable[P]) -> Photos[P]:
    return photos if isinstance(photos, Sequence) else _read_in_thread(photos)


async def _read_in_thread(photos: Iterable[P]) -> AsyncIterator[P]:
    """A source that may block is read in a daemon thread, which is never joined."""
    source, end = iter(photos), object()
    requests: SimpleQueue[Future[Any] | None] = SimpleQueue()

    def pull() -> None:
        while future := requests.get():
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(next(source, end))
                except BaseException as error:
                    future.set_exception(error)

    threading.Thread(target=pull, name="source of photos", daemon=True).start()
    try:
        while True:
            future: Future[Any] = Future()
            requests.put(future)
            if (photo := await asyncio.wrap_future(future)) is end:
                return
            yield photo
    finally:
        requests.put(None)
