"""What a decoded picture shows, in 8 bits: no palette, no 16-bit samples, no ink.

A large one is converted strip by strip, and each strip reduced at once: there is no copy of the
whole, and in between it is asked whether the photo is still of use. A profile of linear light takes
27 ns for each pixel, 1.7 s for 64 megapixels.
"""

from PIL import Image

from alexnet.colour import Colours
from alexnet.formats import Plain
from alexnet.modes import cleared, eight_bit, placed
from alexnet.source import OutOfTime, Over

LARGE = 4_000_000
"""Pixels. Of a smaller picture every pixel is resampled once, and from all of its neighbours."""
_STRIP = 128  # rows; of 65,535 pixels at most, 34 MB


def shown(
    image: Image.Image, low: Image.Image, plain: Plain, colours: Colours, fraction: int, over: Over
) -> Image.Image:
    """In L, RGB or RGBA, and in sRGB, if that must come `early`. `low` has the low bytes of 16
    bits. The sides of a large picture are divided by `fraction`. Raises OutOfTime."""
    image.load()
    if plain.clear:
        picture = cleared(image, plain.clear, low)
        return colours.of(picture) if colours.early else picture
    as_it_is = image.mode in ("RGB", "L") and "transparency" not in image.info
    large = image.width * image.height >= LARGE and fraction > 1
    if large and not plain.canvas and not (as_it_is and not colours.early):
        return _in_strips(image, colours, fraction, over)
    picture = _converted(image, colours)
    return placed(picture, plain.canvas) if plain.canvas else picture


def _converted(image: Image.Image, colours: Colours) -> Image.Image:
    if colours.mode == "CMYK":
        return colours.of(image)
    picture = eight_bit(image)
    return colours.of(picture) if colours.early else picture


def _in_strips(image: Image.Image, colours: Colours, fraction: int, over: Over) -> Image.Image:
    (width, height), result = image.size, None
    for top in range(0, height, _STRIP):
        if over():
            raise OutOfTime
        rows = image.crop((0, top, width, min(top + _STRIP, height)))
        strip = _converted(rows, colours).reduce(fraction)
        if result is None:
            size = -(-width // fraction), -(-height // fraction)
            result = Image.new(strip.mode, size)
        result.paste(strip, (0, top // fraction))
    assert result
    return result
