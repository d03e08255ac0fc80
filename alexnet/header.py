"""What a photo's first bytes declare, for admission: no pixel and no metadata is read.

An estimate that costs microseconds whatever the bytes are. What may be decoded is decided by
Pillow's own reading in alexnet/preprocess.py.
"""

from dataclasses import dataclass
from struct import error, unpack_from

# Segments of a JPEG, or blocks of a GIF, that are stepped over. Photos have a few dozen; a profile
# or a comment of megabytes comes in pieces of 64 KB or 255 bytes.
MAX_STEPS = 500
MAX_JUNK_BYTES = 1024

# JPEG markers (ITU-T T.81, table B.1); all others are followed by the length of their segment.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # DHT, JPG, DAC
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_ALONE = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})
_START_OF_SCAN = 0xDA


MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"BM")


@dataclass(frozen=True)
class Header:
    format: str
    """As Pillow names it: JPEG, PNG, WEBP, GIF or BMP."""
    width: int
    """As stored, before the EXIF rotation."""
    height: int
    progressive: bool = False
    """A JPEG whose coefficients are all held in memory, at full size, until the last scan."""

    @property
    def kind(self) -> str:
        """Photos of one kind cost alike: the format, or `progressive JPEG`."""
        return f"progressive {self.format}" if self.progressive else self.format


def read_header(data: bytes) -> Header | None:
    """None when the bytes do not tell: no such format, too short, or too much before the size."""
    try:
        header = _read(data)
    except (error, IndexError):  # too short
        return None
    return header if header and header.width and header.height else None


def _read(data: bytes) -> Header | None:
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
        width, height = unpack_from(">II", data, 16)
        return Header("PNG", width, height)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _gif(data)
    if data.startswith(b"BM"):
        (size,) = unpack_from("<I", data, 14)
        width, height = unpack_from("<HH" if size == 12 else "<Ii", data, 18)
        return Header("BMP", width, abs(height))  # negative: the rows run from top to bottom
    return None


def _jpeg(data: bytes) -> Header | None:
    at = 2
    for _ in range(MAX_STEPS):
        at = data.find(b"\xff", at, at + MAX_JUNK_BYTES)
        if at < 0:
            return None
        marker = data[at + 1]
        if marker in _START_OF_FRAME:
            height, width = unpack_from(">HH", data, at + 5)
            return Header("JPEG", width, height, marker in _PROGRESSIVE)
        if marker == _START_OF_SCAN:
            return None
        if marker == 0xFF:  # padding
            at += 1
        elif marker in _ALONE:
            at += 2
        else:
            (length,) = unpack_from(">H", data, at + 2)
            at += 2 + length
    return None


def _webp(data: bytes) -> Header | None:
    """RFC 9649, section 2: a lossy frame, a lossless one, or the canvas around either."""
    chunk = data[12:16]
    if chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = unpack_from("<HH", data, 26)
        return Header("WEBP", width & 0x3FFF, height & 0x3FFF)
    if chunk == b"VP8L" and data[20] == 0x2F:
        (bits,) = unpack_from("<I", data, 21)
        return Header("WEBP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if chunk == b"VP8X" and len(data) >= 30:
        width = int.from_bytes(data[24:27], "little") + 1
        return Header("WEBP", width, int.from_bytes(data[27:30], "little") + 1)
    return None


def _gif(data: bytes) -> Header | None:
    """The screen, or the first frame where that is larger: Pillow makes room for it."""
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
            return Header("GIF", max(width, left + w), max(height, top + h))
        else:
            return None
    return None
