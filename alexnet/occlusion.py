"""Where in a crop the evidence for a class lies: hide a part, and see what becomes of its
probability (Zeiler & Fergus 2013, arXiv 1311.2901, section 4.2)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GRID = 7
"""Places along each side. What is hidden at each is twice as wide, so neighbours overlap."""


def hidden(crop: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """(S, S, 3) -> the crop itself, and GRID * GRID more, row by row, each with one place in the
    crop's mean colour: grey would be an edge of its own in a dark or a bright photo."""
    cell, colour = len(crop) / GRID, crop.mean((0, 1)).astype(np.uint8)
    spans = [slice(max(0, round((i - 0.5) * cell)), round((i + 1.5) * cell)) for i in range(GRID)]
    crops = [crop]
    for rows in spans:
        for columns in spans:
            copy = crop.copy()
            copy[rows, columns] = colour
            crops.append(copy)
    return crops


def drops(before: float, after: Sequence[float]) -> NDArray[np.float32]:
    """(GRID, GRID): how far the probability of a class falls where each place is hidden; 0 where
    it rises."""
    fallen = before - np.array(after, np.float32).reshape(GRID, GRID)
    return fallen.clip(0).astype(np.float32)


def shares(grid: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same as shares of the largest; zeros where nothing fell."""
    return grid / max(float(grid.max()), 1e-9)


def overlay(crop: NDArray[np.uint8], evidence: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(S, S, 3): the crop, grey and dark where the evidence, 0 to 1, is none, and as it is where it
    is 1."""
    side = len(crop)
    heat = Image.fromarray(evidence).resize((side, side), Image.Resampling.BICUBIC)
    light = np.asarray(heat).clip(0, 1)[..., None]
    grey = crop.mean(-1, keepdims=True) * 0.35
    shown: NDArray[np.uint8] = (crop * light + grey * (1 - light)).round().astype(np.uint8)
    return shown
