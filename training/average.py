"""The moving average of the weights, which scores better than the weights of any one step while the
learning rate is high (Polyak and Juditsky 1992; in this form Tarvainen and Valpola 2017, arXiv
1703.01780, section 3)."""

import torch
from torch import nn


def decay_at(decay: float, step: int) -> float:
    """The weight of the average so far after `step` steps.

    Smaller at first: the first weights are random, and at 0.999 they would count for thousands of
    steps.
    """
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update(average: nn.Module, network: nn.Module, decay: float) -> None:
    """`average` becomes decay * average + (1 - decay) * network, batch norm's statistics too."""
    theirs = network.state_dict()
    for name, own in average.state_dict().items():
        if own.is_floating_point():
            own.lerp_(theirs[name], 1 - decay)
        else:
            own.copy_(theirs[name])
