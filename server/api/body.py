"""The body of a request over HTTP, bounded in size."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import hdrs, web

from server.errors import BadRequest, Expired, TooLarge
from server.service import DataPlane

# Of what is no photo, and has no place in the plane's account.
SHORT_BYTES, SHORT_S = 1 << 16, 5.0
ENCODINGS = ("identity", "gzip", "deflate")


def upload_bytes(request: web.Request, plane: DataPlane) -> int:
    """What the body may hold: its declared length, or all that is allowed when it is unknown or of
    the compressed body."""
    length = request.content_length
    if length is None or hdrs.CONTENT_ENCODING in request.headers:
        return plane.limits.max_request_bytes
    return length


async def read(request: web.Request, plane: DataPlane) -> bytes:
    """Raises TooLarge, BadRequest when it does not decompress."""
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower()
    if encoding not in ENCODINGS:
        raise BadRequest(f"Content-Encoding must be gzip or deflate, not {encoding[:20]!r}")
    with _decompressing():
        try:
            return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise plane.too_large() from None


async def read_short(request: web.Request) -> bytes:
    """Raises TooLarge, Expired, BadRequest when it does not decompress."""
    body = bytearray()
    with _decompressing():
        try:
            async with asyncio.timeout(SHORT_S):
                async for chunk in request.content.iter_chunked(SHORT_BYTES):
                    body += chunk
                    if len(body) > SHORT_BYTES:
                        raise TooLarge(f"{request.path} takes at most {SHORT_BYTES:,} bytes")
        except TimeoutError:
            raise Expired(f"the body was not here within {SHORT_S:.0f} s") from None
    return bytes(body)


@contextmanager
def _decompressing() -> Iterator[None]:
    try:
        yield
    except web.RequestPayloadError:
        raise BadRequest("the body cannot be decompressed as its Content-Encoding says") from None
