"""The ten views of a photo in which the network of 2012 was measured (Krizhevsky et al. 2012,
section 4.1)."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from alexnet.spec import Preprocess

VIEWS = 10


def of_the_square(spec: Preprocess) -> Preprocess:
    """What the views are cut from: as in 2012 the central square, not the whole photo."""
    return replace(spec, crop=spec.resize)


def cut_ten_views(squares: NDArray[np.uint8], crop: int) -> NDArray[np.uint8]:
    """(N, side, side, 3) -> (N, 10, crop, crop, 3): the four corners and the centre, then their
    mirror images in the same order."""
    far = squares.shape[1] - crop
    assert far >= 0, "a crop cannot be larger than the square"
    places = [(0, 0), (0, far), (far, 0), (far, far), (far // 2, far // 2)]
    views = np.stack([squares[:, y : y + crop, x : x + crop] for y, x in places], 1)
    return np.concatenate([views, views[:, :, :, ::-1]], 1)
