"""The orientation in a block of EXIF (EXIF 2.3, section 4.6): all that is read of one."""

from struct import error, unpack_from

PREFIX = b"Exif\0\0"
_ORIENTATION, _SHORT, _LONG = 0x0112, 3, 4
_MAX_ENTRIES = 500


def orientation(block: bytes) -> int:
    """1 to 8, as one number of the type SHORT or LONG; anything else is 1, as in browsers."""
    tiff = block.removeprefix(PREFIX)
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    try:
        if not order or unpack_from(order + "H", tiff, 2) != (42,):
            return 1
        (at,) = unpack_from(order + "I", tiff, 4)
        (entries,) = unpack_from(order + "H", tiff, at)
        for entry in range(at + 2, at + 2 + 12 * min(entries, _MAX_ENTRIES), 12):
            tag, kind, count = unpack_from(order + "HHI", tiff, entry)
            if tag == _ORIENTATION:
                if count != 1 or kind not in (_SHORT, _LONG):
                    return 1
                (value,) = unpack_from(order + ("H" if kind == _SHORT else "I"), tiff, entry + 8)
                return value if 1 <= value <= 8 else 1
    except error:  # a broken block must not cost the photo
        pass
    return 1
