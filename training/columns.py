"""The two columns of 2012 on two devices, as in the paper's figure 2.

Each process holds half of the maps and neurons. They exchange activations only where the paper's
columns are connected, before conv3, fc6 and fc7, and add up their halves of fc8's sum. Both process
the same photos, so one batch spreads over two devices; network and checkpoint are those of one.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from training.layers import CrossMapNorm, UnscaledDropout
from training.network import ARCHITECTURES, AlexNet
from training.ranks import Ranks

COLUMNS = 2
_CROSS = (2, 5, 6)  # conv3, fc6, fc7 see both columns
_LAST = 7  # fc8 sums over both


def _gather_columns(own: Tensor, axis: int) -> Tensor:
    """Both columns' shares of a tensor, concatenated along `axis`."""
    own = own.contiguous()
    parts = [torch.empty_like(own) for _ in range(COLUMNS)]
    dist.all_gather(parts, own)
    return torch.cat(parts, axis)


class _Gather(torch.autograd.Function):
    """Own maps -> the maps of both columns; backwards, the sum of both columns' gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rank: int) -> Tensor:
        ctx.rank, ctx.width = rank, x.shape[1]
        return _gather_columns(x, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient)
        return gradient.narrow(1, ctx.rank * ctx.width, ctx.width), None


class _Sum(torch.autograd.Function):
    """The sum of both columns' shares; backwards, the identity: both have the same gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class Column(nn.Module):
    """One column of `network`: (N, 3, 224, 224) -> (N, classes), the logits of both columns."""

    def __init__(self, network: AlexNet, ranks: Ranks):
        super().__init__()
        if ranks.count != COLUMNS:
            raise ValueError(f"columns need {COLUMNS} processes; this run has {ranks.count}")
        if not ARCHITECTURES[network.arch].original:
            raise ValueError(f"{network.arch} has no columns; alexnet2012 has")
        self.rank = ranks.rank
        self.features = nn.Sequential(*(self._half(m) for m in network.features))
        self.classifier = nn.Sequential(*(self._half(m) for m in network.classifier))
        full = dict(network.named_parameters())
        for name, parameter in list(self.named_parameters()):
            parameter.data = self.part(name, full[name].data)

    @property
    def layers(self) -> list[nn.Conv2d | nn.Linear]:
        return [m for m in self.modules() if isinstance(m, nn.Conv2d | nn.Linear)]

    def forward(self, x: Tensor) -> Tensor:
        index = 0
        for module in self.features:
            x, index = self._step(module, x, index)
        x = torch.flatten(x, 1)
        for module in self.classifier:
            x, index = self._step(module, x, index)
        return x

    def _step(self, module: nn.Module, x: Tensor, index: int) -> tuple[Tensor, int]:
        if not isinstance(module, nn.Conv2d | nn.Linear):
            return module(x), index
        if index in _CROSS:
            x = _Gather.apply(x, self.rank)
        if index == _LAST:
            return _Sum.apply(nn.functional.linear(x, module.weight)) + module.bias, index + 1
        return module(x), index + 1

    def part(self, name: str, tensor: Tensor) -> Tensor:
        """This column's share of a parameter of the whole network, or of its momentum."""
        axis = self._axis(name)
        if axis is None:
            return tensor.clone()
        return tensor.chunk(COLUMNS, axis)[self.rank].clone()

    def whole(self, name: str, tensor: Tensor) -> Tensor:
        """The parameter of the whole network, from both columns' shares of it."""
        axis = self._axis(name)
        if axis is None:
            return tensor
        return _gather_columns(tensor, axis)

    def _axis(self, name: str) -> int | None:
        """The axis to split: outputs; for fc8 the inputs, and for its bias none."""
        last = f"classifier.{len(self.classifier) - 1}."
        if not name.startswith(last):
            return 0
        return 1 if name.endswith("weight") else None

    def _half(self, module: nn.Module) -> nn.Module:
        if isinstance(module, nn.Conv2d):
            size, stride, padding = module.kernel_size[0], module.stride[0], module.padding[0]
            inputs = module.in_channels // module.groups  # with groups: those of one column
            return nn.Conv2d(inputs, module.out_channels // 2, size, stride, padding)
        if isinstance(module, nn.Linear):
            return nn.Linear(1, 1)  # the real shape comes with the weights
        if isinstance(module, CrossMapNorm):
            return CrossMapNorm(
                len(module.band) // 2, size=module.size, alpha=module.alpha, k=module.k
            )
        if isinstance(module, UnscaledDropout):
            half = UnscaledDropout(module.p)
            half.column, half.columns = self.rank, COLUMNS
            return half
        return module
