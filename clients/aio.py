"""The client for asyncio: photos to a server, their classes back, over one channel."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, Self, TypedDict, Unpack
from uuid import uuid4

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from clients import errors, results
from clients.errors import ClassifyError
from clients.many import Answer, P, Photos, answers
from clients.results import Classification, Model
from clients.retry import LONGEST_TIMEOUT_S, Budget, answered
from clients.stream import Stream
from protos.classifier_pb2 import ClassifyRequest, GetModelRequest
from protos.classifier_pb2_grpc import ClassifierStub

DEFAULT_ADDRESS = "127.0.0.1:8001"
MAX_IMAGE_BYTES = 64 << 20

_MAX_MESSAGE_BYTES = MAX_IMAGE_BYTES + (64 << 10)
_OPTIONS = [
    # gRPC's own limit is 4 MB; photos are larger.
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.enable_retries", 0),  # clients.retry knows what is safe
    # Its 1 s and 2 min would let the attempts fail without once trying to connect.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class Options(TypedDict, total=False):
    """What may be asked for with each photo."""

    top_k: int | None
    """How many classes; if not given 5, or all of a model that has fewer."""
    timeout_s: float
    """For the answer, retries included; 10 if not given."""
    priority: int | None
    """1 is the highest; if not given the server's default."""
    version: str
    """Of the model; if not given the server's choice."""


class AsyncClient:
    """One channel to one server, made and used in one event loop.

    A photo without an answer is a ClassifyError: raised where one photo is asked about, a value
    among many.
    """

    def __init__(self, address: str = DEFAULT_ADDRESS) -> None:
        if not isinstance(address, str):
            raise TypeError(f"an address is text such as {DEFAULT_ADDRESS!r}, not {address!r}")
        self.address = address
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._stub = ClassifierStub(self._channel)
        self._health = HealthStub(self._channel)
        self._classify = partial(errors.told, self._stub.Classify)
        self._budget = Budget()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancels what is in flight."""
        await self._channel.close()

    async def classify(
        self, image: bytes, *, request_id: str = "", **options: Unpack[Options]
    ) -> Classification:
        return await _answer(self._classify, image, request_id, self._budget, **options)

    def classify_many(
        self, photos: Photos[P], *, concurrency: int = 8, **options: Unpack[Options]
    ) -> AsyncGenerator[Answer[P]]:
        """Each photo with its answer, in the order of the photos; a call for each.

        A source that blocks would block the event loop: hand in an async one.
        """

        async def ask(image: bytes) -> Classification:
            return await _answer(self._classify, image, **options)

        return answers(photos, ask, concurrency, in_order=True)

    async def classify_stream(
        self, photos: Photos[P], *, window: int = 32, **options: Unpack[Options]
    ) -> AsyncGenerator[Answer[P]]:
        """Each photo with its answer as soon as that is ready; one call for all.

        `window` photos are in flight at most. When the call ends early, the photos without an
        answer are asked about over a new one, where that is safe.
        """
        stream = Stream(self._stub)

        async def ask(image: bytes) -> Classification:
            return await _answer(stream.ask, image, uuid4().hex, **options)

        try:
            async with aclosing(answers(photos, ask, window, in_order=False)) as found:
                async for answer in found:
                    yield answer
        finally:
            await stream.close()

    async def model(self, version: str = "", *, timeout_s: float = 10.0) -> Model:
        """What is being served."""
        ask = partial(errors.told, self._stub.GetModel, GetModelRequest(version=version))
        message, _ = await answered(ask, timeout_s, self._budget)
        return results.model(message)

    async def ready(self, *, timeout_s: float = 1.0) -> bool:
        """Whether a server is there and takes photos now."""
        timeout_s = min(timeout_s, LONGEST_TIMEOUT_S)
        try:
            health = await errors.told(self._health.Check, HealthCheckRequest(), timeout_s)
        except ClassifyError as error:
            if error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                return False
            raise
        return bool(health.status == HealthCheckResponse.SERVING)


async def _answer(
    once: Callable[[ClassifyRequest, float], Awaitable[Any]],
    image: bytes,
    request_id: str = "",
    budget: Budget | None = None,
    *,
    timeout_s: float = 10.0,
    **asked: Any,
) -> Classification:
    if len(image) > MAX_IMAGE_BYTES:
        message = f"the photo has {len(image):,} bytes; at most {MAX_IMAGE_BYTES:,} can be sent"
        raise ClassifyError("INVALID_ARGUMENT", message, reason="too_large", attempts=0)
    request = ClassifyRequest(image=image, request_id=request_id, **asked)
    response, attempts = await answered(partial(once, request), timeout_s, budget)
    return results.classification(response, attempts)
