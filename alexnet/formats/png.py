"""PNG (W3C, third edition): the chunks that make the picture, and no others."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import pack, unpack_from

from alexnet.formats import exif
from alexnet.formats.row import Plain, Size

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 50_000
"""Encoders put 4 KB and more of the picture into each."""
MAX_PROFILE_BYTES = 1 << 20
"""Unpacked; larger ones are left out, as by Pillow's own bound."""
# Ancillary chunks that change the picture, and the least and the most of their bytes.
_ANCILLARY = {
    b"tRNS": (1, 256), b"gAMA": (4, 4), b"cHRM": (32, 32), b"sRGB": (1, 1), b"cICP": (4, 4),
    b"iCCP": (4, MAX_PROFILE_BYTES), b"eXIf": (8, 1 << 20),
}  # fmt: skip
_GREY, _RGB, _PALETTE = 0, 2, 3
_BITS = (1, 2, 4, 8, 16)


def size(data: bytes) -> Size | None:
    known = data.startswith(SIGNATURE) and data[12:16] == b"IHDR"
    return unpack_from(">II", data, 16) if known else None


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, and where the content begins and ends: maybe past the end of the bytes."""
    at = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            return
        (length,) = unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        yield kind, at + 8, at + 8 + length
        if kind == b"IEND":
            return
        at += 12 + length
    raise ValueError("the PNG has too many chunks; save it anew")


@dataclass
class _Parts:
    palette: bytes = b""
    ancillary: dict[bytes, bytes] = field(default_factory=dict)
    pixels: list[memoryview] = field(default_factory=list)
    control: bytes = b""
    """Of the first frame of an animation."""
    first_hidden: bool = False
    """The picture outside the animation is not part of it."""
    frame: list[memoryview] = field(default_factory=list)
    frames: int = 0
    warnings: list[str] = field(default_factory=list)


def plain(data: bytes) -> Plain:
    parts = _take_apart(data)
    header, pixels, canvas = data[16:29], parts.pixels, None
    if parts.first_hidden and parts.frame and len(parts.control) >= 20:
        width, height, left, top = unpack_from(">IIII", parts.control, 4)
        whole = unpack_from(">II", header)
        if left + width <= whole[0] and top + height <= whole[1]:
            header, pixels = pack(">II", width, height) + header[8:], parts.frame
            canvas = None if (width, height) == whole else (*whole, left, top)
    if not pixels:
        raise ValueError("the PNG has no picture: its pixels are missing; send all of it")
    clear = _transparency(parts.ancillary, header[8], header[9])
    block, codes = (parts.ancillary.pop(kind, b"") for kind in (b"eXIf", b"cICP"))
    body: list[bytes | memoryview] = [SIGNATURE, _chunk(b"IHDR", header)]
    body += [_chunk(kind, content) for kind, content in parts.ancillary.items() if kind != b"tRNS"]
    body += [_chunk(b"PLTE", parts.palette)] if parts.palette else []
    body += [_chunk(b"tRNS", parts.ancillary[b"tRNS"])] if b"tRNS" in parts.ancillary else []
    length = sum(map(len, pixels))
    # No checksum of the pixels: Pillow reads none, and theirs inside, zlib's, is checked.
    body += [pack(">I", length), b"IDAT", *pixels, bytes(4), _chunk(b"IEND", b"")]
    frames = 1 if parts.frames < 2 else 2
    warnings = tuple(parts.warnings)
    orientation, picture = exif.orientation(block), b"".join(body)
    return Plain(picture, orientation, canvas, clear, tuple(codes[:2]), frames, warnings)


def _take_apart(data: bytes) -> _Parts:
    parts, over = _Parts(), False
    animated, view = False, memoryview(data)
    for kind, start, end in _chunks(data):
        if kind == b"IDAT":
            if not over:
                parts.pixels.append(view[start:end])
            parts.first_hidden = parts.first_hidden or (animated and not parts.control)
            continue
        over = bool(parts.pixels)
        if kind == b"PLTE" and not over:
            parts.palette = data[start : min(end, start + 768)]
        elif kind == b"acTL" and not over:
            animated = True
        elif kind == b"fcTL":
            parts.frames += 1
            parts.control = parts.control or data[start:end]
        elif kind == b"fdAT" and parts.frames == 1:
            parts.frame.append(view[start + 4 : end])
        elif kind in _ANCILLARY and kind not in parts.ancillary:
            if over and kind != b"eXIf":  # the others stand before the pixels
                continue
            least, most = _ANCILLARY[kind]
            content = data[start:end]
            if least <= end - start <= most and _whole(data, kind, content, end):
                parts.ancillary[kind] = content
            else:
                parts.warnings.append(f"the damaged chunk {kind.decode()} was left out")
    return parts


def _whole(data: bytes, kind: bytes, content: bytes, end: int) -> bool:
    if data[end : end + 4] != pack(">I", zlib.crc32(kind + content)):
        return False
    return kind != b"iCCP" or _is_profile(content)


def _is_profile(content: bytes) -> bool:
    name, _, packed = content.partition(b"\0")
    if not 0 < len(name) < 80 or packed[:1] != b"\0":
        return False
    unpacking = zlib.decompressobj()
    try:
        unpacking.decompress(packed[1:], MAX_PROFILE_BYTES)
    except zlib.error:
        return False
    return not unpacking.unconsumed_tail


def _transparency(ancillary: dict[bytes, bytes], bits: int, colours: int) -> tuple[int, ...] | None:
    """The clear colour of 16 bits, which Pillow would lose. That of 2 or 4 bits is changed into the
    same of the 8 bits that Pillow makes of them; one that is too short is left out."""
    content = ancillary.get(b"tRNS")
    if content is None or colours == _PALETTE:
        return None
    needed = {_GREY: 1, _RGB: 3}.get(colours, 0)
    if not needed or len(content) < 2 * needed or bits not in _BITS:
        del ancillary[b"tRNS"]
        return None
    values = unpack_from(f">{needed}H", content)
    if bits == 16:
        del ancillary[b"tRNS"]
        return values
    if bits < 8:
        values = tuple(value % (1 << bits) * 255 // ((1 << bits) - 1) for value in values)
        values = values if bits > 1 else tuple(value // 255 for value in values)
    else:
        values = tuple(value & 0xFF for value in values)
    ancillary[b"tRNS"] = pack(f">{needed}H", *values)
    return None


def _chunk(kind: bytes, content: bytes) -> bytes:
    return pack(">I", len(content)) + kind + content + pack(">I", zlib.crc32(kind + content))
