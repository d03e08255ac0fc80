"""What the recipes of 2012 take from the pixels of their training photos."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from alexnet.labels import Labels
from alexnet.spec import Preprocess
from training.data import Dataset
from training.ranks import Ranks
from training.recipe import Recipe

_BLOCK = 64  # photos that are added up at once


@dataclass(frozen=True, eq=False)
class Pixels:
    """The principal components of their colours, and their mean image; float32, grey levels."""

    deviations: Tensor
    """(3,): the standard deviation along each component."""
    components: Tensor
    """(3, 3): one component a row, RGB."""
    image: Tensor | None = None
    """(side, side, 3): the mean of the photos as packed; None where each channel has one mean."""
    _means: dict[tuple[int, torch.device], Tensor] = field(default_factory=dict, init=False)

    def mean(self, px: int, device: torch.device | str = "cpu") -> Tensor | None:
        """(px, px, 3) on the device: the centre of the mean image, which the network sees of it.

        In 2012 the centre was subtracted whatever the place of the crop (convdata.py).
        """
        if self.image is None:
            return None
        key = px, torch.device(device)
        if key not in self._means:
            self._means[key] = _central(self.image, px).to(device)
        return self._means[key]

    def tensors(self) -> dict[str, Tensor]:
        """By name, for a checkpoint."""
        named = {"deviations": self.deviations, "components": self.components, "image": self.image}
        return {name: tensor for name, tensor in named.items() if tensor is not None}


# The principal components of ImageNet's pixels (RGB, 0-255): standard deviations, and one
# component a row (cuda-convnet2's `color_pca`; figures from its released batches). The last and
# by far the largest is brightness.
IMAGENET = Pixels(
    torch.tensor([19.7208, 37.0939, 121.7801]),
    torch.tensor(
        [
            [0.41795513, -0.81698062, 0.39731118],
            [-0.71257945, -0.02354167, 0.70119634],
            [-0.56351045, -0.5761844, -0.59200296],
        ]
    ),
)


def measure(recipe: Recipe, data: Dataset, ranks: Ranks, *, apart: bool = False) -> Pixels:
    """What `recipe` needs of the photos; nothing is read if it needs nothing.

    The components are ImageNet's where the classes are ImageNet's 1000. If the processes train
    `apart`, each reads its part of the photos. The sums are whole numbers, which float64 holds
    exactly up to two million photos of 256 px: any number of processes gets the same.
    """
    coloured = recipe.colour_noise > 0 and data.labels != Labels.imagenet()
    if not (coloured or recipe.mean_image):
        return IMAGENET
    images = torch.from_numpy(data.images)
    own = images[ranks.rank :: ranks.count] if apart else images
    sums = torch.zeros(*images.shape[1:], dtype=torch.float64, device=ranks.device)
    products = torch.zeros(3, 3, dtype=torch.float64, device=ranks.device)
    starts = range(0, len(own), _BLOCK)
    for start in tqdm(starts, "mean image", leave=False, disable=not ranks.first):
        block = own[start : start + _BLOCK].to(ranks.device)
        sums += block.sum(0, dtype=torch.float64)
        if coloured:
            pixels = block.reshape(-1, 3).double()
            products += pixels.T @ pixels
    if apart:
        ranks.total(sums)
        ranks.total(products)
    sums, products = sums.cpu(), products.cpu()
    image = (sums / len(images)).float() if recipe.mean_image else None
    if not coloured:
        return Pixels(IMAGENET.deviations, IMAGENET.components, image)
    return Pixels(*_principal(sums, products, len(images)), image)


def _principal(sums: Tensor, products: Tensor, photos: int) -> tuple[Tensor, Tensor]:
    """Standard deviations, ascending, and components, from sums of pixels and of their products."""
    pixels = photos * sums.shape[0] ** 2
    mean = sums.sum((0, 1)) / pixels
    variances, vectors = torch.linalg.eigh(products / pixels - mean.outer(mean))
    return variances.clamp_min(0).sqrt().float(), vectors.T.float().contiguous()


def _central(image: Tensor, px: int) -> Tensor:
    """(side, side, 3) -> (px, px, 3): the part under the usual crop, resized if it is not px."""
    usual = Preprocess()
    side = len(image)
    width = round(side * usual.crop / usual.resize)
    first = (side - width) // 2
    centre = image[first : first + width, first : first + width]
    if width != px:
        planes = F.interpolate(
            centre.permute(2, 0, 1)[None], (px, px), mode="bilinear", antialias=True
        )
        centre = planes[0].permute(1, 2, 0)
    return centre.contiguous()
