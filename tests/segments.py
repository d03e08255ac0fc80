"""Files taken apart and put together again: segments of JPEGs, chunks of PNGs, bitmaps by hand."""

import struct
import zlib
from collections.abc import Sequence

from tests.photos import jpeg, png

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


def with_segment(extra: bytes, data: bytes = b"") -> bytes:
    """A JPEG with something behind its first segment."""
    data = data or jpeg()
    end = 4 + struct.unpack_from(">H", data, 4)[0]
    return data[:end] + extra + data[end:]


def before_scan(extra: bytes, data: bytes = b"") -> bytes:
    """A JPEG with something between its frame and its first scan."""
    data = data or jpeg()
    at = data.index(b"\xff\xda")
    return data[:at] + extra + data[at:]


def exif(kind: int, value: bytes, count: int = 1) -> bytes:
    """A block with nothing but an orientation of this type."""
    entry = struct.pack("<HHI", 0x0112, kind, count)
    value = value if len(value) <= 4 else struct.pack("<I", 26) + value
    return b"Exif\0\0II*\0\x08\0\0\0\1\0" + entry + value[:4].ljust(4, b"\0") + bytes(4) + value[4:]


def chunk(kind: bytes, content: bytes, damaged: bool = False) -> bytes:
    checksum = zlib.crc32(kind + content) ^ damaged
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def with_chunks(*chunks: bytes, data: bytes = b"") -> bytes:
    """A PNG with these behind its header."""
    data = data or png()
    return data[:33] + b"".join(chunks) + data[33:]


def png_of(rows: Sequence[bytes], width: int, bits: int, colours: int, *chunks: bytes) -> bytes:
    """From packed rows."""
    header = struct.pack(">IIBBBBB", width, len(rows), bits, colours, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = chunk(b"IHDR", header), *chunks, chunk(b"IDAT", pixels), chunk(b"IEND", b"")
    return SIGNATURE + b"".join(parts)


def bmp_of(
    pixels: bytes, width: int, height: int, bits: int, *, compression: int = 0,
    masks: Sequence[int] = (), palette: bytes = b"",
) -> bytes:  # fmt: skip
    """With a header of 40 bytes, or of 56 for four masks."""
    size = 56 if len(masks) == 4 else 40
    extra = struct.pack(f"<{len(masks)}I", *masks) + palette
    start = 14 + 40 + len(extra)
    info = struct.pack(
        "<IiiHHIIiiII",
        size, width, height, 1, bits, compression, 0, 0, 0, len(palette) // 4, 0,
    )  # fmt: skip
    return struct.pack("<2sIII", b"BM", start + len(pixels), 0, start) + info + extra + pixels
