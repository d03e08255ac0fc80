"""A crop as a file, to be looked at and to be compared."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def to_png(crop: NDArray[np.uint8]) -> bytes:
    """Of (height, width, 3); 224 px take a few milliseconds, mostly without the interpreter."""
    buffer = io.BytesIO()
    Image.fromarray(crop).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
