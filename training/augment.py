"""Batched augmentation on the device that trains: view, flip, colour, sharpness, grain."""

import torch
import torch.nn.functional as F
from torch import Tensor


def random_views(
    images: Tensor,
    px: int,
    smallest: float,
    generator: torch.Generator | None = None,
    filters: tuple[str, ...] = ("bilinear",),
) -> Tensor:
    """(N, S, S, 3) uint8 -> (N, 3, px, px) float in 0..255, channels last in memory.

    The size of the view is drawn once for the batch, as is the filter that resizes it, and its
    place once for each image: crops stay plain slices, and the resize one call. Half of them are
    mirrored.
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
        kernel = filters[int(torch.randint(len(filters), (1,), generator=generator))]
        smooth = kernel != "nearest" and (height > px or width > px)
        x = F.interpolate(x, (px, px), mode=kernel, antialias=smooth)
    mirrored = torch.rand(count, generator=generator) < 0.5
    x[mirrored] = x[mirrored].flip(3)
    return x


def colour_jitter(x: Tensor, strength: float, generator: torch.Generator | None = None) -> Tensor:
    """Scales contrast and shifts brightness of each image by up to `strength`, in place."""
    gain, shift = (1 + strength * _uniform(x, generator), 128 * strength * _uniform(x, generator))
    return x.sub_(128).mul_(gain).add_(128 + shift)


def texture(
    x: Tensor, sharpness: float, grain: float, generator: torch.Generator | None = None
) -> Tensor:
    """Makes fine detail unreliable, in place: one batch is sharpened or blurred, the next noisy.

    The difference of each image from itself at half the resolution is scaled by up to
    1 +- `sharpness`; or uniform noise of up to `grain` grey levels is added.
    """
    if torch.rand((), generator=generator) < 0.5:
        soft = F.interpolate(F.avg_pool2d(x, 2), x.shape[2:], mode="bilinear")
        return x.sub_(soft).mul_(1 + sharpness * _uniform(x, generator)).add_(soft)
    noise = torch.empty_like(x).uniform_(-1, 1, generator=generator)
    return x.addcmul_(noise, grain / 2 * (1 + _uniform(x, generator)))


def _uniform(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """(N, 1, 1, 1), uniform in -1..1."""
    return (2 * torch.rand(len(x), 1, 1, 1, generator=generator) - 1).to(x.device)


def _correlated_pair(generator: torch.Generator | None) -> tuple[float, float]:
    """Two numbers in 0..1 that differ by 0.2 at most: aspect ratios stay natural."""
    first, second = torch.rand(2, generator=generator).tolist()
    return first, min(1.0, max(0.0, first + 0.4 * (second - 0.5)))
