"""BMP (Windows and OS/2 bitmaps): its header, and the layouts that Pillow does not know."""

from struct import pack, unpack_from

import numpy as np
from numpy.typing import NDArray

from alexnet.formats.row import Plain, Size

_CORE, _SHORT, _INFO = 12, 16, 40  # sizes of headers: OS/2 1, OS/2 2 cut short, Windows 3
_RAW, _RLE8, _RLE4, _BITFIELDS, _ALPHA_BITFIELDS = 0, 1, 2, 3, 6
_STRIP = 64
_BGRA = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)


def size(data: bytes) -> Size:
    (header,) = unpack_from("<I", data, 14)
    width, height = unpack_from("<HH" if header == _CORE else "<Ii", data, 18)
    return width, abs(height)  # negative: the rows run from top to bottom


def plain(data: bytes) -> Plain:
    (pixels_at, header) = unpack_from("<II", data, 10)
    if header == _CORE:
        return Plain(data)
    width, height, _, bits = unpack_from("<IiHH", data, 18)
    fields = (*unpack_from("<IIiiII", data, 30), 0)[:6] if header >= _INFO else (0,) * 6
    compression, colours = fields[0], fields[4]
    if compression in (_RLE8, _RLE4):
        raise ValueError("a BMP with run-length coding is not supported; save it as a PNG")
    if compression not in (_RAW, _BITFIELDS, _ALPHA_BITFIELDS):
        raise ValueError("a BMP that holds a JPEG or PNG is not supported; send that instead")
    if bits not in (1, 4, 8, 16, 24, 32):
        raise ValueError(f"a BMP of {bits} bits a pixel is not supported; save it as a PNG")
    if bits <= 8:
        return _with_palette(data, header, width, height, bits, colours, pixels_at)
    if compression == _RAW or bits == 24:
        start = pixels_at if pixels_at >= 14 + header else 14 + header
        return Plain(_file(width, height, bits, b"", memoryview(data)[start:]))
    # Three or four masks: behind a header of 40 bytes, inside a longer one, at the same place.
    alpha = header >= 56 or compression == _ALPHA_BITFIELDS
    masks = unpack_from("<IIII", data, 54) if alpha else (*unpack_from("<III", data, 54), 0)
    return Plain(_unmasked(data, pixels_at, width, height, bits, masks))


def _with_palette(
    data: bytes, header: int, width: int, height: int, bits: int, colours: int, pixels_at: int
) -> Plain:
    """A palette of 256 colours at most: what an index cannot reach is left out."""
    start, most = 14 + header, 1 << bits
    room = max(0, pixels_at - start) // 4 if pixels_at else most
    palette = data[start : start + 4 * min(colours or most, most, room)]
    palette = palette.ljust(4 * most, b"\0")
    return Plain(_file(width, height, bits, palette, memoryview(data)[pixels_at:]))


def _file(width: int, height: int, bits: int, palette: bytes, pixels: memoryview) -> bytes:
    start = 14 + _INFO + len(palette)
    head = pack("<2sIII", b"BM", start + len(pixels), 0, start)
    info = pack("<IIiHHIIiiII", _INFO, width, height, 1, bits, _RAW, 0, 0, 0, len(palette) // 4, 0)
    return b"".join((head, info, palette, pixels))


def _unmasked(
    data: bytes, at: int, width: int, height: int, bits: int, masks: tuple[int, ...]
) -> bytes:
    """The same with 8 bits for each of blue, green, red, alpha: any masks are allowed."""
    kind, row = np.dtype(f"<u{bits // 8}"), (width * bits + 31) // 32 * 4
    rows = abs(height)
    if len(data) < at + row * rows:
        raise ValueError("the BMP cannot be decoded: it ends before its last row; send all of it")
    packed = np.frombuffer(data, np.uint8, row * rows, at).reshape(rows, row)
    pixels = packed.view(kind)[:, :width]
    shown = np.zeros((rows, width, 4), np.uint8)
    for top in range(0, rows, _STRIP):  # the steps between take several times the memory
        for channel, mask in zip((2, 1, 0, 3), masks, strict=True):
            if mask:
                shown[top : top + _STRIP, :, channel] = _channel(pixels[top : top + _STRIP], mask)
    # Programs that know no alpha leave it zero: then browsers show all of the picture.
    if not shown[..., 3].any():
        shown[..., 3] = 255
    start = 14 + 56
    head = pack("<2sIII", b"BM", start + shown.nbytes, 0, start)
    info = pack("<IIiHHIIiiII", 56, width, height, 1, 32, _BITFIELDS, 0, 0, 0, 0, 0)
    return b"".join((head, info, pack("<IIII", *_BGRA), shown.data))


def _channel(pixels: NDArray[np.unsignedinteger], mask: int) -> NDArray[np.uint8]:
    shift = (mask & -mask).bit_length() - 1
    values = (pixels.astype(np.uint32) & np.uint32(mask)) >> np.uint32(shift)
    scaled = np.rint(values * (255 / (mask >> shift)))
    return np.asarray(scaled, np.uint8)
