"""What every gRPC call has: a bounded message, errors as statuses, and for streams a window.

A message is looked at before it is parsed (wire.py). And every call is a stream on the server's
side: on the wire one request is a stream of one. A stream's handler runs before the message is
read, and the message is gone when the handler has done with it: gRPC's own iterator would hold the
last one until its call is collected as garbage.
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
from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from server.api import wire
from server.errors import BadRequest, Cancelled, Expired, ServeError, TooLarge
from server.service import Service
from server.telemetry import visits
from server.telemetry.traces import TRACEPARENT

log = logging.getLogger(__name__)

DOMAIN = "alexnet"
# By whether the answers are a stream.
_KINDS = {False: grpc.stream_unary_rpc_method_handler, True: grpc.stream_stream_rpc_method_handler}

CANCELLED_S, FIRST_BYTES_S = 0.01, 0.05
"""Until gRPC has cancelled a call without a message; and until the first bytes of one are here."""

Response = TypeVar("Response")
Method = Callable[[Any, Any, Any], Awaitable[Any]]


def handlers(
    servicer: object,
    service: ServiceDescriptor,
    messages: Any,
    message_s: float,
    unread: Collection[str] = (),
) -> grpc.GenericRpcHandler:
    """`messages` is the generated module. A message must be here after `message_s`, unless its
    method is one of `unread`, which are given the stream that it comes by. Many answers to one
    message are written by its method."""
    found = {}
    for method in service.methods:
        answer = getattr(servicer, method.name)
        if not method.client_streaming and method.name not in unread:
            answer = _reading(answer, method.input_type.name, message_s)
        answer = _streaming(answer) if method.client_streaming else _once(answer)
        found[method.name] = _KINDS[method.server_streaming](
            answer,
            request_deserializer=_bounded(
                getattr(messages, method.input_type.name).FromString, method.input_type
            ),
            response_serializer=getattr(messages, method.output_type.name).SerializeToString,
        )
    return grpc.method_handlers_generic_handler(service.full_name, found)


class Messages:
    """Of a call, read one by one; nothing of one is kept here."""

    def __init__(self, context: Any):
        self._context = context

    def __aiter__(self) -> "Messages":
        return self

    async def __anext__(self) -> Any:
        message = await self._context.read()
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        return message


def _once(method: Any) -> Any:
    async def answer(_: Any, context: Any) -> Any:
        return await method(Messages(context), context)

    return answer


def _streaming(method: Any) -> Any:
    async def answers(_: Any, context: Any) -> Any:
        async for answer in method(Messages(context), context):
            yield answer

    return answers


def _bounded(parse: Callable[[bytes], Any], kind: Descriptor) -> Callable[[bytes], Any]:
    def bounded(data: bytes) -> Any:
        wire.check(data, kind)
        return parse(data)

    return bounded


def _reading(method: Callable[[Any, Any], Awaitable[Any]], name: str, message_s: float) -> Any:
    """gRPC holds the message of a call that is no stream until the call is over: a refused one,
    too, whose caller may take its time."""

    async def read(requests: AsyncIterator[Any], context: Any) -> Any:
        try:
            async with asyncio.timeout(message_s):
                request = [await first(requests)]
        except DecodeError as error:
            refusal: ServeError = BadRequest(f"the message is no {name}: {error}")
        except TooLarge as error:
            refusal = error.without_traceback()
        except StopAsyncIteration:
            refusal = BadRequest(f"the call has no {name}")
        except TimeoutError:
            refusal = Expired("the deadline passed before the message was here")
        else:
            return await method(request.pop(), context)
        return await abort(context, refusal)

    return read


async def first(requests: AsyncIterator[Any]) -> Any:
    """The message of a call that is no stream. Raises StopAsyncIteration where there is none, and
    TooLarge for one over gRPC's limit, which gRPC has then answered itself.

    gRPC does not tell that from a caller that hangs up: the message is missing, and the call is
    cancelled. But of a message over the limit it knows from the first bytes.
    """
    began = time.monotonic()
    try:
        return await anext(aiter(requests))
    except StopAsyncIteration:
        missing = time.monotonic()
        try:
            await asyncio.sleep(CANCELLED_S)
        except asyncio.CancelledError:
            if missing - began > FIRST_BYTES_S:
                raise
            refusal = TooLarge("the message is over the limit of gRPC")
            refusal.grpc = "RESOURCE_EXHAUSTED"  # as gRPC has said
            raise refusal from None
        raise


def responding(method: Method) -> Method:
    """Errors of the method abort its call: with what a ServeError says, or "internal error"."""

    async def answer(self: Any, request: Any, context: Any) -> Any:
        try:
            return await method(self, request, context)
        except ServeError as error:
            refusal = error.without_traceback()
        except Exception:
            refusal = _bug()
        del request  # it has no use any more, and may be large
        return await abort(context, refusal)

    return answer


async def attempt(answer: Awaitable[Response]) -> Response | ServeError:
    """The answer to a message of a stream, or what it failed with; an unexpected error is logged
    here."""
    call = visits.current.get()
    visit = call.message() if call else None
    failure: ServeError | None = None
    try:
        return await answer
    except ServeError as error:
        failure = error.without_traceback()
    except asyncio.CancelledError:
        failure = Cancelled()
        raise
    except Exception:
        failure = _bug()
    finally:
        if visit:
            visit.end(failure.grpc if failure else "OK", failure)
    return failure


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
    if visit := visits.current.get():
        visit.error = error.without_traceback()
        if visit.trace:
            trailers.append((TRACEPARENT, visit.trace.traceparent))
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
