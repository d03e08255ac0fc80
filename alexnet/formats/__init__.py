"""The image formats that are accepted: a row for each, and a module that reads it.

Two readings: `size`, from the first bytes, on the event loop; `plain`, on a decoder's thread, of
all that stands around the pixels. Both are bounded in steps, and no decoder sees what they skip.
"""

from alexnet.formats import bmp, gif, heif, jpeg, png, tiff, webp
from alexnet.formats.row import Format, Plain, Size

__all__ = ["FORMATS", "SUFFIXES", "Format", "Plain", "Size", "format_of"]

_JPEGS = {"JPEG": {"quality": 85}, "progressive JPEG": {"quality": 85, "progressive": True}}
# Bytes per pixel: Pillow's four for RGB, and the copies (the canvas of an animation, palette and
# alpha unfolded), measured in tests/unit/test_header.py.
_ROWS = (
    Format(
        "JPEG", b"\xff\xd8\xff", jpeg.size, (".jpeg", ".jpg"), 4, _JPEGS, jpeg.plain,
        kept_bytes=8, fractions=True,
    ),
    Format("PNG", b"\x89PNG", png.size, (".png",), 12, {"PNG": {"compress_level": 1}}, png.plain),
    Format(
        "WEBP", b"RIFF", webp.size, (".webp",), 22, {"WEBP": {"quality": 80, "method": 0}},
        webp.plain, owns=webp.is_webp,
    ),
    Format("GIF", b"GIF8", gif.size, (".gif",), 10, {"GIF": {}}, gif.plain, palette=True),
    Format("BMP", b"BM", bmp.size, (".bmp",), 16, {"BMP": {}}, bmp.plain),
    Format(
        "TIFF", tiff.MAGIC, tiff.size, (".tif", ".tiff"), 16, {"TIFF": {}}, tiff.plain,
    ),
    Format(
        "AVIF", b"ftyp", heif.avif_size, (".avif",), 20, {"AVIF": {"speed": 10, "max_threads": 1}},
        heif.avif_plain, magic_at=4, owns=heif.is_avif,
    ),
    Format(
        "HEIF", b"ftyp", heif.heic_size, (".heic", ".heif"), 20, {}, heif.heic_plain,
        magic_at=4, owns=heif.is_heic, costs_like="AVIF",
    ),
)  # fmt: skip
FORMATS = {row.name: row for row in _ROWS}
SUFFIXES = tuple(suffix for row in _ROWS for suffix in row.suffixes)


def format_of(data: bytes) -> Format | None:
    """By the magic alone."""
    for form in FORMATS.values():
        magic = data.startswith(form.magic, form.magic_at)
        if magic and (form.owns is None or form.owns(data)):
            return form
    return None
