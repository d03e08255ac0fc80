"""A plain network -> one with batch norm that computes the same: the way back from `to_plain`.

Trained weights, of which only the plain form is left, can so go on learning at the rates that batch
norm allows.
"""

import torch
from torch import Tensor, nn

from training.network import AlexNet

_Norm = nn.BatchNorm2d | nn.BatchNorm1d


@torch.no_grad()
def to_normed(plain: AlexNet, x: Tensor) -> AlexNet:
    """`x` (N, 3, H, W) are photos as the network sees them, some hundred: each norm takes mean and
    variance from them, and puts both back as its beta and gamma."""
    result = AlexNet(plain.classes, f"{plain.arch}-bn", dropout=0.0).eval()
    layers = iter(plain.layers)
    bias: Tensor | None = None
    for module in [*result.features, None, *result.classifier]:
        if isinstance(module, nn.Conv2d | nn.Linear):
            layer = next(layers)
            module.weight.copy_(layer.weight)
            bias = layer.bias
            if module.bias is not None and bias is not None:
                module.bias.copy_(bias)
        elif isinstance(module, _Norm) and bias is not None:
            variance, mean = torch.var_mean(x, [0, *range(2, x.dim())], correction=0)
            module.running_mean = mean
            module.running_var = variance
            module.weight.copy_((variance + module.eps).sqrt())
            module.bias.copy_(mean + bias)
        x = torch.flatten(result.avgpool(x), 1) if module is None else module(x)
    return result
