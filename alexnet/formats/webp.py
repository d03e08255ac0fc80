"""WebP (RFC 9649): its size, its EXIF, and the first frame of an animation."""

from collections.abc import Iterator
from struct import pack, unpack_from

from alexnet.formats import exif
from alexnet.formats.row import Plain, Size

MAX_CHUNKS = 200
_ALPHA, _PROFILE, _ANIMATION = 0x10, 0x20, 0x02


def is_webp(data: bytes) -> bool:
    """Sound and video lie in RIFF files, too."""
    return b"WEBP".startswith(data[8:12])


def size(data: bytes) -> Size | None:
    """A lossy frame, a lossless one, or the canvas around either."""
    kind = data[8:16]
    if kind == b"WEBPVP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"WEBPVP8L" and data[20] == 0x2F:
        (bits,) = unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"WEBPVP8X" and len(data) >= 30:
        return _int24(data, 24) + 1, _int24(data, 27) + 1
    return None


def plain(data: bytes) -> Plain:
    if data[12:16] != b"VP8X":
        return Plain(data)
    orientation, profile, animated = 1, b"", bool(data[20] & _ANIMATION)
    frame: tuple[int, int] | None = None
    frames = 0
    for kind, start, end in _chunks(data, 12, len(data)):
        if kind == b"EXIF":
            orientation = exif.orientation(data[start + 8 : end])
        elif kind == b"ICCP" and not profile:
            profile = data[start:end]
        elif kind == b"ANMF":
            frame = frame or (start + 8, end)
            frames += 1
    if not animated:
        return Plain(data, orientation)
    if not frame:
        raise ValueError("the WEBP has no picture: its first frame is missing; send all of it")
    return _first_frame(data, *frame, profile, orientation, min(frames, 2))


def profile(data: bytes) -> bytes:
    """ICC, of what `plain` gave; empty where there is none."""
    if data[12:16] == b"VP8X":
        for kind, start, _ in _chunks(data, 12, len(data)):
            if kind == b"ICCP":
                (length,) = unpack_from("<I", data, start + 4)
                return data[start + 8 : start + 8 + length]
    return b""


def _first_frame(
    data: bytes, at: int, end: int, profile: bytes, orientation: int, frames: int
) -> Plain:
    """Section 2.7.1.4, as a picture of its own."""
    left, top = 2 * _int24(data, at), 2 * _int24(data, at + 3)
    width, height = _int24(data, at + 6) + 1, _int24(data, at + 9) + 1
    flags = _ALPHA | (_PROFILE if profile else 0)
    canvas = _int24(data, 24) + 1, _int24(data, 27) + 1, left, top
    if left + width > canvas[0] or top + height > canvas[1]:
        raise ValueError("the WEBP cannot be read: its first frame lies outside its canvas")
    body = b"WEBPVP8X" + pack("<II", 10, flags) + data[at + 6 : at + 12] + profile
    body += data[at + 16 : end]
    covered = canvas[:2] == (width, height)
    picture = b"RIFF" + pack("<I", len(body)) + body
    return Plain(picture, orientation, None if covered else canvas, frames=frames)


def _chunks(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    for _ in range(MAX_CHUNKS):
        if at + 8 > end:
            return
        (length,) = unpack_from("<I", data, at + 4)
        after = at + 8 + length + length % 2
        yield data[at : at + 4], at, min(after, end)
        at = after


def _int24(data: bytes, at: int) -> int:
    low, high = unpack_from("<HB", data, at)
    return int(low | high << 16)
