"""TIFF (revision 6.0): its first page, with the tags that make the picture and no others."""

from struct import pack, unpack_from

from alexnet.formats.row import Plain, Size

MAGIC = (b"II*\0", b"MM\0*")
MAX_TAGS = 500
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _MEANING, _ORIENTATION = 256, 257, 258, 259, 262, 274
_SAMPLE_FORMAT, _TILE_WIDTH, _TILE_HEIGHT = 339, 322, 323
_OFFSETS, _LENGTHS = {273, 324}, {279, 325}
_KEPT = {
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _MEANING, _SAMPLE_FORMAT, _TILE_WIDTH, _TILE_HEIGHT),
    *_OFFSETS, *_LENGTHS,
    # order of bits, samples, rows a strip, planes, fax, predictor, palette, inks, alpha, JPEG
    # tables, YCbCr (three), ICC
    266, 277, 278, 284, 292, 293, 317, 320, 332, 338, 347, 529, 530, 532, 34675,
}  # fmt: skip
_UNITS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_NUMBERS = {1: "B", 3: "H", 4: "I"}
_NO_LIMIT, _FAX, _LZW, _JPEG, _DEFLATE, _DEFLATE_OLD, _PACKED = 1, (2, 3, 4), 5, 7, 8, 32946, 32773
_COMPRESSIONS = {_NO_LIMIT, *_FAX, _LZW, _JPEG, _DEFLATE, _DEFLATE_OLD, _PACKED}
_WHITE_IS_ZERO, _MEANINGS = 0, range(7)
_MAX_VALUES_BYTES = 8 << 20  # of all tags together: two numbers for each of a picture's strips
_NO_NUMBER = "the TIFF has a size that is no number; save it anew"
# Frames of a JPEG that hold the whole picture, or that are not read: only baseline is.
_BAD_FRAMES = tuple(bytes((0xFF, marker)) for marker in (0xC2, 0xC3, 0xC9, 0xCA, 0xCB))

_Entry = tuple[int, int, int, bytes]
"""Tag, type, count, and the four bytes that are the values or say where they stand."""


def size(data: bytes) -> Size | None:
    order = _order(data)
    entries = {entry[0]: entry for entry in _entries(data, order)}
    if _WIDTH not in entries or _HEIGHT not in entries:
        return None
    width, height = (_number(data, order, entries[tag]) for tag in (_WIDTH, _HEIGHT))
    return width, height


def plain(data: bytes) -> Plain:
    order = _order(data)
    if len(data) >= 1 << 32:
        raise ValueError("a TIFF of 4 GB is not supported")
    entries = _entries(data, order)
    values: dict[int, tuple[int, ...]] = {}
    kept: list[_Entry] = []
    held = 0
    for entry in entries:
        tag, kind, count, _ = entry
        if tag in values or (tag not in _KEPT and tag != _ORIENTATION):
            continue
        held += count * _UNITS.get(kind, 1)
        if held > _MAX_VALUES_BYTES:
            raise ValueError("the TIFF has more in its tags than any photo needs; save it anew")
        values[tag] = _values(data, order, entry) if kind in _NUMBERS else ()
        if tag != _ORIENTATION:
            kept.append(entry)
    _check(values)
    _check_parts(data, values)
    at = len(data) + len(data) % 2
    head = data[:4] + pack(order + "I", at)
    directory = pack(order + "H", len(kept))
    directory += b"".join(pack(order + "HHI4s", *entry) for entry in kept) + bytes(4)
    picture = b"".join((head, memoryview(data)[8:], bytes(len(data) % 2), directory))
    (next_page,) = unpack_from(order + "I", data, _after(data, order, len(entries)))
    orientation = (values.get(_ORIENTATION) or (1,))[0]
    orientation = orientation if 1 <= orientation <= 8 else 1
    return Plain(picture, orientation, frames=2 if next_page else 1)


def _order(data: bytes) -> str:
    return "<" if data[:2] == b"II" else ">"


def _entries(data: bytes, order: str) -> list[_Entry]:
    (at,) = unpack_from(order + "I", data, 4)
    (count,) = unpack_from(order + "H", data, at)
    if count > MAX_TAGS:
        return []
    return [unpack_from(order + "HHI4s", data, at + 2 + 12 * i) for i in range(count)]


def _after(data: bytes, order: str, entries: int) -> int:
    return int(unpack_from(order + "I", data, 4)[0]) + 2 + 12 * entries


def _values(data: bytes, order: str, entry: _Entry) -> tuple[int, ...]:
    _, kind, count, inside = entry
    if kind not in _NUMBERS or not 0 < count <= _MAX_VALUES_BYTES:
        raise ValueError(_NO_NUMBER)
    if count * _UNITS[kind] <= 4:
        return unpack_from(f"{order}{count}{_NUMBERS[kind]}", inside)
    (at,) = unpack_from(order + "I", inside)
    return unpack_from(f"{order}{count}{_NUMBERS[kind]}", data, at)


def _number(data: bytes, order: str, entry: _Entry) -> int:
    """Its only value: reading the millions that it may claim to have takes a second."""
    if entry[2] != 1:
        raise ValueError(_NO_NUMBER)
    return _values(data, order, entry)[0]


def _check(values: dict[int, tuple[int, ...]]) -> None:
    """Raises ValueError for what is not read, or not as it is meant."""
    bits = set(values.get(_BITS, (1,)))
    meaning = values.get(_MEANING, (1,))[0]
    compression = values.get(_COMPRESSION, (1,))[0]
    what = ""
    if len(bits) != 1 or not bits <= {1, 2, 4, 8, 16}:
        what = f"of {'/'.join(map(str, sorted(bits)))} bits a sample"
    elif set(values.get(_SAMPLE_FORMAT, (1,))) - {1, 4}:
        what = "whose samples have signs or fractions"
    elif meaning not in _MEANINGS or (meaning == _WHITE_IS_ZERO and bits == {16}):
        what = f"of such colours (photometric interpretation {meaning})"
    elif compression not in _COMPRESSIONS:
        what = f"with compression {compression}"
    if what:
        raise ValueError(f"a TIFF {what} is not supported; save it as a PNG or JPEG")


def _check_parts(data: bytes, values: dict[int, tuple[int, ...]]) -> None:
    """Strips or tiles: no larger than the picture, and no JPEG in them that holds more."""
    width, height = values.get(_WIDTH, (0,))[0], values.get(_HEIGHT, (0,))[0]
    tile = values.get(_TILE_WIDTH, (0,))[0] * values.get(_TILE_HEIGHT, (0,))[0]
    if tile > max(1 << 20, 2 * width * height):
        raise ValueError("the TIFF has tiles that are larger than its picture; save it anew")
    if values.get(_COMPRESSION, (1,))[0] != _JPEG:
        return
    starts = next((values[tag] for tag in _OFFSETS if tag in values), ())
    lengths = next((values[tag] for tag in _LENGTHS if tag in values), ())
    if sum(lengths) > 2 * len(data):
        raise ValueError("the TIFF has parts that overlap; save it anew")
    for start, length in zip(starts, lengths, strict=False):
        if any(data.find(frame, start, start + length) >= 0 for frame in _BAD_FRAMES):
            raise ValueError("a TIFF of progressive JPEGs is not supported; save it as a JPEG")
