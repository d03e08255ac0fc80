"""The arrival of a gRPC call: what runs around every handler, as the middleware in http.py does."""

import inspect
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import grpc

from server.api import access
from server.api.calls import abort
from server.door import Door
from server.errors import Cancelled, NotFound, Overloaded, ServeError, outcome
from server.scheduler.gate import jittered
from server.telemetry.traces import TRACEPARENT
from server.telemetry.visits import Visit, Visits

KINDS = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}
"""By whether requests and answers are streams."""
CALLS, WATCHES, REFLECTIONS = "calls", "health watches", "reflection streams"
WATCH, REFLECTION = "/grpc.health.v1.Health/Watch", "/grpc.reflection."


class Arrivals(grpc.aio.ServerInterceptor):
    """What holds for HTTP too belongs into api/access.py."""

    def __init__(self, visits: Visits, calls: int, idle: int, door: Door):
        """So many `calls` at a time: their photos are in memory before the service can refuse them.
        What stays open and holds no photo is apart, `idle` of a kind: it asks for no key, and must
        not take a call from a photo."""
        self._visits, self._door = visits, door
        self._most = {CALLS: calls, WATCHES: idle, REFLECTIONS: idle}
        self._open = Counter[str]()

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> Any:
        metadata = dict(details.invocation_metadata)
        access.identify(metadata.get(access.REQUEST_ID, ""))
        visit = self._visits.begin(face(details.method), details.method, headers=metadata)
        handler = await continuation(details)
        visit.streams = bool(handler and handler.response_streaming)
        try:  # a connection without the certificate that is asked for has no calls
            access.authenticate(self._door, metadata, details.method, stream=visit.streams)
        except ServeError as error:
            return self._refusing(visit, error.without_traceback())
        if handler is None:
            return self._refusing(visit, _unknown(visit.method))
        kind = _kind(details.method)
        if kind and self._open[kind] >= self._most[kind]:
            text = f"all {self._most[kind]} {kind} are taken; try again later"
            return self._refusing(visit, Overloaded(text, jittered(1.0)))
        return self._around(handler, visit, kind)

    def _refusing(self, visit: Visit, refusal: ServeError) -> Any:
        async def refuse(request: Any, context: Any) -> None:
            with self._visiting(visit, context):
                await abort(context, refusal)

        return grpc.stream_stream_rpc_method_handler(refuse)

    def _around(self, handler: Any, visit: Visit, kind: str) -> Any:
        name, handling = KINDS[handler.request_streaming, handler.response_streaming]
        method = getattr(handler, name)

        async def answer(request: Any, context: Any) -> Any:
            with self._visiting(visit, context, kind):
                return await method(request, context)

        async def answers(request: Any, context: Any) -> AsyncIterator[Any]:
            with self._visiting(visit, context, kind):
                async for each in method(request, context):
                    yield each

        return handling(
            answers if inspect.isasyncgenfunction(method) else answer,
            handler.request_deserializer,
            handler.response_serializer,
        )

    @contextmanager
    def _visiting(self, visit: Visit, context: Any, kind: str = "") -> Iterator[None]:
        visit.peer = _peer(context)
        if visit.trace:
            context.set_trailing_metadata(((TRACEPARENT, visit.trace.traceparent),))
        self._open[kind] += 1
        error: ServeError | None = None
        try:
            yield
        except grpc.aio.AbortError:  # api/calls.py has said why; others have only a code
            error = visit.error
            raise
        except BaseException as unexpected:
            error = visit.error or outcome(unexpected)
            raise
        finally:
            self._open[kind] -= 1
            _end(visit, context.code(), error)


def _end(visit: Visit, code: grpc.StatusCode | None, error: ServeError | None) -> None:
    if visit.streams and (error is None or isinstance(error, Cancelled)):
        # Each message was a visit of its own, and hanging up is how most streams end.
        visit.close("CANCELLED" if error else "OK")
    else:
        visit.end(error.grpc if error else code.name if code else "OK", error)


def _kind(method: str) -> str:
    """What it is counted as. Empty for a probe: a full server must not look dead."""
    if method == WATCH:
        return WATCHES
    if method.startswith(REFLECTION):
        return REFLECTIONS
    return "" if method in access.OPEN else CALLS


def face(method: str) -> str:
    """Of `/package.Service/Method`."""
    kind = "oip-grpc" if method.startswith("/inference.") else "grpc"
    return f"{kind}-stream" if method.endswith(("ClassifyStream", "ModelStreamInfer")) else kind


def _unknown(method: str) -> NotFound:
    error = NotFound(f"there is no method {method}; the server has reflection")
    error.grpc = "UNIMPLEMENTED"  # what clients know an unknown method by
    return error


def _peer(context: Any) -> str:
    """`127.0.0.1:5000` of `ipv4:127.0.0.1:5000`, or `[::1]:5000`."""
    return unquote(context.peer()).partition(":")[2]
