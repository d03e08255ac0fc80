"""Errors in gRPC's words: a status code, and details that clients in any language can read."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from server.errors import ServeError

log = logging.getLogger(__name__)

DOMAIN = "alexnet"
CODES = {
    "invalid_argument": grpc.StatusCode.INVALID_ARGUMENT,
    "invalid_image": grpc.StatusCode.INVALID_ARGUMENT,
    "unsupported_format": grpc.StatusCode.INVALID_ARGUMENT,
    "too_large": grpc.StatusCode.INVALID_ARGUMENT,
    "disabled": grpc.StatusCode.PERMISSION_DENIED,
    "not_found": grpc.StatusCode.NOT_FOUND,
    "expired": grpc.StatusCode.DEADLINE_EXCEEDED,
    "would_miss_deadline": grpc.StatusCode.DEADLINE_EXCEEDED,
    "overloaded": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "not_ready": grpc.StatusCode.UNAVAILABLE,
    "engine": grpc.StatusCode.INTERNAL,
    "internal": grpc.StatusCode.INTERNAL,
}

Response = TypeVar("Response")


async def guarded(answer: Callable[[], Awaitable[Response]], context: Any) -> Response:
    """The answer, or the call aborted: with what a ServeError says, or with "internal error"."""
    result = await caught(answer())
    if isinstance(result, ServeError):
        await abort(context, result)
    return result


async def caught(answer: Awaitable[Response]) -> Response | ServeError:
    """The answer, or what it failed with."""
    try:
        return await answer
    except ServeError as error:
        return error.bare()
    except Exception:
        return bug()


def bug() -> ServeError:
    """To be called where an exception that nobody foresaw is handled: it is logged here."""
    log.exception("a bug answered a gRPC call with 'internal error'")
    return ServeError("internal error")


async def abort(context: Any, error: ServeError) -> NoReturn:
    """google.rpc.Status with ErrorInfo and, where asking again helps, RetryInfo; the reason stands
    in a trailer of its own too, for those without these schemas."""
    trailers: list[tuple[str, str | bytes]] = [
        ("alexnet-reason", error.reason),
        ("grpc-status-details-bin", _details(error).SerializeToString()),
    ]
    if error.retry_after_s is not None:
        # gRPC's own hint (gRFC A6): clients with a retry policy wait exactly this long.
        trailers.append(("grpc-retry-pushback-ms", str(round(error.retry_after_s * 1000))))
    try:
        await context.abort(CODES[error.reason], str(error), tuple(trailers))
    except grpc.aio.AbortError:
        raise
    except Exception:  # grpc's own, and a traceback in its log: the caller has hung up meanwhile
        raise asyncio.CancelledError from None
    raise AssertionError("abort always raises")


def _details(error: ServeError) -> status_pb2.Status:
    details = [_info(error.reason)]
    if error.retry_after_s is not None:
        seconds, nanos = divmod(round(error.retry_after_s * 1e9), 10**9)
        delay = duration_pb2.Duration(seconds=seconds, nanos=nanos)
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    code, _ = CODES[error.reason].value
    return status_pb2.Status(code=code, message=str(error), details=details)


@cache
def _info(reason: str) -> any_pb2.Any:
    return _packed(error_details_pb2.ErrorInfo(reason=reason.upper(), domain=DOMAIN))


def _packed(detail: Message) -> any_pb2.Any:
    """As Any.Pack does it, in half of the time: under overload everybody is told so."""
    name = detail.DESCRIPTOR.full_name
    return any_pb2.Any(type_url=f"type.googleapis.com/{name}", value=detail.SerializeToString())
