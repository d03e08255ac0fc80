"""Modes: a decoded picture, whatever its samples are, in 8 bits of grey, RGB or RGBA."""

import numpy as np
from PIL import Image

_STRIP = 64


def opaque(picture: Image.Image) -> Image.Image:
    """RGB; transparent pixels show what a viewer shows: a white page."""
    if picture.mode == "RGBA":
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def eight_bit(image: Image.Image) -> Image.Image:
    """An image that can be resampled without artefacts: no palette, no 16-bit samples."""
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit greyscale PNG
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        return image.convert("RGBA")
    return image if image.mode in ("RGB", "L") else image.convert("RGB")


def placed(picture: Image.Image, canvas: tuple[int, int, int, int]) -> Image.Image:
    width, height, left, top = canvas
    whole = Image.new("RGBA", (width, height))
    whole.paste(picture if picture.mode == "RGBA" else picture.convert("RGBA"), (left, top))
    return whole


def cleared(image: Image.Image, clear: tuple[int, ...], low: Image.Image) -> Image.Image:
    """A PNG of 16 bits with a clear colour: all 16 of each sample decide. In strips, as they take
    several times the memory of the picture."""
    (width, height), colour = image.size, np.array(clear, np.uint16)
    alpha = np.empty((height, width), np.uint8)
    for top in range(0, height, _STRIP):
        box = 0, top, width, min(top + _STRIP, height)
        samples = np.asarray(image.crop(box)).astype(np.uint16)
        if len(clear) == 1:
            samples = samples[..., None]
        else:  # Pillow keeps the high bytes of colours; the low ones are in the other picture
            samples = samples << 8 | np.asarray(low.crop(box))
        alpha[top : top + _STRIP] = np.where((samples == colour).all(-1), 0, 255)
    picture = eight_bit(image).convert("RGB")
    picture.putalpha(Image.fromarray(alpha))
    return picture
