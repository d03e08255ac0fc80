"""Image bytes -> one uint8 crop.

Training's evaluation, export's calibration and golden batch, and the server all call
`preprocess`; what a model was measured with is what it is served with.
"""

from dataclasses import dataclass
from struct import error

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet import webp
from alexnet.colour import NONE, Colours, colours_of
from alexnet.decoders import missing
from alexnet.formats import FORMATS, Format, Plain, format_of
from alexnet.formats import webp as webp_format
from alexnet.formats.jpeg import EOI
from alexnet.geometry import MIRRORED, TRANSPOSED, UPSIDE_DOWN, Box, crop_box
from alexnet.header import Header, read_header
from alexnet.modes import opaque
from alexnet.resampling import resample
from alexnet.shown import LARGE, shown
from alexnet.source import OutOfTime, Over, Source, never
from alexnet.spec import Preprocess
from alexnet.strangers import name_of

MAX_PIXELS = 64_000_000
"""Decoded: cameras of 50 megapixels write 50.3 million. A JPEG that is decoded at a fraction may
declare DECLARED times as many, which is what reading its code may cost."""
DECLARED = 4
MAX_SIDE = 65_535
"""What JPEG allows. A row costs memory, too, however thin it is."""

_LEAST_BLOCK, _MOST_BLOCK, _BLOCKS = 1 << 10, 1 << 16, 64  # bytes that are decoded at a time
_ROW_BYTES = 64  # of each row, beside its pixels: pointers, padding
_NOISE = bytes(range(0x31, 0xF1, 7)) * 8
# Sizes are checked here, on the header, before Pillow sees a file.
Image.MAX_IMAGE_PIXELS = None


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
    icc: str = ""
    """`sRGB`, `Display P3 → sRGB`: already applied to the crop; empty where the photo does not say
    what its colours are, which is sRGB."""
    frames: int = 1
    """2 where there are more, 0 where that takes long to tell; the crop is of the first."""
    warnings: tuple[str, ...] = ()
    """What is wrong with the file, and did not cost the photo."""


def preprocess(
    data: bytes,
    spec: Preprocess,
    max_pixels: int = MAX_PIXELS,
    header: Header | None = None,
    over: Over = never,
) -> Photo:
    """Decodes a photo and cuts the crop out of it; its header is read here unless it is given.

    Raises UnsupportedFormat, ImageTooLarge or InvalidImage. Sizes are checked on the header,
    before any pixel is decoded. `over` is asked again and again; OutOfTime once it says yes.
    """
    if not data:
        raise InvalidImage("the image is empty (0 bytes)")
    form, header = _known(data, header)
    if what_to_do := missing(form.name):
        raise UnsupportedFormat(what_to_do)
    check_pixels(header, spec, max_pixels)
    try:
        plain = form.plain(data)
    except (error, IndexError):  # struct's
        raise InvalidImage(f"the {form.name} cannot be read: it ends too early") from None
    except ValueError as reason:
        raise InvalidImage(str(reason)) from None
    try:
        image, warnings = _begun(plain, form, header, spec, over), plain.warnings
        mode, colours = image.mode, colours_of(image, plain.codes)
        warnings = (*warnings, colours.warning) if colours.warning else warnings
        try:
            crop = _central_crop(image, header, form, plain, spec, colours, over)
        except OSError:
            whole = _without_end(plain, header, form, spec, over) if form.name == "JPEG" else None
            if not whole:
                raise
            crop = _central_crop(whole, header, form, plain, spec, colours, over)
            warnings = (*warnings, "the JPEG lacks its end marker")
    except OutOfTime:
        raise
    except Exception as reason:
        # Pillow's decoders raise OSError, SyntaxError, struct.error, EOFError, ...: whichever it
        # is, these bytes are not a whole picture. Its own words are of no use to a caller.
        raise InvalidImage(
            f"the {form.name} cannot be decoded: it is damaged or not whole; send it again, "
            "or open it in a viewer and save it anew"
        ) from reason
    crop = _upright(crop, plain.orientation)
    return Photo(
        crop, form.name, header.width, header.height, mode, plain.orientation, colours.name,
        plain.frames, warnings,
    )  # fmt: skip


def decoded_bytes(header: Header, spec: Preprocess) -> int:
    """The most memory that `preprocess` holds at once for the pixels of such a photo."""
    form, pixels = FORMATS[header.format], header.width * header.height
    if form.name == "WEBP" and _webp_fraction(header, spec) > 1:
        return webp.BYTES_PER_PIXEL * pixels
    reduction = _reduction(form, header.width, header.height, spec)
    # A codec works on whole blocks of 16 x 16, which counts for thin pictures.
    blocks = -(-header.width // 16) * -(-header.height // 16) * 256
    coefficients = form.kept_bytes * blocks if header.progressive else 0
    rows = _ROW_BYTES * header.height // reduction
    return form.bytes_per_pixel * pixels // reduction**2 + coefficients + rows


def _known(data: bytes, header: Header | None) -> tuple[Format, Header]:
    # First ours: Pillow would step over tiny segments or padding for seconds, and hold the GIL.
    header = header or read_header(data)
    if header is None:
        if form := format_of(data):
            raise InvalidImage(
                f"the {form.name} has no size where its header should have one; "
                "send all of it, or save it anew"
            )
        name, known = name_of(data), ", ".join(FORMATS)
        other = f" {name}," if name else ""
        raise UnsupportedFormat(f"the bytes are{other} not an image in a known format ({known})")
    return FORMATS[header.format], header


def _open(data: bytes, form: Format, over: Over = never) -> Image.Image:
    image = Image.open(Source(data, over), formats=(form.name,))
    if image.width * image.height >= LARGE:
        # A block of 64 KB may hold all of a picture: smaller ones end it sooner.
        image.decodermaxblock = max(_LEAST_BLOCK, min(_MOST_BLOCK, len(data) // _BLOCKS))
    return image


def _begun(plain: Plain, form: Format, header: Header, spec: Preprocess, over: Over) -> Image.Image:
    """Opened; of a WebP, decoded."""
    if form.name != "WEBP" or not webp.usable:
        return _open(plain.data, form, over)
    image = webp.decoded(
        plain.data, header.width * header.height, _webp_fraction(header, spec), over
    )
    if profile := webp_format.profile(plain.data):
        image.info["icc_profile"] = profile
    return image


def _webp_fraction(header: Header, spec: Preprocess) -> int:
    """1; or 2, 4 or 8, for a large photo."""
    large = webp.usable and header.width * header.height >= LARGE
    return _fraction(header.width, header.height, spec) if large else 1


def check_pixels(header: Header, spec: Preprocess, most: int) -> None:
    """Raises ImageTooLarge. `most` is of pixels that are decoded."""
    width, height = header.width, header.height
    if max(width, height) > MAX_SIDE:
        raise ImageTooLarge(
            f"the image is {width} x {height} pixels; at most {MAX_SIDE:,} a side are accepted"
        )
    pixels, reduction = width * height, 1
    if not header.progressive:
        reduction = _reduction(FORMATS[header.format], width, height, spec)
    allowed = most * min(reduction**2, DECLARED)
    if pixels > allowed:
        raise ImageTooLarge(
            f"the image is {width} x {height} = {pixels:,} pixels; at most {allowed:,} are accepted"
        )


def _without_end(
    plain: Plain, header: Header, form: Format, spec: Preprocess, over: Over
) -> Image.Image | None:
    """The picture of a JPEG that lacks its end marker and nothing else.

    libjpeg fills up what is missing, silently. So other bits are put behind the last one: only a
    picture that is whole does not change.
    """
    found = []
    for tail in (b"", _NOISE):
        image = _open(plain.data + tail + EOI, form, over)
        _draft(image, header, form, spec)
        image.load()
        found.append(image)
    return found[0] if found[0].tobytes() == found[1].tobytes() else None


def _draft(image: Image.Image, header: Header, form: Format, spec: Preprocess) -> None:
    width, height = header.width, header.height
    reduction = _reduction(form, width, height, spec)
    if reduction > 1:
        image.draft("RGB", (width // reduction, height // reduction))


def _central_crop(
    image: Image.Image,
    header: Header,
    form: Format,
    plain: Plain,
    spec: Preprocess,
    colours: Colours,
    over: Over,
) -> NDArray[np.uint8]:
    """Resize and crop in one resampling: only the pixels under the crop are read."""
    _draft(image, header, form, spec)
    low = _low_bytes(plain, form) if len(plain.clear or ()) > 1 else image
    picture = shown(image, low, plain, colours, _fraction(*image.size, spec), over)
    late = NONE if colours.early else colours
    if spec.geometry == "centre":
        box = _central(picture, min(picture.size) * spec.crop / spec.resize)
    else:
        left, top, right, bottom = crop_box(header.width, header.height, spec, plain.orientation)
        across, down = picture.size
        box = left * across, top * down, right * across, bottom * down
    return np.asarray(opaque(late.of(resample(picture, spec.crop, box, spec.interpolation))))


def _reduction(form: Format, width: int, height: int, spec: Preprocess) -> int:
    """1; or 2, 4 or 8, if the photo is decoded at that fraction, for that fraction of its cost."""
    return _fraction(width, height, spec) if form.fractions else 1


def _fraction(width: int, height: int, spec: Preprocess) -> int:
    times = min(width, height) // (2 * spec.resize)  # the antialiasing filters do the last halving
    return 8 if times >= 8 else 4 if times >= 4 else 2 if times >= 2 else 1


def _central(picture: Image.Image, side: float) -> Box:
    width, height = picture.size
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _low_bytes(plain: Plain, form: Format) -> Image.Image:
    """The same file read with the other order of bytes."""
    image = _open(plain.data, form)
    image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]  # type: ignore[attr-defined]
    return image


def _upright(crop: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undoes the camera's rotation (EXIF 2.3, tag 0x0112); the central square commutes with it."""
    if orientation in TRANSPOSED:
        crop = crop.transpose(1, 0, 2)
    if orientation in MIRRORED:
        crop = crop[:, ::-1]
    if orientation in UPSIDE_DOWN:
        crop = crop[::-1]
    return np.ascontiguousarray(crop)
