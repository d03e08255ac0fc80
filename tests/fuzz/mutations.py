"""Bytes -> other bytes: flips, cuts, numbers at their limits, and whole parts moved about.

A part is what the format is made of: a segment of a JPEG, a chunk of a PNG or WebP, a block of tar.
"""

import re
import struct
import zlib
from itertools import pairwise
from random import Random

NUMBERS = (0, 1, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)
MOST_BYTES = 1 << 20
PNG = b"\x89PNG\r\n\x1a\n"


def mutated(data: bytes, random: Random) -> bytes:
    """One to four changes, half of them to the structure."""
    for _ in range(random.randint(1, 4)):
        pieces = parts(data)
        if len(pieces) > 2 and random.random() < 0.5:
            data = b"".join(_rearranged(pieces, random))
        else:
            data = _changed(data, random)
        data = data[:MOST_BYTES]  # of each change: four in a row made gigabytes of one
    return (sealed(data) if random.random() < 0.7 else data)[:MOST_BYTES]


def parts(data: bytes) -> list[bytes]:
    """What the data is made of, in order; joined, they are the data."""
    if data.startswith(PNG):
        return _chunks(data, 8, ">", 4, 12)
    if data.startswith(b"RIFF"):
        return _chunks(data, 12, "<", 8, 8)
    if data.startswith(b"\xff\xd8"):
        cuts = [match.start() for match in re.finditer(rb"\xff[\x01-\xcf\xd8-\xfe]", data)]
    elif data[257:262] == b"ustar":
        cuts = list(range(0, len(data), 512))
    else:
        cuts = [match.end() for match in re.finditer(rb"[\r\n,:;{}\[\]]", data)]
    edges = [0, *cuts, len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


def sealed(data: bytes) -> bytes:
    """With the right checksum behind each chunk of a PNG: a reader looks at that first."""
    if not data.startswith(PNG):
        return data
    sealed = [
        chunk[:-4] + struct.pack(">L", zlib.crc32(chunk[4:-4])) if len(chunk) >= 12 else chunk
        for chunk in parts(data)[1:]
    ]
    return b"".join([PNG, *sealed])


def _chunks(data: bytes, at: int, order: str, length: int, more: int) -> list[bytes]:
    """After the first `at` bytes; the size of each stands before or after its name."""
    found, start = [data[:at]], at
    while start + 8 <= len(data):
        first = start + (4 if length == 8 else 0)
        (size,) = struct.unpack(f"{order}L", data[first : first + 4])
        end = start + min(size + more + (size & 1 if order == "<" else 0), len(data))
        found.append(data[start:end])
        start = end
    return [*found, data[start:]] if data[start:] else found


def _rearranged(pieces: list[bytes], random: Random) -> list[bytes]:
    pieces = list(pieces)
    i, j = random.randrange(1, len(pieces)), random.randrange(1, len(pieces))
    match random.randrange(5):
        case 0:
            del pieces[i]
        case 1:
            pieces[i], pieces[j] = pieces[j], pieces[i]
        case 2:
            pieces.insert(i, pieces[j])
        case 3:
            times = min(random.choice((10, 100, 1000)), MOST_BYTES // len(pieces[j]))
            pieces[i:i] = [pieces[j]] * times
        case 4:
            pieces[i] = _changed(pieces[i], random)
    return pieces


def _changed(data: bytes, random: Random) -> bytes:
    if not data:
        return random.randbytes(4)
    changed, at = bytearray(data), random.randrange(len(data))
    match random.randrange(6):
        case 0:
            changed[at] ^= 1 << random.randrange(8)
        case 1:
            changed[at] = random.choice((0, 1, 127, 128, 254, 255))
        case 2:
            size, order = random.choice((1, 2, 4)), random.choice(("big", "little"))
            number = random.choice(NUMBERS) % 256**size
            changed[at : at + size] = number.to_bytes(size, order)
        case 3:
            del changed[at:]
        case 4:
            del changed[at : at + random.randint(1, 64)]
        case 5:
            changed[at:at] = changed[at : at + random.randint(1, 64)] * random.randint(1, 64)
    return bytes(changed)
