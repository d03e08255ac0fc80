"""JPEG (ITU-T T.81): its segments up to the first scan, and the number of its scans."""

import re
from collections.abc import Iterator
from struct import error, unpack_from

import numpy as np

from alexnet.formats import exif
from alexnet.formats.row import Plain, Size

MAX_SEGMENTS = 2000
"""With what stands between them. Photos have a few dozen; a profile of megabytes comes in pieces
of 64 KB."""
MAX_FILL_BYTES = 1 << 16
MAX_TABLE_BYTES = 1 << 16
"""Of quantisation and Huffman tables before the first scan. Photos have about 1 KB; Pillow reads
the former in Python."""
MAX_SCANS = 100
MAX_SCANNED_PIXELS = 640_000_000
"""Scans x pixels: ten scans, which is what encoders write, of the largest photo."""

EOI = b"\xff\xd9"
# Table B.1; all others are followed by the length of their segment.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # DHT, JPG, DAC
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_ALONE = frozenset({0x00, 0x01, *range(0xD0, 0xD8)})
_DHT, _EOI, _SOS, _DQT, _DRI = 0xC4, 0xD9, 0xDA, 0xDB, 0xDD
_JFIF, _EXIF, _ICC, _ADOBE = 0xE0, 0xE1, 0xE2, 0xEE
_NOT_FILL = re.compile(rb"[^\xff]")
# Between the pixels: no stuffing, no restart, no fill.
_BETWEEN_PIXELS = np.array([0 < n < 0xFF and not 0xD0 <= n < 0xD8 for n in range(256)])
_PIECE = 1 << 16


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each up to the first scan's. Fill bytes (B.1.1.2) and whatever else
    stands between them is stepped over, as libjpeg and browsers do."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        if at + 1 < len(data) and data[at] == 0xFF != data[at + 1]:  # as nearly always
            at += 2
        else:
            start = data.find(b"\xff", at)
            found = _NOT_FILL.search(data, start, start + MAX_FILL_BYTES) if start >= 0 else None
            if not found:
                return
            at = found.end()
        marker = data[at - 1]
        if marker in _ALONE:
            continue
        (length,) = unpack_from(">H", data, at)
        if marker == _EOI or length < 2:
            return
        yield marker, at - 2, at + length
        if marker == _SOS:
            return
        at += length


def size(data: bytes) -> Size | None:
    found: tuple[int, int, bool, int] | None = None
    for marker, start, _ in _segments(data):
        if marker in _FRAMES and not found:
            height, width, components = unpack_from(">HHB", data, start + 5)
            found = width, height, marker % 4 == 2, components
        elif marker == _SOS and found:
            width, height, progressive, components = found
            if not (progressive or data[start + 4] < components):
                return width, height
            return width, height, True, max(1, _count_scans(data, start))
    return None


def plain(data: bytes) -> Plain:
    kept: list[bytes | memoryview] = [b"\xff\xd8"]
    orientation, tables, exif_seen, frame = 1, 0, False, 0
    for marker, start, end in _segments(data):
        segment = data[start:end]
        if marker in _FRAMES:
            _check_frame(marker, segment[4])
            frame = start
        elif marker in (_DQT, _DHT):
            tables += len(segment)
            if tables > MAX_TABLE_BYTES:
                raise ValueError("the JPEG has more tables than any photo needs; save it anew")
        elif marker == _EXIF and not exif_seen and segment.startswith(exif.PREFIX, 4):
            exif_seen, orientation = True, exif.orientation(segment[4:])
            continue
        elif marker == _SOS:
            if not frame:
                break
            height, width, components = unpack_from(">HHB", data, frame + 5)
            if data[frame + 1] == _PROGRESSIVE or segment[4] < components:
                _check_scans(data, end, width, height)
            kept.append(memoryview(data)[start:])
            return Plain(b"".join(kept), orientation)
        elif not (
            marker == _DRI
            or (marker == _JFIF and segment.startswith(b"JFIF\0", 4))
            or (marker == _ADOBE and segment.startswith(b"Adobe", 4))
            or (marker == _ICC and segment.startswith(b"ICC_PROFILE\0", 4))
        ):
            continue
        kept.append(segment)
    raise ValueError("the JPEG has no picture: its first scan is missing; send all of it")


def _check_frame(marker: int, bits: int) -> None:
    what = ""
    if marker > 0xC8:
        what = "with arithmetic coding"
    elif marker not in (_BASELINE, _EXTENDED, _PROGRESSIVE):
        what = "that is lossless or hierarchical"
    elif bits != 8:
        what = f"of {bits} bits"
    if what:
        raise ValueError(f"a JPEG {what} is not supported; save it as an ordinary JPEG")


def _check_scans(data: bytes, at: int, width: int, height: int) -> None:
    """Each scan passes over the whole picture, and may take a few bytes."""
    pixels = -(-width // 16) * -(-height // 16) * 256
    scans = 1
    for _ in range(MAX_SEGMENTS):
        start = _next_marker(data, at)
        if start < 0 or data[start + 1] == _EOI:
            return
        at, marker = start + 2, data[start + 1]
        if marker in _ALONE:
            continue
        scans += marker == _SOS
        if scans > MAX_SCANS or scans * pixels > MAX_SCANNED_PIXELS:
            raise ValueError(
                f"the JPEG has too many scans for its {width} x {height} pixels; "
                "save it as a baseline JPEG"
            )
        try:
            at += unpack_from(">H", data, at)[0]
        except error:  # the end
            return
    raise ValueError("the JPEG has too many segments between its scans; save it anew")


# By numpy, which lets go of the interpreter: a regular expression held it for half a second.


def _next_marker(data: bytes, at: int) -> int:
    """The place of the next marker that is not part of the pixels; -1 for none."""
    for start in range(at, len(data) - 1, _PIECE):
        piece = np.frombuffer(data, np.uint8, min(_PIECE + 1, len(data) - start), start)
        found = np.flatnonzero(piece[:-1] == 0xFF)
        found = found[_BETWEEN_PIXELS[piece[found + 1]]]
        if len(found):
            return start + int(found[0])
    return -1


def _count_scans(data: bytes, at: int) -> int:
    """At most: among the pixels a zero stands behind every byte of ones."""
    scans = 0
    for start in range(at, len(data) - 1, _PIECE):
        piece = np.frombuffer(data, np.uint8, min(_PIECE + 1, len(data) - start), start)
        scans += int(np.count_nonzero((piece[:-1] == 0xFF) & (piece[1:] == _SOS)))
        if scans > MAX_SCANS:
            break
    return scans
