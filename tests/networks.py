"""Plain networks with random weights in which every layer matters, and crops for them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from alexnet.labels import Labels
from tests.photos import draw
from training.importers import IMAGENET_MEAN, IMAGENET_STD, TrainedModel
from training.network import ARCHITECTURES, AlexNet

PLAIN = ["alexnet", "alexnet2012", "alexnet2012-paper", "alexnet-caffe"]
SIDES = {arch: ARCHITECTURES[arch].crop for arch in PLAIN}


def random_model(arch: str) -> TrainedModel:
    """Weights that keep the size of what goes through; pixels of 0-255 where there are norms.

    With them the base of the first norm goes far above k, where a small mistake would not show.
    """
    torch.manual_seed(0)
    network = AlexNet(100, arch, dropout=0.0).eval()
    for layer in network.layers:
        nn.init.kaiming_normal_(layer.weight)
        nn.init.normal_(layer.bias, std=0.1)  # type: ignore[arg-type]
    std = IMAGENET_STD if arch == "alexnet" else (1.0, 1.0, 1.0)
    labels = Labels.imagenet()
    return TrainedModel(network, IMAGENET_MEAN, std, labels, 1000, {}, "0" * 64, crop=SIDES[arch])


def photos(side: int, count: int = 4) -> NDArray[np.uint8]:
    return np.stack([np.asarray(draw(side, side, seed=seed)) for seed in range(count)])
