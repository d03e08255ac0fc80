"""The AlexNets, each written as the list of its layers.

`alexnet`            one tower (Krizhevsky, "One weird trick", arXiv 1404.5997), with torchvision's
                     names and shapes: 61,100,840 parameters for 1000 classes
`alexnet-bn`         the same with batch norm after every layer but the last; folds into `alexnet`
`alexnet-small`      the convolutions of `alexnet` for crops of 112 px, which leave 2 x 2 places and
                     not 6 x 6, and 2048 hidden units: 10,814,248 parameters, a fifth of the work
`alexnet-small-bn`   the same with batch norm
`alexnet2012`        two columns, as in the code of 2012 (its net 145): 60,965,224 parameters
`alexnet2012-paper`  the same weights in the paper's order (ReLU, norm, pool) and initialisation
`alexnet-caffe`      BVLC's reimplementation; only to import its weights

docs/training.md lists the differences between code and paper.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet.spec import PIXEL_SCALE, PIXEL_ZERO
from training.layers import CrossMapNorm, SpatialNorm, UnscaledDropout

HIDDEN = 4096
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
    pooled: int = 6
    """Side of the maps that the first fully connected layer takes."""
    slimmer: int = 1
    """The first two fully connected layers have 4096 outputs, divided by this."""

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
    "alexnet-small": Architecture(_alexnet, crop=112, pooled=2, slimmer=2),
    "alexnet-small-bn": Architecture(_alexnet, batch_norm=True, crop=112, pooled=2, slimmer=2),
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
        features, classifier = architecture.features(), _classifier(classes, architecture, dropout)
        if architecture.batch_norm:
            features, classifier = _with_batch_norm(features), _with_batch_norm(classifier)
        self.features = nn.Sequential(*features)
        self.pooled = architecture.pooled
        self.avgpool = nn.AdaptiveAvgPool2d(self.pooled)
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
        maps = self.features(x)
        height, width = maps.shape[-2:]
        if self.training and height == width < self.pooled and self.pooled % width == 0:
            return self._folded(maps)
        return self.classifier(torch.flatten(self.avgpool(maps), 1))

    def _folded(self, maps: Tensor) -> Tensor:
        """The same for small crops in training, with a ninth or a quarter of the first fully
        connected layer's work: pooling to 6 x 6 would repeat each of their 2 x 2 or 3 x 3 places,
        so the weights of its copies are added up instead. Dropout of n copies with equal weights
        has an n-th of the variance, so the place itself is dropped more seldom: as strong."""
        index, first = next(
            (i, layer) for i, layer in enumerate(self.classifier) if isinstance(layer, nn.Linear)
        )
        places = pooling(maps.shape[-1], self.pooled).to(maps.device)
        weight = first.weight.view(-1, self.pooled**2) @ places
        kept = F.dropout(maps.flatten(1), self._dropout_of_a_place(maps.shape[-1]))
        hidden = F.linear(kept, weight.view(len(first.weight), -1), first.bias)
        return self.classifier[index + 1 :](hidden)

    def _dropout_of_a_place(self, side: int) -> float:
        dropout = self.classifier[0]
        p = dropout.p if isinstance(dropout, nn.Dropout) else 0.0
        copies = (self.pooled // side) ** 2
        return p / (p + copies * (1 - p))


def pooling(side: int, pooled: int) -> Tensor:
    """The adaptive pooling of `side` x `side` places to `pooled` x `pooled`, as a matrix of as many
    columns and rows."""
    line = F.adaptive_avg_pool1d(torch.eye(side), pooled).T.contiguous()
    return torch.kron(line, line)


def _classifier(classes: int, architecture: Architecture, dropout: float) -> Layers:
    inputs, hidden = 256 * architecture.pooled**2, HIDDEN // architecture.slimmer
    if architecture.original:
        return [
            nn.Linear(inputs, hidden), _relu(), UnscaledDropout(dropout),
            nn.Linear(hidden, hidden), _relu(), UnscaledDropout(dropout),
            nn.Linear(hidden, classes),
        ]  # fmt: skip
    return [
        nn.Dropout(dropout), nn.Linear(inputs, hidden), _relu(),
        nn.Dropout(dropout), nn.Linear(hidden, hidden), _relu(),
        nn.Linear(hidden, classes),
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

    `network` is an AlexNet or a column of one. `mean` and `std` are per channel on the 0-255 scale,
    and default to the project's own; `mean` may be an image, (H, W, 3).
    """

    def __init__(
        self,
        network: nn.Module,
        mean: tuple[float, ...] | Tensor = (PIXEL_ZERO,) * 3,
        std: tuple[float, ...] = (PIXEL_SCALE,) * 3,
    ):
        super().__init__()
        self.network = network
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.as_tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, pixels: Tensor) -> Tensor:
        x = (pixels.float() - self.mean) / self.std
        logits: Tensor = self.network(x.permute(0, 3, 1, 2))
        return logits.float()
