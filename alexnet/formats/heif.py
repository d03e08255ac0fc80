"""HEIC and AVIF (ISO/IEC 14496-12 and 23008-12): the primary picture, from the boxes around it.

Their decoders hold what is declared here: libheif refuses a picture that is another, and for
libavif, which scales it, the streams are looked into.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import unpack_from

from alexnet.formats.av1 import largest_frame
from alexnet.formats.row import Plain, Size

MAX_BOXES = 2000
"""In one box. A photo of 50 megapixels in tiles of 512 px has 200 items."""
_MOST = {b"ipco": 1, b"ipma": 4, b"iloc": 1, b"iinf": 1}
"""Of one kind: an association (ipma) may come in two versions with two sets of flags."""
MAX_TILE_PIXELS = 4_200_000
"""Of other pictures in the file that are larger than the primary one: tiles are."""
_AVIF, _HEIC = (
    {b"avif", b"avis"},
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"},
)
_SEQUENCES = {b"avis", b"hevc", b"hevx", b"msf1"}
_SRGB_CODE = 13
# Those of television: what browsers show of them in AVIF is the curve of sRGB.
_TELEVISION = {1, 6, 14, 15}
_UNSPECIFIED = 2
# Quarter turns to the left, then the axis of a mirror (none, upright, lying) -> EXIF's number.
_ORIENTATIONS = {
    (0, None): 1, (1, None): 8, (2, None): 3, (3, None): 6,
    (0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7,
    (0, 1): 2, (1, 1): 7, (2, 1): 4, (3, 1): 5,
}  # fmt: skip


def is_avif(data: bytes) -> bool:
    return bool(_brands(data) & _AVIF)


def is_heic(data: bytes) -> bool:
    return not is_avif(data) and bool(_brands(data) & _HEIC)


def _brands(data: bytes) -> set[bytes]:
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4]), 8 + 4 * 32)
    return {data[8:12]} | {data[at : at + 4] for at in range(16, end, 4)}


@dataclass
class _Primary:
    """What is said of the primary picture."""

    width: int = 0
    height: int = 0
    turns: int = 0
    """Quarter turns to the left."""
    axis: int | None = None
    """Then it is mirrored: 0 top to bottom, 1 left to right."""
    codes: tuple[int, ...] = ()
    profile: bool = False
    largest: int = 0
    """Pixels of any picture in the file."""


@dataclass
class _Boxes:
    item: int = 0
    properties: list[tuple[bytes, int, int]] = field(default_factory=list)
    associations: list[int] = field(default_factory=list)


def heic_size(data: bytes) -> Size | None:
    """As it is shown: libheif turns it."""
    found = _primary(data)
    if not found:
        return None
    sides = found.width, found.height
    return sides[::-1] if found.turns % 2 else sides


def avif_size(data: bytes) -> Size | None:
    found = _primary(data)
    return (found.width, found.height) if found else None


def heic_plain(data: bytes) -> Plain:
    found = _checked(data, "HEIC")
    return Plain(data, codes=found.codes, frames=_frames(data))


def avif_plain(data: bytes) -> Plain:
    """The orientation is that of the boxes: EXIF's is not looked at, as in browsers."""
    found, frames = _checked(data, "AVIF"), _frames(data)
    allowed = max(found.width * found.height, MAX_TILE_PIXELS)
    for start, end in _items(data):
        if largest_frame(data, start, end) > allowed:
            raise ValueError("the AVIF has parts that are larger than its picture; save it anew")
    if frames > 1:  # the still picture of an animation, not its track
        data = data[:8] + b"avif" + data[12:]
    return Plain(data, _ORIENTATIONS[found.turns, found.axis], codes=found.codes, frames=frames)


def _frames(data: bytes) -> int:
    return 2 if data[8:12] in _SEQUENCES else 1


def _checked(data: bytes, name: str) -> _Primary:
    found = _primary(data)
    if not found:
        raise ValueError(f"the {name} has no picture: its primary item is missing")
    if found.largest > max(found.width * found.height, MAX_TILE_PIXELS):
        raise ValueError(f"the {name} has parts that are larger than its picture; save it anew")
    return found


def _primary(data: bytes) -> _Primary | None:
    boxes = _Boxes()
    for kind, start, end in _walk(data, 0, len(data)):
        if kind == b"meta":
            _read_meta(data, start + 4, end, boxes)
            break
    found = _Primary()
    for number in boxes.associations:
        if 0 < number <= len(boxes.properties):
            _apply(data, *boxes.properties[number - 1], found)
    for kind, start, _ in boxes.properties:
        if kind == b"ispe":
            width, height = unpack_from(">II", data, start + 4)
            found.largest = max(found.largest, width * height)
    if found.profile:
        found.codes = ()
    return found if found.width and found.height else None


def _read_meta(data: bytes, start: int, end: int, boxes: _Boxes) -> None:
    properties = None
    for kind, at, after in _walk(data, start, end):
        if kind == b"pitm":
            boxes.item = int(unpack_from(">I" if data[at] else ">H", data, at + 4)[0])
        elif kind == b"iprp":
            properties = at, after
    if not properties:
        return
    seen: Counter[bytes] = Counter()
    for kind, at, after in _walk(data, *properties):
        _count(seen, kind)
        if kind == b"ipco":
            boxes.properties = list(_walk(data, at, after))
        elif kind == b"ipma":
            boxes.associations += _associated(data, at, after, boxes.item)


def _count(seen: Counter[bytes], kind: bytes) -> None:
    """Raises ValueError for a box of which the standard allows no more: each is read whole, and
    thousands of them would take seconds."""
    seen[kind] += 1
    if seen[kind] > _MOST.get(kind, MAX_BOXES):
        raise ValueError(f"the picture has too many '{kind.decode()}' boxes; save it anew")


def _items(data: bytes) -> list[tuple[int, int]]:
    """Where the AV1 streams begin and end. One in several extents is none that we look into."""
    places: dict[int, tuple[int, int]] = {}
    streams: set[int] = set()
    for kind, start, end in _walk(data, 0, len(data)):
        if kind != b"meta":
            continue
        seen: Counter[bytes] = Counter()
        for inner, at, after in _walk(data, start + 4, end):
            _count(seen, inner)
            if inner == b"iloc":
                places = _places(data, at, after)
            elif inner == b"iinf":
                head = 8 if data[at] else 6
                for entry, inside, _ in _walk(data, at + head, after):
                    wide = data[inside] > 2
                    number = unpack_from(">I" if wide else ">H", data, inside + 4)[0]
                    kind_at = inside + (10 if wide else 8)
                    if entry == b"infe" and data[kind_at : kind_at + 4] == b"av01":
                        streams.add(number)
        break
    if not streams <= places.keys():
        raise ValueError("the AVIF does not say where its picture lies; save it anew")
    return [places[number] for number in streams]


def _places(data: bytes, at: int, end: int) -> dict[int, tuple[int, int]]:
    """Of the items in one piece of the file (ISO/IEC 14496-12, 8.11.3)."""
    version, sizes, more = data[at], data[at + 4], data[at + 5]
    offset, length, base, index = sizes >> 4, sizes & 15, more >> 4, more & 15 if version else 0
    at += 6
    wide = 4 if version == 2 else 2
    count, at = int.from_bytes(data[at : at + wide]), at + wide
    found: dict[int, tuple[int, int]] = {}
    for _ in range(min(count, MAX_BOXES)):
        if at >= end:
            break
        number, at = int.from_bytes(data[at : at + wide]), at + wide
        method = data[at + 1] & 15 if version else 0
        at += 4 if version else 2
        start, at = int.from_bytes(data[at : at + base]), at + base
        (extents,) = unpack_from(">H", data, at)
        at += 2
        if extents == 1 and method == 0:
            first = at + index
            start += int.from_bytes(data[first : first + offset])
            size = int.from_bytes(data[first + offset : first + offset + length])
            found[number] = start, min(start + size, len(data)) if size else len(data)
        at += extents * (index + offset + length)
    return found


def _associated(data: bytes, at: int, end: int, item: int) -> list[int]:
    """Numbers of the item's properties, from 1, in their order."""
    version, flags, entries = data[at], data[at + 3], unpack_from(">I", data, at + 4)[0]
    at, wide = at + 8, flags & 1
    for _ in range(min(entries, MAX_BOXES)):
        if at >= end:
            break
        (number,) = unpack_from(">I" if version else ">H", data, at)
        at += 4 if version else 2
        count, at = data[at], at + 1
        if number == item:
            if wide:
                return [value & 0x7FFF for value in unpack_from(f">{count}H", data, at)]
            return [value & 0x7F for value in unpack_from(f">{count}B", data, at)]
        at += count << wide
    return []


def _apply(data: bytes, kind: bytes, start: int, end: int, found: _Primary) -> None:
    if kind == b"ispe":
        found.width, found.height = unpack_from(">II", data, start + 4)
    elif kind == b"irot":
        found.turns = data[start] & 3
    elif kind == b"imir":
        found.axis = data[start] & 1
    elif kind == b"colr":
        if data[start : start + 4] == b"nclx":
            primaries, transfer = unpack_from(">HH", data, start + 4)
            if primaries != _UNSPECIFIED or transfer != _UNSPECIFIED:
                primaries = 1 if primaries == _UNSPECIFIED else primaries
                known = transfer not in _TELEVISION and transfer != _UNSPECIFIED
                found.codes = primaries, transfer if known else _SRGB_CODE
        elif data[start : start + 4] in (b"prof", b"rICC"):
            found.profile = True


def _walk(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, and where the content begins and ends, of each box in another."""
    for _ in range(MAX_BOXES):
        if at + 8 > end:
            return
        length, kind = unpack_from(">I4s", data, at)
        head = 8
        if length == 1:
            (length,), head = unpack_from(">Q", data, at + 8), 16
        elif length == 0:
            length = end - at
        if length < head:
            return
        yield kind, at + head, min(at + length, end)
        at += length
