"""The asyncio client: sends photos to a server over one channel and returns their classes."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, Self, TypedDict, Unpack
from uuid import uuid4

from alexnet_client import errors, health, results
from alexnet_client.access import Access
from alexnet_client.classifier_pb2 import ClassifyRequest, GetModelRequest
from alexnet_client.errors import ClassifyError
from alexnet_client.many import Answer, P, Photos, ask_many
from alexnet_client.results import Classification, Model
from alexnet_client.retry import MAX_TIMEOUT_S, Budget, call_with_retries
from alexnet_client.stream import Stream

DEFAULT_ADDRESS = "127.0.0.1:8001"
MAX_IMAGE_BYTES = 64 << 20

_MAX_MESSAGE_BYTES = MAX_IMAGE_BYTES + (64 << 10)
_OPTIONS = [
    # gRPC's default limit is 4 MB; photos are larger.
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.enable_retries", 0),  # alexnet_client.retry decides what is safe
    # With gRPC's 1 s and 2 min all attempts could fail before it tries to reconnect.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class Options(TypedDict, total=False):
    """Options of each classification."""

    top_k: int | None
    """Number of classes; default 5, or all of a model that has fewer."""
    timeout_s: float
    """For the answer, retries included; default 10."""
    priority: int | None
    """1 is the highest; default: the server's."""
    version: str
    """Of the model; default: the server's choice."""


class AsyncClient:
    """One channel to one server, created and used in one event loop.

    A photo without an answer is a ClassifyError: `classify` raises it, the methods for many photos
    return it in place of the answer.
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, access: Access | None = None) -> None:
        """Raises OSError for certificates that cannot be read, ValueError."""
        if not isinstance(address, str):
            raise TypeError(f"an address is text such as {DEFAULT_ADDRESS!r}, not {address!r}")
        self.address = address
        access = access or Access()
        self._channel = access.channel(address, _OPTIONS)
        self._stub = access.stub(self._channel)
        self._health: Any = self._channel.unary_unary(health.CHECK)
        self._classify = partial(errors.call, self._stub.Classify)
        self._budget = Budget()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancels the calls in flight."""
        await self._channel.close()

    async def classify(
        self, image: bytes, *, request_id: str = "", **options: Unpack[Options]
    ) -> Classification:
        return await _classify(self._classify, image, request_id, self._budget, **options)

    def classify_many(
        self, photos: Photos[P], *, concurrency: int = 8, **options: Unpack[Options]
    ) -> AsyncGenerator[Answer[P]]:
        """Each photo with its answer, in the order of the photos; one call per photo.

        Pass an async source if reading it would block the event loop.
        """

        async def ask(image: bytes) -> Classification:
            return await _classify(self._classify, image, **options)

        return ask_many(photos, ask, concurrency, in_order=True)

    async def classify_stream(
        self, photos: Photos[P], *, window: int = 32, **options: Unpack[Options]
    ) -> AsyncGenerator[Answer[P]]:
        """Each photo with its answer as soon as that is ready; one call for all.

        At most `window` photos are in flight. When the call ends early, the photos without an
        answer are sent again over a new one, where that is safe.
        """
        stream = Stream(self._stub)

        async def ask(image: bytes) -> Classification:
            return await _classify(stream.ask, image, uuid4().hex, **options)

        try:
            async with aclosing(ask_many(photos, ask, window, in_order=False)) as answers:
                async for answer in answers:
                    yield answer
        finally:
            await stream.close()

    async def model(self, version: str = "", *, timeout_s: float = 10.0) -> Model:
        call = partial(errors.call, self._stub.GetModel, GetModelRequest(version=version))
        message, _ = await call_with_retries(call, timeout_s, self._budget)
        return results.model(message)

    async def ready(self, *, timeout_s: float = 1.0) -> bool:
        """Whether a server answers and takes photos now."""
        timeout_s = min(timeout_s, MAX_TIMEOUT_S)
        try:
            status = await errors.call(self._health, health.ANY_SERVICE, timeout_s)
        except ClassifyError as error:
            if error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                return False
            raise
        return bool(status == health.SERVING)


async def _classify(
    call: Callable[[ClassifyRequest, float], Awaitable[Any]],
    image: bytes,
    request_id: str = "",
    budget: Budget | None = None,
    *,
    timeout_s: float = 10.0,
    **options: Any,
) -> Classification:
    if len(image) > MAX_IMAGE_BYTES:
        message = f"the photo has {len(image):,} bytes; at most {MAX_IMAGE_BYTES:,} can be sent"
        raise ClassifyError("INVALID_ARGUMENT", message, reason="too_large", attempts=0)
    request = ClassifyRequest(image=image, request_id=request_id, **options)
    response, attempts = await call_with_retries(partial(call, request), timeout_s, budget)
    return results.classification(response, attempts)
