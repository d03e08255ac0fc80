"""What every importer gives: a plain network, and what is known about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alexnet.labels import Labels
from training.checkpoint import CheckpointError
from training.network import AlexNet, Deployable

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class Model:
    """A plain AlexNet in evaluation mode and what is known about it."""

    network: AlexNet
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: Labels
    known: int
    """Classes that it has seen photos of."""
    facts: dict[str, Any]
    sha256: str
    crop: int = 224
    """Side in px of what it looks at."""

    @property
    def deployable(self) -> Deployable:
        return Deployable(self.network, self.mean, self.std).eval()


def imported(
    network: AlexNet,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    sha256: str,
    *,
    source: str,
    crop: int = 224,
) -> Model:
    """Weights of `source`, another program, that has seen all of ImageNet's 1000 classes."""
    labels = Labels.imagenet()
    facts = {"lineage": [source], "commit": "unknown"}
    return Model(network.eval(), mean, std, labels, len(labels), facts, sha256, crop)


@torch.no_grad()
def network_of(state: Mapping[str, Tensor], arch: str, classes: int, path: Path) -> AlexNet:
    """The plain `arch` with this state, all of it and nothing else; raises CheckpointError."""
    network = AlexNet(classes, arch, dropout=0.0).eval()
    wanted = network.state_dict()
    if missing := wanted.keys() - state.keys():
        raise CheckpointError(f"{path} is no {arch}: it has no {min(missing)}")
    if unknown := state.keys() - wanted.keys():
        raise CheckpointError(f"{path} is no {arch}, which has no {min(unknown)[:80]}")
    for name, tensor in wanted.items():
        tensor.copy_(checked(state[name], tensor.shape, f"{path}: {name}"))
    return network


def checked(values: Tensor, shape: tuple[int, ...], what: str) -> Tensor:
    """`values` in float32; CheckpointError unless they are finite numbers of this shape."""
    if tuple(values.shape) != tuple(shape):
        raise CheckpointError(
            f"{what} has the shape {tuple(values.shape)}, expected {tuple(shape)}"
        )
    if values.dtype not in FLOATS:
        raise CheckpointError(f"{what} holds {values.dtype}, expected floating point numbers")
    values = values.float()
    if not torch.isfinite(values).all():
        raise CheckpointError(f"{what} has values that are not finite")
    return values


def reason(error: Exception) -> str:
    """What a parser complains of, in one line; on a damaged file it may quote half of it."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:200]
