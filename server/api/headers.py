"""What the headers of a request say of its schedule."""

from collections.abc import Mapping

from aiohttp import web

from server.errors import BadRequest
from server.service import DataPlane


def schedule(request: web.Request, plane: DataPlane, face: str) -> tuple[float | None, int | None]:
    """The timeout in seconds and the priority, where they are named. Raises BadRequest, counted."""
    try:
        return _timeout_s(request), whole(request.headers, "x-request-priority")
    except BadRequest as error:
        plane.refused(face, error)
        raise


def _timeout_s(request: web.Request) -> float | None:
    text = request.headers.get("x-request-timeout-ms")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise BadRequest("x-request-timeout-ms must be a whole number of milliseconds")
    return int(text) / 1000


def whole(given: Mapping[str, str], name: str) -> int | None:
    """Raises BadRequest for what is no whole number."""
    text = given.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) < 10):
        raise BadRequest(f"{name} must be a whole number, not {text[:20]!r}")
    return int(text)
