"""GIF (GIF89a specification): the screen, and the first frame without its extensions."""

from dataclasses import dataclass
from struct import pack, unpack_from

from alexnet.formats.row import Plain, Size

MAX_BLOCKS = 5000
"""Stepped over before the first frame, 255 bytes of a comment each, and about as many characters
of XMP; and again before the second."""
_TRANSPARENT = 1


@dataclass(frozen=True)
class _Frame:
    at: int
    """Where its descriptor stands."""
    control: bytes
    """Of its transparency; empty where there is none."""
    left: int
    top: int
    width: int
    height: int


def _first(data: bytes) -> _Frame | None:
    at = _after_palette(data)
    control, inside = b"", False
    for _ in range(MAX_BLOCKS):
        byte = data[at]
        if inside:  # an extension: blocks that say their length, up to an empty one
            inside, at = byte > 0, at + 1 + byte
        elif byte == ord("!"):
            if data[at + 1 : at + 3] == b"\xf9\4":
                control = data[at : at + 8]
            inside, at = True, at + 2
        elif byte == ord(","):
            return _Frame(at, control, *unpack_from("<HHHH", data, at + 1))
        else:
            return None
    return None


def _after_palette(data: bytes) -> int:
    return 13 + (6 << (data[10] & 7) if data[10] & 0x80 else 0)


def size(data: bytes) -> Size | None:
    """The screen, or the first frame where that is larger: browsers and Pillow make room for it."""
    if not data.startswith((b"GIF87a", b"GIF89a")):
        return None
    width, height = unpack_from("<HH", data, 6)
    frame = _first(data)
    if not frame:
        return None
    return max(width, frame.left + frame.width), max(height, frame.top + frame.height)


def plain(data: bytes) -> Plain:
    """The frame as a picture of its own; the screen around it is transparent, as in browsers."""
    frame, whole = _first(data), size(data)
    if not frame or not whole:
        raise ValueError("the GIF has no picture: its first frame is missing; send all of it")
    if not frame.width or not frame.height:
        raise ValueError("the GIF has no picture: its first frame is empty; send all of it")
    width, height = whole[:2]
    inside = width, height, frame.left, frame.top
    picture = b"".join((
        b"GIF89a", pack("<HH", frame.width, frame.height), data[10:_after_palette(data)],
        frame.control, b",\0\0\0\0", memoryview(data)[frame.at + 5 :],
    ))  # fmt: skip
    covered = (frame.width, frame.height) == (width, height)
    return Plain(picture, canvas=None if covered else inside, frames=_frames(data, frame.at + 9))


def _frames(data: bytes, at: int) -> int:
    """1, or 2 where another frame follows; 0 where the first has too many blocks to tell. The first
    one's flags are `at`."""
    at += 2 + (6 << (data[at] & 7) if data[at] & 0x80 else 0)
    inside = True
    for _ in range(MAX_BLOCKS):
        byte = data[at] if at < len(data) else 0
        if inside:
            inside, at = byte > 0, at + 1 + byte
        elif byte == ord("!"):
            inside, at = True, at + 2
        else:
            return 2 if byte == ord(",") else 1
    return 0
