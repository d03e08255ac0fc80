"""The AlexNets, each written as the list of its layers.

`alexnet`            one tower (Krizhevsky, "One weird trick", arXiv 1404.5997), with torchvision's
                     names and shapes: 61,100,840 parameters for 1000 classes
`alexnet-bn`         the same with batch norm after every layer but the last; folds into `alexnet`
`alexnet2012`        two columns, as in the code of 2012 (its net 145): 60,965,224 parameters
`alexnet2012-paper`  the same weights in the paper's order (ReLU, norm, pool) and initialisation
`alexnet-caffe`      BVLC's reimplementation; only to import its weights

docs/training.md lists the differences between code and paper.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from alexnet.spec import PIXEL_SCALE, PIXEL_ZERO
from training.layers import CrossMapNorm, SpatialNorm, UnscaledDropout

HIDDEN = 4096
POOLED = 6
Layers = list[nn.Module]


@dataclass(frozen=True)
class Architecture:
    """The properties in which the AlexNets differ."""

    features: Callable[[], Layers]
    batch_norm: bool = False
    sigmas: tuple[float, ...] | None = None
    """Standard deviation of each layer's initial weights; None: torch's default."""
    crop: int = 224
    """Side of the input in px."""

    @property
    def original(self) -> bool:
        """Whether dropout is placed and scaled as in 2012; torchvision's is one layer earlier."""
        return self.sigmas is not None


def _alexnet() -> Layers:
    return [
        nn.Conv2d(3, 64, 11, stride=4, padding=2), _relu(), _pool(),
        nn.Conv2d(64, 192, 5, padding=2), _relu(), _pool(),
        nn.Conv2d(192, 384, 3, padding=1), _relu(),
        nn.Conv2d(384, 256, 3, padding=1), _relu(),
        nn.Conv2d(256, 256, 3, padding=1), _relu(), _pool(),
    ]  # fmt: skip


def _alexnet2012() -> Layers:
    return [
        nn.ZeroPad2d((0, 3, 0, 3)),  # right and bottom: gives 55 positions for 224 px
        nn.Conv2d(3, 96, 11, stride=4), CrossMapNorm(96, columns=2), _pool(), _relu(),
        nn.Conv2d(96, 256, 5, padding=2, groups=2), _relu(),
        CrossMapNorm(256, columns=2), SpatialNorm(), _pool(),
        nn.Conv2d(256, 384, 3, padding=1), _relu(),
        nn.Conv2d(384, 384, 3, padding=1, groups=2), _relu(),
        nn.Conv2d(384, 256, 3, padding=1, groups=2), _pool(), _relu(),
    ]  # fmt: skip


def _alexnet2012_paper() -> Layers:
    return [nn.ZeroPad2d((0, 3, 0, 3)), *_paper_layers(columns=2, k=2.0)]


def _alexnet_caffe() -> Layers:
    return _paper_layers(columns=1, k=1.0)


def _paper_layers(columns: int, k: float) -> Layers:
    """The paper's order: convolution, ReLU, norm, pool."""
    return [
        nn.Conv2d(3, 96, 11, stride=4), _relu(), CrossMapNorm(96, columns, k=k), _pool(),
        nn.Conv2d(96, 256, 5, padding=2, groups=2), _relu(), CrossMapNorm(256, columns, k=k),
        _pool(),
        nn.Conv2d(256, 384, 3, padding=1), _relu(),
        nn.Conv2d(384, 384, 3, padding=1, groups=2), _relu(),
        nn.Conv2d(384, 256, 3, padding=1, groups=2), _relu(), _pool(),
    ]  # fmt: skip


def _relu() -> nn.ReLU:
    return nn.ReLU(inplace=True)


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, 2)


_PAPER = (0.01,) * 8
_CODE = (0.01, 0.01, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01)
_ONES = (1, 3, 4, 5, 6)  # layers whose biases start at 1 (section 5): conv2, conv4, conv5, fc6, fc7

ARCHITECTURES = {
    "alexnet": Architecture(_alexnet),
    "alexnet-bn": Architecture(_alexnet, batch_norm=True),
    "alexnet2012": Architecture(_alexnet2012, sigmas=_CODE),
    "alexnet2012-paper": Architecture(_alexnet2012_paper, sigmas=_PAPER),
    "alexnet-caffe": Architecture(_alexnet_caffe, sigmas=_PAPER, crop=227),
}


class AlexNet(nn.Module):
    """(N, 3, H, W) normalised pixels -> (N, classes) logits, for any H and W of at least 63 (in the
    networks of 2012 64, in Caffe's, which pads nothing, 67).

    With `dropout` 0 it is plain: the form that is exported, and that `to_plain` returns.
    """

    def __init__(self, classes: int = 1000, arch: str = "alexnet", *, dropout: float = 0.5):
        super().__init__()
        architecture = ARCHITECTURES[arch]
        self.arch = arch
        features, classifier = architecture.features(), _classifier(classes, arch, dropout)
        if architecture.batch_norm:
            features, classifier = _with_batch_norm(features), _with_batch_norm(classifier)
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d(POOLED)
        self.classifier = nn.Sequential(*classifier)
        if architecture.sigmas:
            for index, sigma in enumerate(architecture.sigmas):
                layer = self.layers[index]
                nn.init.normal_(layer.weight, std=sigma)
                nn.init.constant_(layer.bias, float(index in _ONES))  # type: ignore[arg-type]

    @property
    def layers(self) -> list[nn.Conv2d | nn.Linear]:
        """The eight layers with weights, in order."""
        return [m for m in self.modules() if isinstance(m, nn.Conv2d | nn.Linear)]

    @property
    def fully_connected(self) -> list[nn.Linear]:
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    @property
    def classes(self) -> int:
        return self.fully_connected[-1].out_features

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def _classifier(classes: int, arch: str, dropout: float) -> Layers:
    inputs = 256 * POOLED**2
    if ARCHITECTURES[arch].original:
        return [
            nn.Linear(inputs, HIDDEN), _relu(), UnscaledDropout(dropout),
            nn.Linear(HIDDEN, HIDDEN), _relu(), UnscaledDropout(dropout),
            nn.Linear(HIDDEN, classes),
        ]  # fmt: skip
    return [
        nn.Dropout(dropout), nn.Linear(inputs, HIDDEN), _relu(),
        nn.Dropout(dropout), nn.Linear(HIDDEN, HIDDEN), _relu(),
        nn.Linear(HIDDEN, classes),
    ]  # fmt: skip


def _with_batch_norm(layers: Layers) -> Layers:
    """Adds batch norm between each layer with weights and its ReLU; it replaces the bias."""
    normed: Layers = []
    for layer, following in zip(layers, [*layers[1:], None], strict=True):
        normed.append(layer)
        if isinstance(following, nn.ReLU):
            layer.register_parameter("bias", None)
            norm = nn.BatchNorm2d if isinstance(layer, nn.Conv2d) else nn.BatchNorm1d
            normed.append(norm(len(layer.weight)))  # type: ignore[arg-type]
    return normed


class Deployable(nn.Module):
    """The network as served: (N, H, W, 3) uint8 pixels -> (N, classes) float32 logits.

    `network` is an AlexNet or a column of one. `mean` and `std` are per channel on the 0-255 scale;
    they default to the project's own.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: tuple[float, ...] = (PIXEL_ZERO,) * 3,
        std: tuple[float, ...] = (PIXEL_SCALE,) * 3,
    ):
        super().__init__()
        self.network = network
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, pixels: Tensor) -> Tensor:
        x = (pixels.float() - self.mean) / self.std
        logits: Tensor = self.network(x.permute(0, 3, 1, 2))
        return logits.float()
