"""Batched augmentation on the training device: crop, flip, resize, colour, texture.

Random numbers are drawn for the whole batch (`draw`, a few per photo) and applied to the part of it
that this process trains, so that several processes see the same photos as one would.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.pixels import IMAGENET, Pixels
from training.recipe import Recipe
from training.views import Boxes, resize


@dataclass(frozen=True)
class Views:
    """The augmentation of each photo of a batch. The first axis of every tensor is the batch."""

    size: tuple[int, int]
    """(height, width) in px of the crops, the same for the whole batch."""
    px: int
    """Side in px of the squares that the crops are resized to."""
    kernel: str
    tops: Tensor
    lefts: Tensor
    mirrored: Tensor
    gain: Tensor
    shift: Tensor
    """(N, 3), grey levels; pixels about their mean become gain * pixel + shift."""
    sharpness: Tensor | None
    grain: Tensor | None
    boxes: Boxes | None = None
    """The crops that a teacher saw, in place of the tops, lefts and flips above."""

    def part(self, rank: int, count: int) -> "Views":
        """Every `count`-th photo from `rank` on."""
        every = self.__dict__.items()
        own: dict[str, Any] = {k: v[rank::count] for k, v in every if isinstance(v, Tensor)}
        return replace(self, boxes=self.boxes and self.boxes.at(slice(rank, None, count)), **own)

    def of(self, boxes: Boxes) -> "Views":
        """The same colours and texture on these crops."""
        return replace(self, size=(self.px, self.px), boxes=boxes)

    def cut(self, images: Tensor, index: Tensor) -> Tensor:
        """(M, S, S, 3) uint8 photos, of which (N,) `index` -> (N, height, width, 3) uint8.

        Crops and mirrors in one gather, which reads only the pixels that are used.
        """
        if self.boxes is not None:
            return self.boxes.cut(images, index, self.px, self.kernel)
        height, width = self.size
        rows = self.tops[:, None] + torch.arange(height)
        columns = torch.arange(width).expand(len(self.lefts), -1)
        columns = torch.where(self.mirrored[:, None], columns.flip(1), columns)
        columns = self.lefts[:, None] + columns
        where = (index[:, None, None], rows[:, :, None], columns[:, None, :])
        return images[tuple(w.to(images.device, non_blocking=True) for w in where)]

    def __call__(self, cut: Tensor, recipe: Recipe, mean: Tensor | None = None) -> Tensor:
        """(N, height, width, 3) uint8 -> (N, 3, px, px) float32, normalised, channels last.

        `mean` is a mean image, (px, px, 3); it is subtracted wherever the crops come from, and
        mirrored with none of them, as in the code of 2012.
        """
        x = resize(cut.permute(0, 3, 1, 2), self.px, self.kernel)
        x = self._texture(x.float())
        # gain (x - mean) + shift, then / std, as one factor and one sum
        channels, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (recipe.mean, recipe.std))
        gain = self.gain[:, None, None, None] / std
        bias = self.shift[:, :, None, None] / std
        if mean is None:
            bias = bias - channels * gain
        else:
            x.sub_(mean.permute(2, 0, 1))
        factors = gain.unique()
        if len(factors) == 1:  # without jitter: one pass over the pixels instead of two
            return torch.add(bias.to(x.device), x, alpha=factors.item(), out=x)
        return x.mul_(gain.to(x.device)).add_(bias.to(x.device))

    def _texture(self, x: Tensor) -> Tensor:
        """Disturbs fine detail: sharpens or blurs the batch, or adds noise to it."""
        if self.sharpness is not None:
            soft = F.interpolate(F.avg_pool2d(x, 2), x.shape[2:], mode="bilinear")
            factor = self.sharpness[:, None, None, None].to(x.device)
            return x.sub_(soft).mul_(factor).add_(soft)
        if self.grain is not None:
            noise = torch.empty_like(x).uniform_(-1, 1)
            return x.addcmul_(noise, self.grain[:, None, None, None].to(x.device))
        return x


def draw(
    recipe: Recipe,
    count: int,
    side: int,
    px: int,
    noise: float,
    generator: torch.Generator,
    pixels: Pixels = IMAGENET,
) -> Views:
    """The views of `count` photos of `side` px; `noise` is the strength of the colour noise.

    Place and flip are drawn once for `recipe.chunk` photos in a row, as in the code of 2012.
    """
    chunks = -(-count // recipe.chunk)
    height, width = _size(recipe.view, side, generator)

    def per_photo(drawn: Tensor) -> Tensor:
        return drawn.repeat_interleave(recipe.chunk)[:count]

    def places(length: int) -> Tensor:
        most = side - length + (recipe.far_edge or length == side)
        return per_photo(torch.randint(most, (chunks,), generator=generator))

    tops, lefts = places(height), places(width)
    mirrored = per_photo(torch.rand(chunks, generator=generator) < 0.5)
    kernel = recipe.filters[int(torch.randint(len(recipe.filters), (), generator=generator))]
    # Contrast is scaled about mid-grey, brightness shifted, both by up to `jitter`.
    gain = 1 + recipe.jitter * _uniform(count, generator)
    shift = 128 * recipe.jitter * _uniform(count, generator)[:, None].expand(-1, 3)
    middle = 128 - torch.tensor(recipe.mean)
    shift = shift + middle * (1 - gain[:, None])
    if noise:
        shift = shift + noise * colour_noise(recipe, count, generator, pixels)
        if recipe.noise == "code":  # the code divides by 1.1 in training only
            gain, shift = gain / (1 + noise), shift / (1 + noise)
    sharpened = bool(torch.rand((), generator=generator) < 0.5)
    sharpness = 1 + recipe.sharpness * _uniform(count, generator)
    grain = recipe.grain * (1 + _uniform(count, generator)) / 2
    return Views(
        (height, width), px, kernel, tops, lefts, mirrored, gain, shift,
        sharpness if recipe.sharpness and sharpened else None,
        grain if recipe.grain and not sharpened else None,
    )  # fmt: skip


def colour_noise(recipe: Recipe, count: int, generator: torch.Generator, pixels: Pixels) -> Tensor:
    """(count, 3) grey levels along the principal components of colour (section 4.1).

    The code of 2012 weighs the components by their standard deviations, the paper by their
    eigenvalues (here of pixels between 0 and 1): half as strong along the first.
    """
    weights = pixels.deviations
    if recipe.noise == "paper":
        weights = weights**2 / 255
    return (torch.randn(count, 3, generator=generator) * weights) @ pixels.components


def _size(view: tuple[float, float], side: int, generator: torch.Generator) -> tuple[int, int]:
    """Height and width in px, fractions of `side` that differ little: natural aspect ratios."""
    smallest, largest = view
    first, second = torch.rand(2, generator=generator).tolist()
    pair = first, min(1.0, max(0.0, first + 0.4 * (second - 0.5)))
    height, width = (max(1, round(side * (smallest + (largest - smallest) * f))) for f in pair)
    return height, width


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    """(count,), uniform in -1..1."""
    return 2 * torch.rand(count, generator=generator) - 1
