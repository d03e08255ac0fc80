"""The body of an HTTP request: counted as it arrives, and inflated beside the event loop.

aiohttp would inflate a body for every route, as it arrives, on the event loop.
"""

import asyncio
import time
import zlib
from collections.abc import Callable
from typing import Any, TypeVar

from aiohttp import hdrs, web

from server.api import connection
from server.errors import BadRequest, Expired, TooLarge, UnsupportedEncoding
from server.scheduler.gate import CHUNK_BYTES
from server.scheduler.job import Request

Result = TypeVar("Result")

ENCODINGS = ("identity", "gzip", "deflate")
SHORT_BYTES, SHORT_S = 1 << 16, 5.0
"""Limits for JSON bodies that are not counted as uploads."""
MAX_RATIO, FLAT_BYTES = 100, 1 << 20
"""A body may inflate to so many times its size. A small one may to more, up to so many bytes: a
tensor of one colour does, and costs a millisecond."""
GZIP, MAX_MEMBERS = b"\x1f\x8b", 100
"""A body of gzip may be several, one after the other (RFC 1952, section 2.2). For each, zlib copies
what follows it."""


async def read(request: web.Request, admitted: Request) -> bytes:
    """Inflated where a Content-Encoding says so. Raises TooLarge, Overloaded, BadRequest,
    UnsupportedEncoding, Expired."""
    encoding = encoding_of(request)
    limits = admitted.gate.limits
    body = bytearray()
    connection.wanted(request)
    try:
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > limits.max_request_bytes:
                raise limits.too_large()
            admitted.hold_upload(min(len(body) + CHUNK_BYTES, admitted.upload_bytes))
    except web.RequestPayloadError:
        raise _unreadable() from None
    admitted.hold_upload(len(body))
    if encoding == "identity":
        return bytes(body)
    most = min(limits.max_request_bytes, max(FLAT_BYTES, MAX_RATIO * len(body)))
    admitted.hold_upload(len(body) + most)
    inflated = await aside(admitted, _inflated, bytes(body), encoding, most)
    if len(inflated) > limits.max_request_bytes:
        raise limits.too_large()
    if len(inflated) > most:
        raise TooLarge(f"the body inflates to over {MAX_RATIO} times its size: send it as it is")
    admitted.hold_upload(len(inflated))
    return inflated


async def aside(admitted: Request, work: Callable[..., Result], *given: Any) -> Result:
    """What `work` makes of these, on the thread for that. A request whose caller hangs up, or whose
    deadline passes, before its turn has none. Raises Expired at the deadline."""

    def turn() -> Result:
        if time.monotonic() > admitted.deadline:  # and the event loop has not noticed yet
            raise Expired.after(admitted.start)
        return work(*given)

    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(admitted.deadline - time.monotonic()):
            return await loop.run_in_executor(admitted.gate.aside, turn)
    except TimeoutError:
        raise Expired.after(admitted.start) from None


async def read_short(request: web.Request) -> bytes:
    """Raises TooLarge, Expired, BadRequest, UnsupportedEncoding."""
    if encoding_of(request) != "identity":
        text = f"{request.path} takes no Content-Encoding: send the body as it is"
        raise UnsupportedEncoding(text)
    too_large = TooLarge(f"{request.path} takes at most {SHORT_BYTES:,} bytes")
    if (request.content_length or 0) > SHORT_BYTES:
        raise too_large
    body = bytearray()
    connection.wanted(request)
    try:
        async with asyncio.timeout(SHORT_S):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > SHORT_BYTES:
                    raise too_large
    except TimeoutError:
        raise Expired(f"the body was not here within {SHORT_S:.0f} s") from None
    except web.RequestPayloadError:
        raise _unreadable() from None
    return bytes(body)


def encoding_of(request: web.Request) -> str:
    """Raises UnsupportedEncoding for one that is not known."""
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower()
    if encoding == "x-gzip":  # an old name of the same, RFC 9110, section 8.4.1.3
        return "gzip"
    if encoding not in ENCODINGS:
        raise UnsupportedEncoding(
            f"Content-Encoding must be gzip or deflate, not {encoding[:20]!r}"
        )
    return encoding


def _inflated(body: bytes, encoding: str, most: int) -> bytes:
    """One byte over `most` where there is more; the interpreter is free meanwhile. Raises
    BadRequest."""
    if encoding == "gzip":
        window = zlib.MAX_WBITS | 16
    else:  # some send deflate without the header it should have, which begins so
        window = zlib.MAX_WBITS if body[:1] and body[0] & 15 == 8 else -zlib.MAX_WBITS
    parts, left = list[bytes](), most + 1
    for _ in range(MAX_MEMBERS):
        inflate = zlib.decompressobj(window)
        try:
            parts.append(inflate.decompress(body, left))
        except zlib.error:
            text = "the body cannot be decompressed as its Content-Encoding says"
            raise BadRequest(text) from None
        body, left = inflate.unused_data, left - len(parts[-1])
        if left and not inflate.eof:
            raise BadRequest("the body ends within its compressed data")
        if not left or not body:
            return b"".join(parts)
        if encoding != "gzip" or not body.startswith(GZIP):
            raise BadRequest("something follows the compressed data of the body")
    raise BadRequest(f"the body is over {MAX_MEMBERS} members of gzip: compress it as one")


def _unreadable() -> BadRequest:
    return BadRequest("the body is not sent as its Transfer-Encoding says")
