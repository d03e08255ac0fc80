"""Photos in a multipart form: every field `file`, bounded in number and in bytes."""

import warnings
from typing import NamedTuple

from aiohttp import BadContentDispositionHeader, BadContentDispositionParam, BodyPartReader, web
from aiohttp.http_exceptions import BadHttpMessage

from server.errors import BadRequest, TooLarge

MAX_FILES = 64
# They would copy into the log, again and again, what the sender wrote.
warnings.filterwarnings("ignore", category=BadContentDispositionHeader)
warnings.filterwarnings("ignore", category=BadContentDispositionParam)
_CHUNK = 1 << 16


class Upload(NamedTuple):
    name: str
    image: bytes


async def uploads(request: web.Request, max_bytes: int) -> list[Upload]:
    """Raises BadRequest for a form that is malformed, empty or has other fields, and TooLarge when
    its photos have more than `max_bytes` together; the rest is not read then."""
    files: list[Upload] = []
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
            files.append(Upload(part.filename or "", bytes(image)))
    except (ValueError, AssertionError, EOFError, BadHttpMessage, web.RequestPayloadError) as error:
        # aiohttp asserts on what the sender wrote
        raise BadRequest(f"the form is malformed: {error}".rstrip(": ")) from None
    if not files:
        raise BadRequest("the form has no field named 'file'")
    return files
