"""Weights from a file -> a plain network that can be exported, with the facts that came along."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alexnet.bundle import sha256
from alexnet.labels import Labels
from training.checkpoint import Checkpoint, CheckpointError
from training.network import AlexNet, Deployable

# What torchvision's weights were trained with, on the 0-255 scale.
IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


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

    @property
    def deployable(self) -> Deployable:
        return Deployable(self.network, self.mean, self.std).eval()


def load_model(path: Path) -> Model:
    """Our `.safetensors` or a torchvision state dict (`.pth`); raises CheckpointError."""
    if path.suffix in (".pth", ".pt"):
        return _torchvision(path)
    checkpoint = Checkpoint.load(path)
    facts = checkpoint.facts
    if facts.get("arch") != "alexnet":
        raise CheckpointError(f"{path} is not a finished model: export takes model.safetensors")
    network = _network(checkpoint.part("network"), path)
    mean, std = tuple(facts["mean"]), tuple(facts["std"])
    labels = Labels.from_tsv(facts["labels"])
    digest = sha256(path.read_bytes())
    return Model(network, mean, std, labels, len(facts["known"]), facts, digest)


def _torchvision(path: Path) -> Model:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"there are no weights at {path}") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        # weights_only refuses any pickle that would run code
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path} is no file of plain weights: {reason}") from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path} is no state dict: expected names and tensors")
    network = _network(state, path)
    if network.classes != 1000:
        raise CheckpointError(f"{path} has {network.classes} classes; ImageNet has 1000")
    facts = {"lineage": ["torchvision"], "commit": "unknown"}
    labels = Labels.imagenet()
    digest = sha256(path.read_bytes())
    return Model(network, IMAGENET_MEAN, IMAGENET_STD, labels, len(labels), facts, digest)


def _network(state: dict[str, Tensor], path: Path) -> AlexNet:
    head = state.get("classifier.6.weight")
    if head is None:
        raise CheckpointError(f"{path} is no AlexNet: it has no classifier.6.weight")
    network = AlexNet(head.shape[0])
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path} is no AlexNet: {error}") from None
    if not all(torch.isfinite(p).all() for p in network.parameters()):
        raise CheckpointError(f"{path} has weights that are not finite")
    return network.eval()
