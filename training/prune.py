"""Gradual magnitude pruning of the fully connected layers.

Nine tenths of AlexNet's weights are in fc6 and fc7, and most of them can be zero (Han et al.,
"Deep Compression", arXiv 1510.00149, table 4). Sparsity rises along a cubic (Zhu and Gupta,
arXiv 1710.01878), so that the network recovers while it still learns. Zeroed weights may grow again
until the next call, so there is no mask to keep or save.
"""

import torch

from training.network import AlexNet
from training.recipe import Recipe

INTERVAL = 10  # steps between two calls of `prune`
_SAMPLE = 1_000_000  # weights sampled for the threshold: sparsity is off by 0.05 % at most


def sparsity_at(done: float, recipe: Recipe) -> float:
    """The target sparsity after the fraction `done` of the run."""
    start, end = recipe.pruning
    if done >= end:
        return recipe.sparsity
    ramp = max(0.0, (done - start) / (end - start))
    return recipe.sparsity * (1 - (1 - ramp) ** 3)


@torch.no_grad()
def prune(network: AlexNet, sparsity: float) -> None:
    """Zeroes this fraction of the weights of each fully connected layer, the smallest first."""
    if sparsity == 0:
        return
    for layer in network.fully_connected:
        size = layer.weight.abs()
        sample = size.flatten()[:: max(1, size.numel() // _SAMPLE)]
        threshold = sample.kthvalue(max(1, round(sample.numel() * sparsity))).values
        layer.weight.masked_fill_(size <= threshold, 0)
