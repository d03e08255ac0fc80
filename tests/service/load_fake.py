"""A gRPC server on the test's own event loop, with a scripted behaviour for each request."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from alexnet_client.classifier_pb2 import ClassifyRequest, ClassifyResponse, ModelVersion, Timing
from alexnet_client.classifier_pb2_grpc import ClassifierServicer, add_ClassifierServicer_to_server
from alexnet_client.load.run import WARM_UP

WARM_UP_REQUESTS = 4 * WARM_UP  # over the default number of connections

Answer = Callable[[ClassifyRequest, Any], Awaitable[None]]


async def at_once(request: ClassifyRequest, context: Any) -> None:
    pass


@dataclass
class Server(ClassifierServicer):
    """Awaits `answer` for each request, then responds."""

    answer: Answer = at_once
    address: str = ""
    requests: list[ClassifyRequest] = field(default_factory=list)
    peers: set[str] = field(default_factory=set)
    cancelled: int = 0

    async def Classify(  # noqa: N802 - the proto's name
        self, request: ClassifyRequest, context: Any
    ) -> ClassifyResponse:
        self.requests.append(request)
        self.peers.add(context.peer())
        try:
            await self.answer(request, context)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        timing = Timing(decode_ms=2, queue_ms=1, infer_ms=3, total_ms=6, batch_size=2)
        return ClassifyResponse(model=ModelVersion(name="fake", version="7"), timing=timing)


def after_warm_up(answer: Answer) -> Answer:
    """`answer`, but the requests of the warm-up are answered at once."""
    count = 0

    async def counted(request: ClassifyRequest, context: Any) -> None:
        nonlocal count
        count += 1
        if count > WARM_UP_REQUESTS:
            await answer(request, context)

    return counted


@asynccontextmanager
async def serving(answer: Answer = at_once) -> AsyncIterator[Server]:
    fake, server = Server(answer), grpc.aio.server()
    add_ClassifierServicer_to_server(fake, server)
    fake.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield fake
    finally:
        await server.stop(None)
