"""Made photos that cost what photos cost to decode: smooth shapes under fine grain."""

import io

import numpy as np
from PIL import Image

from alexnet.formats import FORMATS

KINDS = {kind: form for form in FORMATS.values() for kind in form.samples}
"""By what Header.kind names."""

_GRAIN = 256


def photo(kind: str, megapixels: float, seed: int = 0) -> bytes:
    """A photo of 4 by 3 in one of KINDS; the same again for the same seed."""
    rng = np.random.default_rng(seed)
    size = round((megapixels * 1e6 * 4 / 3) ** 0.5), round((megapixels * 1e6 * 3 / 4) ** 0.5)
    shapes = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
    pixels = np.asarray(shapes.resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
    grain = rng.integers(-8, 9, (_GRAIN, _GRAIN, 1), np.int16)
    repeats = -(-size[1] // _GRAIN), -(-size[0] // _GRAIN), 1
    pixels += np.tile(grain, repeats)[: size[1], : size[0]]
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    form = KINDS[kind]
    if form.palette:  # by itself Pillow takes seconds for the palette
        image = image.quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, form.name, **form.samples[kind])
    return buffer.getvalue()
