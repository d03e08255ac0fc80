"""The photos of a form, `multipart/form-data`: cut out of a body that is here already.

A reader that takes it line by line needs a turn of the event loop for each byte of some forms.
"""

from collections.abc import Iterator
from email.message import Message
from email.parser import HeaderParser
from typing import NamedTuple

from server.errors import BadRequest

MAX_FILES = 64
MAX_HEAD_BYTES, MAX_BOUNDARY_BYTES = 2048, 70
"""The second is that of RFC 2046. Python's own parser of heads takes their square in time."""
IGNORED = "_charset_"
"""A field that a browser adds by itself: in which encoding it has written the others."""


class File(NamedTuple):
    name: str
    image: bytes


def photos(body: bytes, content_type: str) -> list[File]:
    """Every field `file`. Raises BadRequest for a form that is malformed, empty or has other
    fields."""
    files: list[File] = []
    for head, start, end in _parts(body, _boundary(content_type)):
        name = head.get_param("name", header="content-disposition")
        if name == IGNORED:
            continue
        if name != "file":
            raise BadRequest("a form has one or more fields named 'file' and no others")
        if len(files) == MAX_FILES:
            raise BadRequest(f"a form has at most {MAX_FILES} files")
        files.append(File(_last_part(head.get_filename("")), body[start:end]))
    if not files:
        raise BadRequest("the form has no field named 'file'")
    return files


def _parts(body: bytes, boundary: bytes) -> Iterator[tuple[Message, int, int]]:
    """The head of each, and where its content begins and ends."""
    line = b"\r\n--" + boundary
    # What comes before the first boundary is skipped, as what comes after the last.
    at = 0 if body.startswith(line[2:]) else body.find(line) + 2
    if at == 1:
        raise _malformed("the boundary that its Content-Type names is nowhere in it")
    at += len(line) - 2
    for number in range(MAX_FILES + 2):  # one more is refused for a better reason
        if body.startswith(b"--", at):
            return
        head_at = body.find(b"\r\n", at, at + MAX_BOUNDARY_BYTES)
        if head_at < 0 or body[at:head_at].strip(b" \t"):
            raise _malformed(f"something follows the boundary before part {number}")
        # A part without a head has its empty line at once.
        head_end = body.find(b"\r\n\r\n", head_at, head_at + MAX_HEAD_BYTES)
        if head_end < 0:
            raise _malformed(f"the head of part {number} does not end in {MAX_HEAD_BYTES:,} bytes")
        start = head_end + 4
        # An empty part ends with the line break that ends its head.
        end = body.find(line, start - 2)
        if end < 0:
            raise _malformed(f"it ends within part {number}: its last boundary is missing")
        yield _head(body[head_at + 2 : head_end]), start, max(start, end)
        at = end + len(line)
    raise BadRequest(f"a form has at most {MAX_FILES} files")


def _boundary(content_type: str) -> bytes:
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_boundary("")
    if not 0 < len(boundary) <= MAX_BOUNDARY_BYTES:
        raise _malformed(f"Content-Type must name a boundary of 1 to {MAX_BOUNDARY_BYTES} letters")
    return boundary.encode("utf-8", "surrogateescape")


def _head(lines: bytes) -> Message:
    """Browsers write names in UTF-8; what is none has been written by something older."""
    try:
        text = lines.decode()
    except UnicodeDecodeError:
        text = lines.decode("latin-1")
    return HeaderParser().parsestr(text)


def _last_part(name: str) -> str:
    """Some old programs send the whole path, with the separators of their system. Text of a head
    may hold escapes that are no characters, and no JSON."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return last.encode("utf-8", "replace").decode()


def _malformed(why: str) -> BadRequest:
    return BadRequest(f"the form is malformed: {why}")
