"""Photos over a call of ClassifyStream, each of which waits for its own answer."""

import asyncio
import time
from collections.abc import AsyncIterator
from copy import copy
from typing import Any

import grpc

from clients import errors
from clients.errors import ClassifyError
from protos.classifier_pb2 import ClassifyRequest, ClassifyResponse, ClassifyStreamResponse

GOODBYE_S = 1.0


class Stream:
    """Opens a call for the first photo, and another when that has ended."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self._call: _Call | None = None

    async def ask(self, request: ClassifyRequest, left_s: float) -> ClassifyResponse:
        """Raises ClassifyError, also when the call ends first; the request's id is its own."""
        deadline = time.monotonic() + left_s
        if self._call is None or self._call.ended:
            self._call = _Call(self._stub)
        try:
            return await self._call.ask(request, deadline)
        except _Ended as end:
            if not end.unclear:
                raise copy(end.error) from None
        left_s = deadline - time.monotonic()
        response: ClassifyResponse = await errors.told(self._stub.Classify, request, left_s)
        return response

    async def close(self) -> None:
        if self._call:
            await self._call.close()


class _Ended(Exception):
    """The call has ended before the photo's answer."""

    def __init__(self, error: ClassifyError) -> None:
        self.error = error
        # One photo above the server's limit ends the call for all, and grpc.aio puts this message
        # in place of the status of a call that ends while it sends. Alone, each photo learns its
        # own fate.
        self.unclear = not error.reason and (
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
            raise errors.of_failure(found.failure)
        return found.response

    async def close(self) -> None:
        self._sending.put_nowait(None)
        if not self._waiting:
            await asyncio.wait({self._reading}, timeout=GOODBYE_S)
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _requests(self) -> AsyncIterator[ClassifyRequest]:
        while item := await self._sending.get():
            request, deadline = item
            if request.request_id in self._waiting:
                # Counted from here: gRPC asks for the next when the server has room for it.
                request.timeout_ms = max(1, round(1000 * (deadline - time.monotonic())))
                yield request

    async def _read(self, stub: Any) -> None:
        error = errors.closed()
        try:
            async for found in stub.ClassifyStream(self._requests()):
                answer = self._waiting.get(found.request_id)
                if answer and not answer.done():
                    answer.set_result(found)
            error = ClassifyError("UNAVAILABLE", "the server ended the stream")
        except grpc.aio.AioRpcError as failure:
            error = errors.of_call(failure)
        except grpc.aio.UsageError:  # how gRPC says that the channel is closed
            pass
        finally:
            self.ended = True
            self._sending.put_nowait(None)  # else gRPC would wait for requests for ever
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(_Ended(error))
