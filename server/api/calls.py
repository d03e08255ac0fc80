"""What every gRPC call has: a bounded message, errors as statuses, and for streams a window.

A message is looked at before it is parsed: protobuf would make 0.9 GB of the 20 MB of one that is
nothing but empty tensors. And a call may be a stream on the server's side only: on the wire one
request is a stream of one, and a stream's handler runs before the message is read.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from contextlib import ExitStack
from functools import cache
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from server.errors import ServeError
from server.service import Service

log = logging.getLogger(__name__)

DOMAIN = "alexnet"
MAX_FIELDS = 1000
"""Of a message, those of the messages in it not counted."""

_KINDS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
_FIXED = {1: 8, 5: 4}  # wire type -> bytes

Response = TypeVar("Response")
Method = Callable[[Any, Any, Any], Awaitable[Any]]


def handlers(
    servicer: object, service: ServiceDescriptor, messages: Any, unread: Collection[str] = ()
) -> grpc.GenericRpcHandler:
    """`messages` is the generated module; calls of the methods in `unread` are streams here."""
    found = {}
    for method in service.methods:
        streams = method.client_streaming or method.name in unread, method.server_streaming
        found[method.name] = _KINDS[streams](
            getattr(servicer, method.name),
            request_deserializer=_bounded(getattr(messages, method.input_type.name).FromString),
            response_serializer=getattr(messages, method.output_type.name).SerializeToString,
        )
    return grpc.method_handlers_generic_handler(service.full_name, found)


def _bounded(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def bounded(data: bytes) -> Any:
        check_fields(data)
        return parse(data)

    return bounded


def check_fields(data: bytes) -> None:
    """Raises DecodeError for a message that has over MAX_FIELDS.

    https://protobuf.dev/programming-guides/encoding/
    """
    at = fields = 0
    while at < len(data):
        fields += 1
        if fields > MAX_FIELDS:
            raise DecodeError(f"the message has over {MAX_FIELDS} fields")
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            _, at = _varint(data, at)
        elif kind == 2:
            size, at = _varint(data, at)
            at += size
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise DecodeError(f"wire type {kind} is not used here")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number there, and where the next thing is."""
    value = 0
    for i, byte in enumerate(data[at : at + 10]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, at + i + 1
    raise DecodeError("the message ends within a number")


def responding(method: Method) -> Method:
    """Errors of the method abort its call: with what a ServeError says, or "internal error"."""

    async def answer(self: Any, request: Any, context: Any) -> Any:
        try:
            return await method(self, request, context)
        except ServeError as error:
            refusal = error.without_traceback()
        except Exception:
            refusal = _bug()
        return await abort(context, refusal)

    return answer


async def attempt(answer: Awaitable[Response]) -> Response | ServeError:
    """The answer, or what it failed with; an unexpected error is logged here."""
    try:
        return await answer
    except ServeError as error:
        return error.without_traceback()
    except Exception:
        return _bug()


def _bug() -> ServeError:
    log.exception("a bug answered a gRPC call with 'internal error'")
    return ServeError()


async def abort(context: Any, error: ServeError) -> NoReturn:
    """google.rpc.Status with ErrorInfo and, where a retry helps, RetryInfo; the reason stands in a
    trailer of its own too, for callers without these schemas."""
    trailers: list[tuple[str, str | bytes]] = [
        ("alexnet-reason", error.reason),
        ("grpc-status-details-bin", _details(error).SerializeToString()),
    ]
    if error.retry_after_s is not None:
        # gRPC's own hint (gRFC A6): clients with a retry policy wait exactly this long.
        trailers.append(("grpc-retry-pushback-ms", str(round(error.retry_after_s * 1000))))
    try:
        await context.abort(grpc.StatusCode[error.grpc], str(error), tuple(trailers))
    except grpc.aio.AbortError:
        raise
    except Exception:  # grpc's own, and a traceback in its log: the caller has hung up meanwhile
        raise asyncio.CancelledError from None
    raise AssertionError("abort always raises")


def code(error: ServeError) -> int:
    """The number of its status: 3 is INVALID_ARGUMENT."""
    return int(grpc.StatusCode[error.grpc].value[0])


def _details(error: ServeError) -> status_pb2.Status:
    details = [_info(error.reason)]
    if error.retry_after_s is not None:
        seconds, nanos = divmod(round(error.retry_after_s * 1e9), 10**9)
        delay = duration_pb2.Duration(seconds=seconds, nanos=nanos)
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(code=code(error), message=str(error), details=details)


@cache
def _info(reason: str) -> any_pb2.Any:
    return _packed(error_details_pb2.ErrorInfo(reason=reason.upper(), domain=DOMAIN))


def _packed(detail: Message) -> any_pb2.Any:
    """As Any.Pack does it, in half of the time: under overload most callers are told so."""
    name = detail.DESCRIPTOR.full_name
    return any_pb2.Any(type_url=f"type.googleapis.com/{name}", value=detail.SerializeToString())


def time_left(context: Any) -> Callable[[], float | None]:
    """Seconds until the deadline of a call, whenever it is asked; None without one."""
    remaining = context.time_remaining()
    ends = None if remaining is None else time.monotonic() + remaining
    return lambda: None if ends is None else ends - time.monotonic()


async def answer_stream(
    service: Service,
    context: Any,
    requests: AsyncIterator[Any],
    answer: Callable[[Any], Coroutine[None, None, Response]],
    unreadable: Response,
    in_order: bool,
) -> AsyncIterator[Response]:
    """Answers as they are ready or in the order of their requests; `unreadable` for a message that
    cannot be parsed, which ends the stream. A request is read when there is room in the window, and
    that is when an answer has been sent: a caller that does not read is not read from."""
    room = asyncio.Semaphore(service.stream_window)
    ready: asyncio.Queue[asyncio.Future[Response] | None] = asyncio.Queue()

    async def read() -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                try:
                    async for request in requests:
                        await room.acquire()
                        task = tasks.create_task(answer(request))
                        if in_order:
                            ready.put_nowait(task)
                        else:
                            task.add_done_callback(ready.put_nowait)
                        del request, task  # nothing of a photo stays while the next is waited for
                except DecodeError:  # what follows cannot be read either
                    last: asyncio.Future[Response] = asyncio.Future()
                    last.set_result(unreadable)
                    ready.put_nowait(last)
        finally:
            ready.put_nowait(None)

    with ExitStack() as stack:
        try:
            stack.enter_context(service.gate.stream())
        except ServeError as error:
            await abort(context, error)
        reader = asyncio.create_task(read())
        try:
            while task := await ready.get():
                yield await task
                room.release()
        finally:  # a caller that hangs up leaves the queues
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            while not ready.empty():  # or reader, error, traceback, tasks, photos: a circle
                ready.get_nowait()
