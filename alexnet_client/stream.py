"""Photos over one ClassifyStream call; each waits for its own answer."""

import asyncio
import time
from collections.abc import AsyncIterator
from copy import copy
from typing import Any

import grpc

from alexnet_client import errors
from alexnet_client.classifier_pb2 import ClassifyRequest, ClassifyResponse, ClassifyStreamResponse
from alexnet_client.errors import ClassifyError

CLOSE_TIMEOUT_S = 1.0


class Stream:
    """Opens a call for the first photo, and a new one for the next photo after a call has ended."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self._call: _Call | None = None

    async def ask(self, request: ClassifyRequest, left_s: float) -> ClassifyResponse:
        """Raises ClassifyError, also when the call ends first. Request ids must be unique."""
        deadline = time.monotonic() + left_s
        if self._call is None or self._call.ended:
            self._call = _Call(self._stub)
        try:
            return await self._call.ask(request, deadline)
        except _CallEnded as end:
            if not end.ambiguous:
                raise copy(end.error) from None
        left_s = deadline - time.monotonic()
        response: ClassifyResponse = await errors.call(self._stub.Classify, request, left_s)
        return response

    async def close(self) -> None:
        if self._call:
            await self._call.close()


class _CallEnded(Exception):
    """The call has ended before the photo's answer."""

    def __init__(self, error: ClassifyError) -> None:
        self.error = error
        # A photo above the server's limit ends the call for all photos; and grpc.aio replaces the
        # status of a call that ends while it sends by this message. Neither tells which photo
        # failed, so each is sent again in a call of its own.
        self.ambiguous = not error.reason and (
            error.code == "RESOURCE_EXHAUSTED" or error.message == "Internal error from Core"
        )


class _Call:
    def __init__(self, stub: Any) -> None:
        self._sending: asyncio.Queue[tuple[ClassifyRequest, float] | None] = asyncio.Queue()
        self._waiting: dict[str, asyncio.Future[ClassifyStreamResponse]] = {}
        self._reading = asyncio.create_task(self._read(stub))
        self.ended = False

    async def ask(self, request: ClassifyRequest, deadline: float) -> ClassifyResponse:
        answer: asyncio.Future[ClassifyStreamResponse] = asyncio.Future()
        self._waiting[request.request_id] = answer
        self._sending.put_nowait((request, deadline))
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                found = await answer
        except TimeoutError:
            raise ClassifyError("DEADLINE_EXCEEDED", "no answer in time") from None
        finally:
            del self._waiting[request.request_id]
        if found.HasField("failure"):
            raise errors.from_failure(found.failure)
        return found.response

    async def close(self) -> None:
        self._sending.put_nowait(None)
        if not self._waiting:
            await asyncio.wait({self._reading}, timeout=CLOSE_TIMEOUT_S)
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _requests(self) -> AsyncIterator[ClassifyRequest]:
        while item := await self._sending.get():
            request, deadline = item
            if request.request_id in self._waiting:
                # Computed only now: flow control may have held this request back.
                request.timeout_ms = max(1, round(1000 * (deadline - time.monotonic())))
                yield request

    async def _read(self, stub: Any) -> None:
        error = errors.closed_error()
        try:
            async for found in stub.ClassifyStream(self._requests()):
                answer = self._waiting.get(found.request_id)
                if answer and not answer.done():
                    answer.set_result(found)
            error = ClassifyError("UNAVAILABLE", "the server ended the stream")
        except grpc.aio.AioRpcError as failure:
            error = errors.from_rpc_error(failure)
        except grpc.aio.UsageError:  # gRPC raises it for a closed channel
            pass
        finally:
            self.ended = True
            self._sending.put_nowait(None)  # ends _requests, else gRPC would wait for it for ever
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(_CallEnded(error))
