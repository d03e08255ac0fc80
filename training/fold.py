"""A network for crops of one size: what pools before fc6 goes into its weights.

Exact, and cheaper where the places are fewer: of a crop of 128 px they are 3 x 3, so fc6 has a
quarter of its weights.
"""

import torch
from torch import Tensor, nn

from training.network import AlexNet, pooling


@torch.no_grad()
def fold(network: AlexNet, px: int) -> AlexNet:
    """The plain network for crops of `px`. Raises ValueError for less than it can see."""
    try:
        side = network.features(torch.zeros(1, 3, px, px)).shape[-1]
    except RuntimeError:
        raise ValueError(f"{network.arch} sees nothing in a crop of {px} px: 63 and more") from None
    folded = AlexNet(network.classes, network.arch, dropout=0.0).eval()
    folded.load_state_dict(network.state_dict())
    index, first = fc6(folded)
    weight = first.weight.view(-1, network.pooled**2) @ pooling(side, network.pooled)
    folded.classifier[index] = linear(weight.view(len(first.weight), -1), first.bias)
    folded.pooled, folded.avgpool = side, nn.AdaptiveAvgPool2d(side)
    return folded


def unfolded(weight: Tensor, pooled: int) -> Tensor:
    """The weights of fc6, folded or not -> (units, 256 * pooled * pooled): the same network for the
    same crops, and one that takes other sizes, too."""
    units, inputs = weight.shape
    places = inputs // 256
    side = round(places**0.5)
    if side == pooled:
        return weight
    spread = torch.linalg.pinv(pooling(side, pooled).double())
    return (weight.double().view(-1, places) @ spread).view(units, -1).float()


def fc6(network: AlexNet) -> tuple[int, nn.Linear]:
    """And its place in the classifier."""
    return next((i, m) for i, m in enumerate(network.classifier) if isinstance(m, nn.Linear))


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0])
    made.load_state_dict({"weight": weight, "bias": bias})
    return made
