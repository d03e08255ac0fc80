"""Plain networks with random weights in which every layer matters, and crops for them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alexnet.labels import Labels
from tests.photos import draw
from training.importers import IMAGENET_MEAN, IMAGENET_STD, TrainedModel
from training.network import ARCHITECTURES, AlexNet

PLAIN = ["alexnet", "alexnet-small", "alexnet2012", "alexnet2012-paper", "alexnet-caffe"]
SIDES = {arch: ARCHITECTURES[arch].crop for arch in PLAIN}


def random_model(arch: str, *, image: bool = False) -> TrainedModel:
    """Weights that keep the size of what goes through; pixels of 0-255 where there are norms.

    With them the base of the first norm goes far above k, where a small mistake would not show.
    With a mean `image` it is one that is far from constant.
    """
    torch.manual_seed(0)
    network = AlexNet(100, arch, dropout=0.0).eval()
    for layer in network.layers:
        nn.init.kaiming_normal_(layer.weight)
        nn.init.normal_(layer.bias, std=0.1)  # type: ignore[arg-type]
    std = (1.0, 1.0, 1.0) if ARCHITECTURES[arch].original else IMAGENET_STD
    labels = Labels.imagenet()
    side, mean, pixels = SIDES[arch], IMAGENET_MEAN, None
    if image:
        waves = torch.from_numpy(np.array(draw(side, side, seed=77), np.float32)) - 128
        pixels = torch.tensor(IMAGENET_MEAN) + 0.5 * waves
        mean = tuple(pixels.mean((0, 1)).tolist())
    return TrainedModel(network, mean, std, labels, 1000, {}, "0" * 64, crop=side, image=pixels)


def photos(side: int, count: int = 4) -> NDArray[np.uint8]:
    return np.stack([np.asarray(draw(side, side, seed=seed)) for seed in range(count)])


def random_network(arch: str) -> AlexNet:
    """Has random biases, and weights so large that the norms have an effect."""
    torch.manual_seed(0)
    network = AlexNet(7, arch).eval()
    with torch.no_grad():
        for layer, factor in zip(network.layers, (5, 5, 3, 3, 3, 3, 10, 10), strict=True):
            layer.weight.mul_(factor)
            layer.bias.normal_()  # type: ignore[union-attr]
    return network


def noise(*shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(1))
