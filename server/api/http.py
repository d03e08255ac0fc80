"""The HTTP server: which routes on which port, and what runs around every handler."""

import errno
import logging
import math
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import hdrs, web, web_response
from aiohttp.http_exceptions import HttpProcessingError

from server.api import access, bodies, cors
from server.api.connection import NO_SNIFFING, peer
from server.api.lifetime import Lifetime
from server.api.messages import failure
from server.door import Door
from server.errors import (
    BadRequest,
    LengthRequired,
    NotFound,
    ServeError,
    TooLarge,
    Unauthenticated,
    UnsupportedEncoding,
    outcome,
)
from server.telemetry import logs
from server.telemetry.traces import TRACEPARENT
from server.telemetry.visits import Visit, Visits

log = logging.getLogger(__name__)

REQUEST_ID = web.RequestKey("request_id", str)
LIFETIME = web.AppKey("lifetime", Lifetime)
VISITS, VISIT = web.AppKey("visits", Visits), web.RequestKey("visit", Visit)

ENDLESS = Lifetime()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

logs.quieten(log, HttpProcessingError, "malformed HTTP was answered 400")
# aiohttp stumbles over such a body once more when it looks for the next request.
logs.quieten(log, web.RequestPayloadError, "a body that cannot be read was answered 400")
# asyncio tries again and again, a traceback each time.
logs.quieten(
    logging.getLogger("asyncio"),
    OSError,
    "no connection can be accepted: too many are open",
    lambda error: getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE),
)
# aiohttp says which versions run here where no handler is asked.
web_response.SERVER_SOFTWARE = "alexnet-server"


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error as JSON with its status; an unexpected one is logged and says nothing. The visit
    ends here, whatever became of it."""
    request[REQUEST_ID] = access.identify(request.headers.get(access.REQUEST_ID, ""))
    visit = request[VISIT] = request.app[VISITS].begin(
        face(request.path), request.method, request.rel_url.raw_path, peer(request),
        request.headers, _route(request),
    )  # fmt: skip
    try:
        response = await _answer(request, handler)
    except BaseException as error:  # its caller has hung up
        visit.end("499", outcome(error))
        raise
    if visit.trace:
        response.headers[TRACEPARENT] = visit.trace.traceparent
    visit.bytes = request.content.total_bytes
    visit.end(str(response.status))
    return response


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        door = request.app[cors.DOOR]
        access.check_page(request.method, request.headers, door.origins)
        access.check_host(request.headers.get(hdrs.HOST, ""), _listening(request), door.names)
        access.authenticate(door, request.headers, _route(request), _certified(request))
        response = await handler(request)
    except ServeError as error:
        response = refusal(request, error)
    except web.HTTPNotFound:
        there = [resource.canonical for resource in request.app.router.resources()]
        see = "/docs" if "/docs" in there else ", ".join(there)
        response = refusal(request, NotFound(f"there is nothing at {request.path}; see {see}"))
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        text = f"{request.path} takes {allowed}, not {request.method}"
        response = refusal(request, BadRequest(text), 405)
        response.headers[hdrs.ALLOW] = allowed
    except web.HTTPException as answer:  # aiohttp's own: a redirect, or what it does not take
        response = answer
        if answer.status >= 400:
            request[VISIT].error = BadRequest(answer.reason)
    except Exception:
        log.exception("a bug answered %s %s with 'internal error'", request.method, request.path)
        response = refusal(request, ServeError())
    response.headers["x-request-id"] = request[REQUEST_ID]
    if hdrs.EXPECT in request.headers and not request.content.is_eof():
        response.force_close()  # whether the body follows is for the caller to choose
    return response


async def _no_sniffing(request: web.BaseRequest, response: web.StreamResponse) -> None:
    response.headers[NO_SNIFFING[0]] = NO_SNIFFING[1]


def _route(request: web.Request) -> str:
    """`/v1/models/{name}`; empty where there is none."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else ""


def face(path: str) -> str:
    return "oip-rest" if path == "/v2" or path.startswith("/v2/") else "rest"


def _listening(request: web.Request) -> str:
    """The address of our end; empty for a socket that has none."""
    name = request.transport and request.transport.get_extra_info("sockname")
    return str(name[0]) if isinstance(name, tuple) else ""


def _certified(request: web.Request) -> bool:
    """Whether it came by a connection with a certificate of the caller's. Without TLS, where there
    is TLS on all ports, it came by a socket of this machine."""
    return request.get_extra_info("ssl_object") is None or bool(request.get_extra_info("peercert"))


@web.middleware
async def ending(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A caller that is told that its connection ends takes another for its next request: one that
    is closed without a word may have carried it already."""
    response = await handler(request)
    if request.app[LIFETIME].over(request.protocol.started):  # type: ignore[attr-defined] # Connection
        response.force_close()
    return response


MIDDLEWARES = ending, cors.preflight, errors
"""Outermost first; what holds for gRPC too belongs into api/access.py."""


def refusal(request: web.Request, error: ServeError, status: int | None = None) -> web.Response:
    request[VISIT].error = error.without_traceback()
    oip = face(request.path) == "oip-rest"  # it has its own form
    body = {"error": str(error)} if oip else failure(error, request[REQUEST_ID])
    response = web.json_response(body, status=status or error.http)
    if error.retry_after_s is not None:
        # The header knows whole seconds only; the body has the milliseconds.
        response.headers[hdrs.RETRY_AFTER] = str(math.ceil(error.retry_after_s))
    if isinstance(error, Unauthenticated):
        response.headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    if isinstance(error, UnsupportedEncoding):
        response.headers[hdrs.ACCEPT_ENCODING] = ", ".join(bodies.ENCODINGS)
    if isinstance(error, TooLarge | LengthRequired):
        response.force_close()  # the rest of the upload is not worth reading, or cannot be
    return response


def application(
    routes: Iterable[web.RouteDef],
    max_bytes: int = 1 << 20,
    visits: Visits | None = None,
    door: Door | None = None,
    lifetime: Lifetime = ENDLESS,
) -> web.Application:
    """`visits` are told of every request; without any, as among workers, none is."""
    result = web.Application(middlewares=MIDDLEWARES, client_max_size=max_bytes)
    result[VISITS], result[cors.DOOR] = visits or Visits(), door or Door()
    result[LIFETIME] = lifetime
    result.on_response_prepare.append(_no_sniffing)
    result.on_response_prepare.append(cors.allow)
    result.add_routes(routes)
    return result
