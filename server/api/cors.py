"""Pages of other sites: which may call, and read the answers (the Fetch standard's CORS)."""

from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from server.api import access
from server.door import Door

DOOR = web.AppKey("door", Door)
EXPOSED = "inference-header-content-length, retry-after, server-timing, x-request-id"
METHODS = "GET, HEAD, POST, PUT"
PREFLIGHT_S = "600"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What a browser asks before it sends what a page could not send by itself: without a key."""
    wanted = hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
    if request.method != hdrs.METH_OPTIONS or not wanted or not _allowed(request):
        return await handler(request)
    headers = {hdrs.ACCESS_CONTROL_ALLOW_METHODS: METHODS, hdrs.ACCESS_CONTROL_MAX_AGE: PREFLIGHT_S}
    if asked := request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS):
        headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = asked
    return web.Response(status=204, headers=headers)


async def allow(request: web.Request, response: web.StreamResponse) -> None:
    """Refusals too: a page that cannot read why it was refused is of no help."""
    if request.app[DOOR].origins:
        response.headers.add(hdrs.VARY, hdrs.ORIGIN)
    if origin := _allowed(request):
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED


def _allowed(request: web.Request) -> str:
    return access.allowed_origin(request.headers, request.app[DOOR].origins)
