"""The views of photos that a teacher answers for, and that training shows again.

A view is a function of a seed, the photo's place in its pack and the view's number, so no box is
stored. The network sees the very crop that the teacher saw: it learns more from that than from the
teacher's answer to another crop (Beyer et al. 2021, arXiv 2106.05237, section 3.1). Only whether it
is mirrored is drawn anew each time. Several stored answers a photo are the idea of Shen and Xing
(arXiv 2112.01528).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

MOST_VIEWS = 1024  # of one photo
_NUMBERS = 8  # random numbers reserved for each view; five are used
_GAMMA = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Boxes:
    """Crops of N photos, each with a place, a size and a flip of its own; lengths in px."""

    tops: Tensor
    lefts: Tensor
    heights: Tensor
    widths: Tensor
    mirrored: Tensor

    def at(self, which: slice) -> "Boxes":
        return Boxes(**{name: tensor[which] for name, tensor in vars(self).items()})

    def cut(self, images: Tensor, index: Tensor, px: int, kernel: str = "bilinear") -> Tensor:
        """(M, S, S, 3) uint8 photos, of which (N,) `index` -> (N, px, px, 3), uint8 on the CPU.

        Photo by photo, as each crop has another size: on the CPU as fast as one resize of a batch,
        which torch computes photo by photo, too.
        """
        drawn = (index, self.tops, self.lefts, self.heights, self.widths, self.mirrored)
        cuts = []
        for photo, top, left, height, width, mirrored in zip(
            *(values.tolist() for values in drawn), strict=True
        ):
            crop = images[photo, top : top + height, left : left + width].permute(2, 0, 1)[None]
            resized = resize(crop.contiguous(memory_format=torch.channels_last), px, kernel)
            cut = resized.permute(0, 2, 3, 1)
            cuts.append(cut.flip(2) if mirrored else cut)
        return torch.cat(cuts)


def resize(x: Tensor, px: int, kernel: str) -> Tensor:
    """(N, 3, h, w) -> (N, 3, px, px). Bytes stay bytes on the CPU, which resizes them five times
    faster than floats; other devices give floats."""
    if x.device.type != "cpu":
        x = x.float()
    if x.shape[2:] == (px, px):
        return x
    smooth = kernel != "nearest" and max(x.shape[2:]) > px
    return F.interpolate(x, (px, px), mode=kernel, antialias=smooth)


def boxes(
    seed: int,
    photos: NDArray[np.int64],
    numbers: NDArray[np.int64],
    side: int,
    view: tuple[float, float],
) -> Boxes:
    """The views `numbers` (N,) of `photos` (N,) of `side` px; they span the fractions `view` of it.

    Distributed as training's own crops (`training/augment.py`).
    """
    first, second, down, right, flip = _uniform(seed, photos, numbers).T[:5]
    smallest, largest = view
    pair = first, np.clip(first + 0.4 * (second - 0.5), 0, 1)
    height, width = (
        np.maximum(1, np.rint(side * (smallest + (largest - smallest) * f))).astype(np.int64)
        for f in pair
    )
    tops, lefts = (down * (side - height + 1)).astype(int), (right * (side - width + 1)).astype(int)
    return Boxes(*(_tensor(values) for values in (tops, lefts, height, width, flip < 0.5)))


def _uniform(
    seed: int, photos: NDArray[np.int64], numbers: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(N, 8) from 0 to below 1, by SplitMix64 (Steele et al., OOPSLA 2014): any of its numbers can
    be computed alone, and 256 photos take microseconds."""
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < MOST_VIEWS:
        raise ValueError(f"a photo has views 0 to {MOST_VIEWS - 1}")
    view = photos * MOST_VIEWS + numbers
    place = (view[:, None] * _NUMBERS + np.arange(1, _NUMBERS + 1)).astype(np.uint64)
    start = _scramble(np.array([seed]).astype(np.uint64))
    drawn = _scramble(start + place * _GAMMA)
    return (drawn >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _scramble(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _tensor(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
