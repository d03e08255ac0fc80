"""The load generator's requests over gRPC: serialised before the run, never retried."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from typing import Any

import grpc

from alexnet_client.access import Access
from alexnet_client.classifier_pb2 import DESCRIPTOR, ClassifyRequest, ClassifyResponse
from alexnet_client.errors import trailers_of
from alexnet_client.load.sender import OK, Reply, Sender, outcome_of

_CLASSIFY = f"/{DESCRIPTOR.services_by_name['Classifier'].full_name}/Classify"
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 0),  # a failure is a result
    # Else all channels to one address share one connection.
    ("grpc.use_local_subchannel_pool", 1),
]


@asynccontextmanager
async def grpc_sender(
    address: str,
    photos: Sequence[bytes],
    priority: int | None = None,
    connections: int = 4,
    access: Access | None = None,
) -> AsyncIterator[Sender]:
    """Requests go round robin over the connections."""
    requests = [ClassifyRequest(image=p, priority=priority).SerializeToString() for p in photos]
    access = access or Access()
    async with AsyncExitStack() as stack:
        methods: list[Any] = []
        for _ in range(connections):
            channel = access.channel(address, _OPTIONS)
            await stack.enter_async_context(channel)
            # No serialisers: bytes in, bytes out.
            methods.append(access.showing(channel.unary_unary(_CLASSIFY)))
        turns = cycle(methods)

        async def send(photo: int, timeout_s: float) -> Reply:
            try:
                return Reply(OK, await next(turns)(requests[photo], timeout=timeout_s))
            except grpc.aio.AioRpcError as error:
                reason = trailers_of(error).get("alexnet-reason")
                return Reply(outcome_of(str(reason or error.code().name)))

        yield Sender(len(photos), connections, send, ClassifyResponse.FromString)
