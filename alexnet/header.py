"""What a photo's first bytes declare, for admission: no pixel and no metadata is read.

An estimate that costs microseconds whatever the bytes are. What may be decoded is decided by
Pillow's own reading in alexnet/preprocess.py.
"""

from dataclasses import dataclass, field
from struct import error

from alexnet.formats import format_of


@dataclass(frozen=True)
class Header:
    format: str
    """Its name in alexnet/formats.py."""
    width: int
    """As stored, before the EXIF rotation."""
    height: int
    progressive: bool = False
    """A JPEG whose coefficients are all held in memory, at full size, until the last scan."""
    scans: int = field(default=1, compare=False)
    """Of such a JPEG, at most: each passes over the whole picture."""
    kind: str = field(init=False)
    """Photos of one kind cost alike: the format, or `progressive JPEG`."""

    def __post_init__(self) -> None:
        kind = f"progressive {self.format}" if self.progressive else self.format
        object.__setattr__(self, "kind", kind)


def read_header(data: bytes) -> Header | None:
    """None when the bytes do not tell: no such format, too short, or too much before the size."""
    form = format_of(data)
    try:
        size = form and form.size(data)
    except (error, IndexError, ValueError):  # too short, or no numbers
        return None
    return Header(form.name, *size) if form and size and size[0] and size[1] else None
