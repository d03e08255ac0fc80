"""What the headers of a request say of its schedule."""

from collections.abc import Mapping

from aiohttp import web

from server.errors import BadRequest


def timeout_s(request: web.Request) -> float | None:
    """Of X-Request-Timeout-Ms. Raises BadRequest."""
    text = request.headers.get("x-request-timeout-ms")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise BadRequest("x-request-timeout-ms must be a whole number of milliseconds")
    return int(text) / 1000


def priority(request: web.Request) -> int | None:
    """Of X-Request-Priority. Raises BadRequest."""
    return whole(request.headers, "x-request-priority")


def whole(given: Mapping[str, str], name: str) -> int | None:
    """Raises BadRequest for what is no whole number."""
    text = given.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) < 10):
        raise BadRequest(f"{name} must be a whole number, not {text[:20]!r}")
    return int(text)
