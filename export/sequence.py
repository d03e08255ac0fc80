"""A plain AlexNet as the sequence of modules of its graph."""

from itertools import pairwise

from torch import nn

from training.layers import CrossMapNorm, SpatialNorm, UnscaledDropout
from training.network import AlexNet

_NORMS = CrossMapNorm | SpatialNorm
_DROPOUTS = nn.Dropout | UnscaledDropout


def sequence(network: AlexNet) -> list[nn.Module]:
    """The network's own modules in order, without dropout, and with each ReLU before its pooling.

    ReLU and max-pooling commute exactly, but runtimes fuse a ReLU only into a layer just before it.
    """
    modules: list[nn.Module] = []
    for module in [*network.features, network.avgpool, nn.Flatten(), *network.classifier]:
        assert not isinstance(module, UnscaledDropout) or module.p == 0, "not a plain network"
        if isinstance(module, nn.ReLU) and isinstance(modules[-1], nn.MaxPool2d):
            modules.insert(-1, module)
        elif not isinstance(module, _DROPOUTS):
            modules.append(module)
    return modules


def rounding_points(network: AlexNet, *, image: bool = False) -> list[nn.Module]:
    """The modules whose output int8 rounds: each ReLU, and each layer or run of norms without one.

    The logits stay in float. Pooling selects among values that are rounded already. With a mean
    `image` conv1 is rounded before its ReLU, where a map is added to it (export/precision.py); a
    norm then takes what comes out of the ReLU in float.
    """
    modules = sequence(network)
    points: list[nn.Module] = [
        module
        for module, following in pairwise(modules)
        if isinstance(module, nn.ReLU)
        or (isinstance(module, nn.Conv2d) and not isinstance(following, nn.ReLU))
        or (isinstance(module, _NORMS) and not isinstance(following, nn.ReLU | _NORMS))
    ]
    conv1: nn.Module = network.layers[0]
    if image and points[0] is not conv1:
        behind = modules[modules.index(points[0]) + 1]
        points[:1] = [conv1] if isinstance(behind, _NORMS) else [conv1, points[0]]
    return points
