"""The one-tower AlexNet, as torchvision has it, with batch norm as a training aid.

`alexnet` is Krizhevsky's "One weird trick" network (arXiv 1404.5997): 61,100,840 parameters for
1000 classes, parameter names and shapes as in torchvision's state dict. `alexnet-bn` adds batch
norm after every layer but the last; `fold_batch_norm` turns it into a plain `alexnet` that
computes the same function.
"""

import torch
from torch import Tensor, nn

from alexnet.spec import PIXEL_SCALE, PIXEL_ZERO

# (output channels, kernel, stride, padding, followed by a max-pool 3/2)
CONVOLUTIONS = (
    (64, 11, 4, 2, True),
    (192, 5, 1, 2, True),
    (384, 3, 1, 1, False),
    (256, 3, 1, 1, False),
    (256, 3, 1, 1, True),
)
HIDDEN = 4096
POOLED = 6


class AlexNet(nn.Module):
    """(N, 3, H, W) normalised pixels -> (N, classes) logits, for any H and W of at least 63."""

    def __init__(self, classes: int = 1000, *, batch_norm: bool = False, dropout: float = 0.5):
        super().__init__()
        self.batch_norm = batch_norm
        self.features = nn.Sequential(*_convolutions(batch_norm))
        self.avgpool = nn.AdaptiveAvgPool2d(POOLED)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            *_hidden(CONVOLUTIONS[-1][0] * POOLED**2, batch_norm),
            nn.Dropout(dropout),
            *_hidden(HIDDEN, batch_norm),
            nn.Linear(HIDDEN, classes),
        )

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


def _convolutions(batch_norm: bool) -> list[nn.Module]:
    modules: list[nn.Module] = []
    channels = 3
    for out, kernel, stride, padding, pooled in CONVOLUTIONS:
        modules.append(nn.Conv2d(channels, out, kernel, stride, padding, bias=not batch_norm))
        if batch_norm:
            modules.append(nn.BatchNorm2d(out))
        modules.append(nn.ReLU(inplace=True))
        if pooled:
            modules.append(nn.MaxPool2d(3, 2))
        channels = out
    return modules


def _hidden(inputs: int, batch_norm: bool) -> list[nn.Module]:
    linear = nn.Linear(inputs, HIDDEN, bias=not batch_norm)
    return [linear, *([nn.BatchNorm1d(HIDDEN)] if batch_norm else []), nn.ReLU(inplace=True)]


def fold_batch_norm(network: AlexNet) -> AlexNet:
    """The plain network that computes what `network` computes in evaluation mode.

    y = gamma (Wx - mean) / sqrt(var + eps) + beta, so W and the bias take the scale per output.
    """
    if not network.batch_norm:
        return network
    plain = AlexNet(network.classes).eval()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d)]
    with torch.no_grad():
        for layer, norm, target in zip(network.layers, norms, plain.layers, strict=False):
            state = norm.state_dict()
            scale = state["weight"] / torch.sqrt(state["running_var"] + norm.eps)
            weight = layer.weight * scale.reshape(-1, *[1] * (layer.weight.dim() - 1))
            bias = state["bias"] - state["running_mean"] * scale
            target.load_state_dict({"weight": weight, "bias": bias})
        plain.layers[-1].load_state_dict(network.layers[-1].state_dict())
    return plain


class Deployable(nn.Module):
    """The network as it is served: (N, H, W, 3) uint8 pixels -> (N, classes) float32 logits.

    `mean` and `std` are per channel on the 0-255 scale; they default to the project's own.
    """

    def __init__(
        self,
        network: AlexNet,
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
        return self.network(x.permute(0, 3, 1, 2)).float()
