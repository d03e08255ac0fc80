"""What an HTTP request carries, all bounded: numbers in headers, a body, the photos of a form."""

import asyncio
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from aiohttp import (
    BadContentDispositionHeader,
    BadContentDispositionParam,
    BodyPartReader,
    hdrs,
    web,
)
from aiohttp.http_exceptions import BadHttpMessage

from server.errors import BadRequest, Expired, ServeError, TooLarge
from server.scheduler.job import Request
from server.service import Service

ENCODINGS = ("identity", "gzip", "deflate")
TIMEOUT, PRIORITY = "x-request-timeout-ms", "x-request-priority"
SHORT_BYTES, SHORT_S = 1 << 16, 5.0
"""Limits for JSON bodies that are not counted as uploads."""
MAX_FILES = 64
_CHUNK = 1 << 16
# These warnings echo request content into the log.
warnings.filterwarnings("ignore", category=BadContentDispositionHeader)
warnings.filterwarnings("ignore", category=BadContentDispositionParam)


class File(NamedTuple):
    name: str
    image: bytes


def admit(
    request: web.Request,
    service: Service,
    face: str,
    version: str,
    model: str = "",
    deadline_in_body: bool = False,
) -> AbstractContextManager[Request]:
    """`Service.admit` with what the headers say. Raises BadRequest, counted."""
    headers, length = request.headers, request.content_length
    try:
        timeout = headers.get(TIMEOUT)
        if timeout is not None and not _is_number(timeout):
            raise BadRequest(f"{TIMEOUT} must be a whole number of milliseconds")
        priority = whole(headers, PRIORITY)
    except ServeError as error:
        service.refused(face, error)
        raise
    # Of a body that is compressed, or of unknown length, all that is allowed.
    if length is None or hdrs.CONTENT_ENCODING in headers:
        length = service.limits.max_request_bytes
    return service.admit(
        face,
        None if timeout is None else int(timeout) / 1000,
        priority=priority,
        version=version,
        model=model,
        upload_bytes=length,
        check=timeout is not None or not deadline_in_body,
    )


def option(request: web.Request, name: str, known: Sequence[str]) -> int | None:
    """A number in the query. Raises BadRequest, for unknown options too."""
    if unknown := request.query.keys() - known:
        raise BadRequest(f"there is no option {min(unknown)[:50]!r}: {', '.join(known)}")
    return whole(request.query, name)


def whole(given: Mapping[str, str], name: str) -> int | None:
    """Raises BadRequest for what is no whole number."""
    text = given.get(name)
    if text is None:
        return None
    if not _is_number(text.removeprefix("-")):
        raise BadRequest(f"{name} must be a whole number, not {text[:20]!r}")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


async def read(request: web.Request, service: Service) -> bytes:
    """Raises TooLarge, BadRequest when it does not decompress."""
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower()
    if encoding not in ENCODINGS:
        raise BadRequest(f"Content-Encoding must be gzip or deflate, not {encoding[:20]!r}")
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise service.too_large() from None
    except web.RequestPayloadError:
        raise _undecodable() from None


async def read_short(request: web.Request) -> bytes:
    """Raises TooLarge, Expired, BadRequest when it does not decompress."""
    body = bytearray()
    try:
        async with asyncio.timeout(SHORT_S):
            async for chunk in request.content.iter_chunked(SHORT_BYTES):
                body += chunk
                if len(body) > SHORT_BYTES:
                    raise TooLarge(f"{request.path} takes at most {SHORT_BYTES:,} bytes")
    except TimeoutError:
        raise Expired(f"the body was not here within {SHORT_S:.0f} s") from None
    except web.RequestPayloadError:
        raise _undecodable() from None
    return bytes(body)


async def read_form(request: web.Request, max_bytes: int) -> list[File]:
    """Every field `file`. Raises BadRequest for a form that is malformed, empty or has other
    fields, TooLarge when its photos have more than `max_bytes` together; the rest is not read."""
    files: list[File] = []
    left = max_bytes
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or part.name != "file":
                raise BadRequest("a form has one or more fields named 'file' and no others")
            if len(files) == MAX_FILES:
                raise BadRequest(f"a form has at most {MAX_FILES} files")
            image = bytearray()
            while chunk := await part.read_chunk(_CHUNK):
                image += chunk
                if len(image) > left:
                    raise TooLarge(f"the form has more than the {max_bytes:,} bytes accepted")
            left -= len(image)
            files.append(File(part.filename or "", bytes(image)))
    except (ValueError, AssertionError, EOFError, BadHttpMessage, web.RequestPayloadError) as error:
        # aiohttp asserts on what the sender wrote
        raise BadRequest(f"the form is malformed: {error}".rstrip(": ")) from None
    if not files:
        raise BadRequest("the form has no field named 'file'")
    return files


def _undecodable() -> BadRequest:
    return BadRequest("the body cannot be decompressed as its Content-Encoding says")
