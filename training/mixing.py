"""Photos mixed with one another: mixup (Zhang et al., arXiv 1710.09412) and CutMix (Yun et al.,
arXiv 1905.04899).

Drawn from the seed and the step alone: several processes mix with the same share, each the photos
of its own part.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.loss import Goal
from training.recipe import Recipe


@dataclass(frozen=True)
class Mix:
    share: float
    """Of each photo in itself; the partner has the rest."""
    partners: Tensor
    """(N,): the photo of the batch that each is mixed with."""
    box: tuple[int, int, int, int] | None = None
    """CutMix: top, bottom, left and right in px of the rectangle that the partner fills."""

    def photos(self, x: Tensor) -> Tensor:
        """(N, 3, px, px), changed in place."""
        partners = self.partners.to(x.device)
        if self.box is None:
            other = x[partners]
            return x.mul_(self.share).add_(other, alpha=1 - self.share)
        top, bottom, left, right = self.box
        x[:, :, top:bottom, left:right] = x[partners, :, top:bottom, left:right]
        return x

    def goal(self, goal: Goal) -> Goal:
        """Both goals in the same shares."""
        return Goal(self._rows(goal.hard), None if goal.soft is None else self._rows(goal.soft))

    def _rows(self, rows: Tensor) -> Tensor:
        return self.share * rows + (1 - self.share) * rows[self.partners.to(rows.device)]


def draw_mix(recipe: Recipe, step: int, count: int, px: int) -> Mix | None:
    """How the `count` photos of `px` px of a step are mixed; None if the recipe does not mix.

    With both methods, each step uses one of them, with equal chances (as timm does).
    """
    if not recipe.mixup and not recipe.cutmix:
        return None
    rng = np.random.default_rng([recipe.seed, step])
    cut = rng.random() < (0.5 if recipe.mixup and recipe.cutmix else float(recipe.cutmix > 0))
    strength = recipe.cutmix if cut else recipe.mixup
    share = float(rng.beta(strength, strength))
    centre = rng.integers(0, px, 2)
    partners = torch.from_numpy(rng.permutation(count))
    if not cut:
        return Mix(share, partners)
    half = px * np.sqrt(1 - share) / 2
    (top, left), (bottom, right) = (
        np.clip(np.rint(centre + sign * half).astype(int), 0, px).tolist() for sign in (-1, 1)
    )
    # The rectangle may lie partly outside of the photo: what is left of it counts.
    share = 1 - (bottom - top) * (right - left) / px**2
    return Mix(share, partners, (top, bottom, left, right))
