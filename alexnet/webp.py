"""WebP by the libwebp that Pillow has loaded, called without the interpreter's lock.

Pillow's own way goes through libwebp's animations: 22 bytes a pixel, all in one call, and copies of
it under the lock. Here a decode is asked between pieces whether it is over, and a large photo comes
out at a fraction, which takes no memory for the whole (docs/adr/0032-webp-in-pieces.md).
"""

import ctypes
from ctypes import POINTER, Structure, c_int, c_size_t, c_uint8, c_uint32, c_void_p

import numpy as np
from PIL import Image, WebPImagePlugin

from alexnet.source import OutOfTime, Over

_ABI = 0x0209
"""WEBP_DECODER_ABI_VERSION: of libwebp 1.0 to 1.6. It refuses another first byte itself."""
_RGB, _RGBA = 0, 1
_OK, _SUSPENDED = 0, 5
_MOST_PIECE, _LEAST_PIECE, _PIECES = 1 << 16, 1 << 10, 64


class _Features(Structure):
    _fields_ = (
        ("width", c_int), ("height", c_int), ("has_alpha", c_int), ("has_animation", c_int),
        ("format", c_int), ("pad", c_uint32 * 5),
    )  # fmt: skip


class _Buffer(Structure):
    _fields_ = (
        ("colorspace", c_int), ("width", c_int), ("height", c_int), ("is_external_memory", c_int),
        ("pixels", c_void_p), ("stride", c_int), ("size", c_size_t),
        ("rest_of_union", c_uint8 * 56),  # planes of YUV and alpha: 80 bytes
        ("pad", c_uint32 * 4), ("private_memory", c_void_p),
    )  # fmt: skip


class _Options(Structure):
    _fields_ = (
        ("bypass_filtering", c_int), ("no_fancy_upsampling", c_int), ("use_cropping", c_int),
        ("crop", c_int * 4), ("use_scaling", c_int), ("scaled_width", c_int),
        ("scaled_height", c_int), ("use_threads", c_int), ("dithering_strength", c_int),
        ("flip", c_int), ("alpha_dithering_strength", c_int), ("pad", c_uint32 * 5),
    )  # fmt: skip


class _Config(Structure):
    _fields_ = (("input", _Features), ("output", _Buffer), ("options", _Options))


def _library() -> ctypes.CDLL | None:
    """None where Pillow was built in another way, or without WebP."""
    try:
        # A symbol is looked for in what the module was linked with, too.
        found = ctypes.CDLL(WebPImagePlugin._webp.__file__)
        found.WebPIDecode.restype = c_void_p
        found.WebPIDecode.argtypes = (c_void_p, c_size_t, POINTER(_Config))
        found.WebPIUpdate.argtypes = (c_void_p, c_void_p, c_size_t)
        found.WebPIDelete.argtypes = (c_void_p,)
        found.WebPIDelete.restype = None
        found.WebPGetFeaturesInternal.argtypes = (c_void_p, c_size_t, POINTER(_Features), c_int)
        found.WebPInitDecoderConfigInternal.argtypes = (POINTER(_Config), c_int)
        usable = found.WebPInitDecoderConfigInternal(_Config(), _ABI)
    except (AttributeError, OSError):
        return None
    return found if usable else None


_libwebp = _library()
usable = _libwebp is not None
BYTES_PER_PIXEL = 6
"""Of a large photo (alexnet/shown.py), decoded at a fraction: a lossless one is held whole to its
end."""


def decoded(data: bytes, most_pixels: int, fraction: int, over: Over) -> Image.Image:
    """The picture, its sides divided by `fraction`; only where it is `usable`.

    `data` is no animation. Raises ValueError, and OutOfTime once `over` says yes.
    """
    assert _libwebp
    config, source = _Config(), ctypes.c_char_p(data)
    at = ctypes.cast(source, c_void_p)
    _libwebp.WebPInitDecoderConfigInternal(config, _ABI)
    if _libwebp.WebPGetFeaturesInternal(at, len(data), config.input, _ABI) != _OK:
        raise ValueError("no header")
    width, height = config.input.width, config.input.height
    if width * height > most_pixels:
        raise ValueError("another size than declared")
    mode, bands = ("RGBA", 4) if config.input.has_alpha else ("RGB", 3)
    if fraction > 1:
        width, height = -(-width // fraction), -(-height // fraction)
        config.options.use_scaling = 1
        config.options.scaled_width, config.options.scaled_height = width, height
    pixels = np.empty((height, width, bands), np.uint8)
    output = config.output
    output.colorspace = _RGBA if bands == 4 else _RGB
    output.is_external_memory = 1
    output.pixels, output.stride, output.size = pixels.ctypes.data, bands * width, pixels.nbytes
    decoder = _libwebp.WebPIDecode(None, 0, config)
    if not decoder:
        raise ValueError("no room")
    try:
        _feed(_libwebp, decoder, at, len(data), over)
    finally:
        _libwebp.WebPIDelete(decoder)
    return Image.frombuffer(mode, (width, height), pixels, "raw", mode, 0, 1)


def _feed(library: ctypes.CDLL, decoder: int, at: c_void_p, size: int, over: Over) -> None:
    """The file up to here, and up to there, ...: what has been decoded is not decoded again."""
    piece = max(_LEAST_PIECE, min(_MOST_PIECE, size // _PIECES))
    for end in [*range(piece, size, piece), size]:
        if over():
            raise OutOfTime
        status = library.WebPIUpdate(decoder, at, end)
        if status == _OK:
            return
        if status != _SUSPENDED:
            break
    raise ValueError("damaged, or not whole")
