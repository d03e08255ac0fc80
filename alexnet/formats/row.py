"""A format that is accepted: how its size is read, and what of a file its decoder is given."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Size = tuple[int, int] | tuple[int, int, bool] | tuple[int, int, bool, int]
"""Width and height as stored, 0 where there is none; and of a JPEG, whether the coefficients of
all its pixels are held until the last scan, and how many scans there may be."""


@dataclass(frozen=True)
class Plain:
    """The same picture in a file that holds nothing else: what stands around the pixels of a photo
    is stepped over here, within bounds, and never reaches the decoder."""

    data: bytes
    orientation: int = 1
    """EXIF, 1 to 8."""
    canvas: tuple[int, int, int, int] | None = None
    """Width, height, left, top: the picture lies on a transparent canvas."""
    clear: tuple[int, ...] | None = None
    """The transparent colour of a PNG of 16 bits."""
    codes: tuple[int, ...] = ()
    """Of its colours, in ITU-T H.273: primaries and transfer, where a file states them so."""
    frames: int = 1
    """2 where there are more, 0 where that takes long to tell; the picture is the first."""
    warnings: tuple[str, ...] = ()


def untouched(data: bytes) -> Plain:
    return Plain(data)


@dataclass(frozen=True)
class Format:
    name: str
    """As Pillow names it."""
    magic: bytes | tuple[bytes, ...]
    size: Callable[[bytes], Size | None]
    """None when the bytes do not tell; raises struct.error or IndexError when they are too few."""
    suffixes: tuple[str, ...]
    bytes_per_pixel: int
    """Decoded: at the peak, with every copy."""
    samples: dict[str, dict[str, Any]]
    """By Header.kind: Pillow's options for encoding, chosen for speed where decoding is alike."""
    plain: Callable[[bytes], Plain] = untouched
    """Raises ValueError with a sentence for the caller, struct.error or IndexError when the bytes
    are too few."""
    kept_bytes: int = 0
    """A pixel's coefficients in a progressive photo, whatever fraction of it is decoded."""
    fractions: bool = False
    """A half, a quarter or an eighth is decoded for a fraction of the cost."""
    palette: bool = False  # of 256 colours: samples are reduced to them first
    magic_at: int = 0
    owns: Callable[[bytes], bool] | None = None
    """What tells it from others with the same magic."""
    costs_like: str = ""
    """The kind that it is taken to cost as much as, where no sample can be made."""
