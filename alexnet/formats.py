"""The image formats that are accepted: a row for each, below what reads their sizes."""

from collections.abc import Callable
from dataclasses import dataclass
from struct import unpack_from
from typing import Any

# Segments of a JPEG, or blocks of a GIF, that are stepped over. Photos have a few dozen; a profile
# or a comment of megabytes comes in pieces of 64 KB or 255 bytes.
MAX_STEPS = 500
MAX_JUNK_BYTES = 1024

# JPEG markers (ITU-T T.81, table B.1); all others are followed by the length of their segment.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # DHT, JPG, DAC
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_ALONE = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})
_START_OF_SCAN = 0xDA

Size = tuple[int, int] | tuple[int, int, bool]
"""Width and height as stored, 0 where there is none; and of a JPEG, whether it is progressive."""


@dataclass(frozen=True)
class Format:
    name: str
    """As Pillow names it."""
    magic: bytes
    size: Callable[[bytes], Size | None]
    """None when the bytes do not tell; raises struct.error or IndexError when they are too few."""
    suffixes: tuple[str, ...]
    bytes_per_pixel: int
    """Decoded: at the peak, with every copy."""
    samples: dict[str, dict[str, Any]]
    """By Header.kind: Pillow's options for encoding, chosen for speed where decoding is alike."""
    kept_bytes: int = 0
    """A pixel's coefficients in a progressive photo, whatever fraction of it is decoded."""
    fractions: bool = False
    """A half, a quarter or an eighth is decoded for a fraction of the cost."""
    palette: bool = False  # of 256 colours: samples are reduced to them first
    magic_at: int = 0  # it is 4 in HEIC and AVIF


def _jpeg(data: bytes) -> Size | None:
    at = 2
    for _ in range(MAX_STEPS):
        at = data.find(b"\xff", at, at + MAX_JUNK_BYTES)
        marker = data[at + 1]
        if at < 0 or marker == _START_OF_SCAN:
            return None
        if marker in _START_OF_FRAME:
            height, width = unpack_from(">HH", data, at + 5)
            return width, height, marker in _PROGRESSIVE
        if marker == 0xFF:  # padding
            at += 1
        elif marker in _ALONE:
            at += 2
        else:
            (length,) = unpack_from(">H", data, at + 2)
            at += 2 + length
    return None


def _png(data: bytes) -> Size | None:
    known = data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR"
    return unpack_from(">II", data, 16) if known else None


def _webp(data: bytes) -> Size | None:
    """RFC 9649, section 2: a lossy frame, a lossless one, or the canvas around either."""
    kind = data[8:16]
    if kind == b"WEBPVP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"WEBPVP8L" and data[20] == 0x2F:
        (bits,) = unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"WEBPVP8X" and len(data) >= 30:
        width, height = data[24:27], data[27:30]
        return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
    return None


def _gif(data: bytes) -> Size | None:
    """The screen, or the first frame where that is larger: Pillow makes room for it."""
    if not data.startswith((b"GIF87a", b"GIF89a")):
        return None
    width, height, flags = unpack_from("<HHB", data, 6)
    at = 13 + (6 << (flags & 7) if flags & 0x80 else 0)  # after the palette
    inside = False
    for _ in range(MAX_STEPS):
        byte = data[at]
        if inside:  # an extension: blocks that say their length, up to an empty one
            inside, at = byte > 0, at + 1 + byte
        elif byte == ord("!"):
            inside, at = True, at + 2
        elif byte == ord(","):
            left, top, w, h = unpack_from("<HHHH", data, at + 1)
            return max(width, left + w), max(height, top + h)
        else:
            return None
    return None


def _bmp(data: bytes) -> Size:
    (size,) = unpack_from("<I", data, 14)
    width, height = unpack_from("<HH" if size == 12 else "<Ii", data, 18)
    return width, abs(height)  # negative: the rows run from top to bottom


_JPEGS = {"JPEG": {"quality": 85}, "progressive JPEG": {"quality": 85, "progressive": True}}
# Bytes per pixel: Pillow's four for RGB, and the copies (the canvas of an animation, palette and
# alpha unfolded), measured in tests/unit/test_header.py.
_ROWS = (
    Format(
        "JPEG", b"\xff\xd8\xff", _jpeg, (".jpeg", ".jpg"), 4, _JPEGS, kept_bytes=8, fractions=True
    ),
    Format("PNG", b"\x89PNG", _png, (".png",), 12, {"PNG": {"compress_level": 1}}),
    Format("WEBP", b"RIFF", _webp, (".webp",), 22, {"WEBP": {"quality": 80, "method": 0}}),
    Format("GIF", b"GIF8", _gif, (".gif",), 10, {"GIF": {}}, palette=True),
    Format("BMP", b"BM", _bmp, (".bmp",), 12, {"BMP": {}}),
)
FORMATS = {row.name: row for row in _ROWS}
SUFFIXES = tuple(suffix for row in _ROWS for suffix in row.suffixes)


def format_of(data: bytes) -> Format | None:
    """By the magic alone."""
    for form in FORMATS.values():
        if data.startswith(form.magic, form.magic_at):
            return form
    return None
