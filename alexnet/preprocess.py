"""Image bytes -> one uint8 crop. The only resize in the project.

Training's evaluation, export's calibration and golden batch, and the server all call
`preprocess`; what a model was measured with is what it is served with.
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet.formats import FORMATS, Format, format_of
from alexnet.header import Header, read_header
from alexnet.spec import Preprocess

UNSUPPORTED = f"the bytes are not an image in a known format ({', '.join(FORMATS)})"
MAX_PIXELS = 50_000_000
TILE_QUALITY = 75  # with 4:2:0, as in every file of Tiny ImageNet, by its quantisation tables

_EXIF_ORIENTATION = 0x0112
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class InvalidImage(ValueError):
    """The bytes are no photo that can be decoded; the message says why, for the caller."""


class UnsupportedFormat(InvalidImage):
    """The bytes are in no format that is accepted."""


class ImageTooLarge(InvalidImage):
    """The photo declares more pixels than allowed; nothing was decoded."""


@dataclass(frozen=True)
class Photo:
    """A decoded photo: what was uploaded, and what the network will see of it."""

    crop: NDArray[np.uint8]
    """(crop, crop, 3) RGB, upright."""
    format: str
    width: int
    """As stored, before the EXIF rotation."""
    height: int
    mode: str
    orientation: int
    """EXIF orientation, 1 to 8; already applied to the crop."""


def preprocess(
    data: bytes, spec: Preprocess, max_pixels: int = MAX_PIXELS, header: Header | None = None
) -> Photo:
    """Decodes a photo and cuts the crop out of it; its header is read here unless it is given.

    Raises UnsupportedFormat, ImageTooLarge or InvalidImage. Sizes are checked on the header,
    before any pixel is decoded.
    """
    if not data:
        raise InvalidImage("the image is empty (0 bytes)")
    image, form = _open(data, header, max_pixels)
    width, height = image.size
    mode = image.mode
    try:
        crop = _central_crop(image, form, spec)
    except Exception as error:
        # Pillow's decoders raise OSError, SyntaxError, struct.error, EOFError, ...: whichever it
        # is, these bytes are not a whole picture.
        raise InvalidImage(f"the {image.format} cannot be decoded: {error}") from error
    orientation = _orientation(image)  # after the pixels: for a PNG, reading EXIF decodes them
    return Photo(_upright(crop, orientation), form.name, width, height, mode, orientation)


def decoded_bytes(header: Header, spec: Preprocess) -> int:
    """The most memory that `preprocess` holds at once for the pixels of such a photo."""
    form, pixels = FORMATS[header.format], header.width * header.height
    reduction = _reduction(form, header.width, header.height, spec)
    coefficients = form.kept_bytes * pixels if header.progressive else 0
    return form.bytes_per_pixel * pixels // reduction**2 + coefficients


def _open(data: bytes, header: Header | None, max_pixels: int) -> tuple[Image.Image, Format]:
    # First ours: Pillow would step over tiny segments or padding for seconds, and hold the GIL.
    header = header or read_header(data)
    if header is None:
        if format_of(data):
            raise InvalidImage("the image has no size where its header should have one")
        raise UnsupportedFormat(UNSUPPORTED)
    try:
        image = Image.open(io.BytesIO(data), formats=(header.format,))
    except Image.UnidentifiedImageError:
        raise UnsupportedFormat(UNSUPPORTED) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageTooLarge(f"the image has more than {max_pixels:,} pixels") from None
    except Exception as error:
        raise InvalidImage(f"the image header cannot be read: {error}") from error
    check_pixels(*image.size, max_pixels)
    return image, FORMATS[header.format]


def check_pixels(width: int, height: int, most: int) -> None:
    """Raises ImageTooLarge."""
    if width * height > most:
        raise ImageTooLarge(
            f"the image is {width} x {height} = {width * height:,} pixels; "
            f"at most {most:,} are accepted"
        )


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # a broken EXIF block must not cost the photo
        return 1
    return value if value in range(1, 9) else 1


def _central_crop(image: Image.Image, form: Format, spec: Preprocess) -> NDArray[np.uint8]:
    """Resize and crop in one resampling: only the pixels under the crop are read."""
    width, height = image.size
    reduction = _reduction(form, width, height, spec)
    if reduction > 1:
        image.draft("RGB", (width // reduction, height // reduction))
    picture = _eight_bit(image)
    if spec.tile and min(picture.size) > spec.tile:
        picture = _tile(picture, spec.tile)
    side = min(picture.size) * spec.crop / spec.resize
    size, filtering = (spec.crop, spec.crop), _RESAMPLING[spec.interpolation]
    return np.asarray(_opaque(picture.resize(size, filtering, box=_central(picture, side))))


def _reduction(form: Format, width: int, height: int, spec: Preprocess) -> int:
    """1; or 2, 4 or 8, if the photo is decoded at that fraction."""
    if not form.fractions:
        return 1
    # The antialiasing filters still do the last halving; four times the side of a tile: twice gave
    # other answers than a full decode for 2 of 60 photos (docs/records/starter_2cpu_2026-11-21.md).
    least = 4 * spec.tile if spec.tile else 2 * spec.resize
    times = min(width, height) // least
    return 8 if times >= 8 else 4 if times >= 4 else 2 if times >= 2 else 1


def _tile(picture: Image.Image, side: int) -> Image.Image:
    """The central square as one of the tiles that the network was trained on."""
    square = _central(picture, min(picture.size))
    reduced = _opaque(picture.resize((side, side), Image.Resampling.BICUBIC, box=square))
    buffer = io.BytesIO()
    reduced.save(buffer, "JPEG", quality=TILE_QUALITY)
    return Image.open(buffer, formats=("JPEG",))


def _central(picture: Image.Image, side: float) -> tuple[float, float, float, float]:
    width, height = picture.size
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _opaque(picture: Image.Image) -> Image.Image:
    """RGB; transparent pixels show what a viewer shows: a white page."""
    if picture.mode == "RGBA":
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """An image that can be resampled without artefacts: no palette, no 16-bit samples."""
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit greyscale PNG
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        return image.convert("RGBA")
    return image if image.mode in ("RGB", "L") else image.convert("RGB")


def _upright(crop: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undoes the camera's rotation (EXIF 2.3, tag 0x0112); the central square commutes with it."""
    if orientation in (5, 6, 7, 8):
        crop = crop.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        crop = crop[:, ::-1]
    if orientation in (3, 4, 7, 8):
        crop = crop[::-1]
    return np.ascontiguousarray(crop)
