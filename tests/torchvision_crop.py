"""torchvision's Resize(256) and CenterCrop(224) of a Pillow image, from its source."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def resize_and_crop(image: Image.Image, resize: int = 256, crop: int = 224) -> NDArray[np.uint8]:
    """(crop, crop, 3), by `_compute_resized_output_size` and `center_crop`."""
    w, h = image.size
    short, long = (w, h) if w <= h else (h, w)
    new_short, new_long = resize, int(resize * long / short)
    new_w, new_h = (new_short, new_long) if w <= h else (new_long, new_short)
    whole = image.resize((new_w, new_h), Image.Resampling.BILINEAR)
    top, left = round((new_h - crop) / 2.0), round((new_w - crop) / 2.0)
    return np.asarray(whole.crop((left, top, left + crop, top + crop)))
