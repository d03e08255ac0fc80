"""Batched augmentation on the device that trains: random view, flip, brightness and contrast."""

import torch
import torch.nn.functional as F
from torch import Tensor


def random_views(
    images: Tensor,
    px: int,
    smallest: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """(N, S, S, 3) uint8 -> (N, 3, px, px) float in 0..255, channels last in memory.

    The size of the view is drawn once for the batch and its place once for each image: crops
    stay plain slices, and the resize one call. Half of them are mirrored.
    """
    count, side = images.shape[:2]
    height, width = (
        max(1, round(side * (smallest + (1 - smallest) * f))) for f in _correlated_pair(generator)
    )
    tops = torch.randint(side - height + 1, (count,), generator=generator).tolist()
    lefts = torch.randint(side - width + 1, (count,), generator=generator).tolist()
    views = torch.stack(
        [
            image[top : top + height, left : left + width]
            for image, top, left in zip(images, tops, lefts, strict=True)
        ]
    )
    x = views.permute(0, 3, 1, 2).float()
    if (height, width) != (px, px):
        x = F.interpolate(x, (px, px), mode="bilinear", antialias=height > px or width > px)
    mirrored = torch.rand(count, generator=generator) < 0.5
    x[mirrored] = x[mirrored].flip(3)
    return x


def colour_jitter(x: Tensor, strength: float, generator: torch.Generator | None = None) -> Tensor:
    """Scales the contrast and shifts the brightness of each image by up to `strength`."""
    gain, shift = (1 + strength * _uniform(x, generator), 128 * strength * _uniform(x, generator))
    return (x - 128) * gain + 128 + shift


def _uniform(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """(N, 1, 1, 1), uniform in -1..1."""
    return (2 * torch.rand(len(x), 1, 1, 1, generator=generator) - 1).to(x.device)


def _correlated_pair(generator: torch.Generator | None) -> tuple[float, float]:
    """Two numbers in 0..1 that differ by 0.2 at most: aspect ratios stay natural."""
    first, second = torch.rand(2, generator=generator).tolist()
    return first, min(1.0, max(0.0, first + 0.4 * (second - 0.5)))
