"""A trained network -> the plain one that computes the same function in evaluation mode."""

import torch
from torch import Tensor, nn

from training.layers import UnscaledDropout
from training.network import AlexNet

_Norm = nn.BatchNorm2d | nn.BatchNorm1d


@torch.no_grad()
def to_plain(network: AlexNet) -> AlexNet:
    """Folds batch norm into the weights before it and dropout's factor into those behind it.
    `alexnet-bn` becomes `alexnet`; the others keep their name."""
    modules = [*network.features, *network.classifier]
    keep = 1.0
    states: list[dict[str, Tensor]] = []
    for module, following in zip(modules, [*modules[1:], None], strict=True):
        if isinstance(module, UnscaledDropout):
            keep = 1 - module.p
        elif isinstance(module, nn.Conv2d | nn.Linear):
            weight, bias = module.weight * keep, module.bias
            states.append(
                _fold(weight, following)
                if isinstance(following, _Norm)
                else {"weight": weight, "bias": bias}  # type: ignore[dict-item]
            )
            keep = 1.0
    result = AlexNet(network.classes, network.arch.removesuffix("-bn"), dropout=0.0).eval()
    for layer, state in zip(result.layers, states, strict=True):
        layer.load_state_dict(state)
    return result


def _fold(weight: Tensor, norm: _Norm) -> dict[str, Tensor]:
    """y = gamma (Wx - mean) / sqrt(var + eps) + beta: W and bias are scaled per output."""
    state = norm.state_dict()
    scale = state["weight"] / torch.sqrt(state["running_var"] + norm.eps)
    return {
        "weight": weight * scale.reshape(-1, *[1] * (weight.dim() - 1)),
        "bias": state["bias"] - state["running_mean"] * scale,
    }
