"""The HTTP server: which routes on which port, and what runs around every handler."""

import errno
import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from aiohttp import hdrs, web, web_response
from aiohttp.http_exceptions import HttpProcessingError

from server.api import access
from server.api.messages import failure
from server.errors import BadRequest, NotFound, ServeError, TooLarge
from server.telemetry import logs

log = logging.getLogger(__name__)

KEEPALIVE_S = 75.0
"""A connection without a request in it is closed after this long."""
REQUEST_ID = web.RequestKey("request_id", str)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

logs.quieten(log, HttpProcessingError, "malformed HTTP was answered 400")
# aiohttp stumbles over such a body once more when it looks for the next request.
logs.quieten(log, web.RequestPayloadError, "a body that cannot be decompressed was answered 400")
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
    """Every error as JSON with its status; an unexpected one is logged and says nothing."""
    request[REQUEST_ID] = ""
    try:
        request[REQUEST_ID] = access.check(request.headers)
        response = await handler(request)
    except ServeError as error:
        response = refusal(request, error)
    except web.HTTPNotFound:
        response = refusal(request, NotFound(f"there is nothing at {request.path}; see /docs"))
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        text = f"{request.path} takes {allowed}, not {request.method}"
        response = refusal(request, BadRequest(text), 405)
        response.headers[hdrs.ALLOW] = allowed
    except web.HTTPException as redirect:
        response = redirect
    except Exception:
        log.exception("a bug answered %s %s with 'internal error'", request.method, request.path)
        response = refusal(request, ServeError())
    response.headers["x-request-id"] = request[REQUEST_ID]
    return response


MIDDLEWARES = (errors,)
"""Outermost first; what holds for gRPC too belongs into api/access.py."""


def refusal(request: web.Request, error: ServeError, status: int | None = None) -> web.Response:
    oip = request.path == "/v2" or request.path.startswith("/v2/")  # it has its own form
    body = {"error": str(error)} if oip else failure(error, request[REQUEST_ID])
    response = web.json_response(body, status=status or error.http)
    if error.retry_after_s is not None:
        # The header knows whole seconds only; the body has the milliseconds.
        response.headers[hdrs.RETRY_AFTER] = str(math.ceil(error.retry_after_s))
    if isinstance(error, TooLarge):
        response.force_close()  # the rest of the upload is not worth reading
    return response


def application(routes: Iterable[web.RouteDef], max_bytes: int = 1 << 20) -> web.Application:
    result = web.Application(middlewares=MIDDLEWARES, client_max_size=max_bytes)
    result.add_routes(routes)
    return result


class Listener:
    """An application on a port or a socket."""

    def __init__(
        self,
        application: web.Application,
        port: int = 0,
        *,
        shared: bool = False,
        socket: Path | None = None,
    ):
        """A `shared` port has several processes listening; a `socket` takes the port's place."""
        self.port, self._shared, self._socket = port, shared, socket
        # handler_cancellation: a request whose caller hangs up leaves the queue.
        # The service has drained before we close: what is open then is idle or too late.
        self._runner = web.AppRunner(
            application,
            handler_cancellation=True,
            access_log=None,
            logger=log,
            keepalive_timeout=KEEPALIVE_S,
            shutdown_timeout=1.0,
        )

    async def start(self, host: str) -> None:
        """Raises OSError when the port is taken."""
        await self._runner.setup()
        if self._socket:
            await web.UnixSite(self._runner, self._socket).start()
            return
        try:
            await web.TCPSite(self._runner, host, self.port, reuse_port=self._shared).start()
        except OSError as error:
            raise OSError(f"cannot listen on {host}:{self.port}: {error.strerror}") from None
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._runner.cleanup()
