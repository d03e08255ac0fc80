"""torchvision's `alexnet`: a state dict as `.pth`, or its tensors as `.safetensors`."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from alexnet.bundle import sha256
from training.checkpoint import CheckpointError
from training.importers.base import TrainedModel, imagenet_model, load_network, reason

# The normalisation of torchvision's weights, on the 0-255 scale.
IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
HEAD = "classifier.6.weight"


def recognises(path: Path) -> bool:
    """Whether this is a safetensors file that another program wrote."""
    try:
        with safe_open(path, "pt") as file:
            return "alexnet" not in (file.metadata() or {})
    except SafetensorError:
        return False


def load_safetensors(path: Path) -> TrainedModel:
    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is no file of plain weights: {reason(error)}") from None
    return _model(state, path)


def load_pickled(path: Path) -> TrainedModel:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # weights_only refuses pickles that would run code; a damaged one can raise almost anything.
        raise CheckpointError(f"{path} is no file of plain weights: {reason(error)}") from None
    if not isinstance(state, dict) or not all(_is_plain(*entry) for entry in state.items()):
        raise CheckpointError(f"{path} is no state dict: expected names and tensors")
    return _model(state, path)


def _is_plain(name: object, value: object) -> bool:
    """Whether it is a name and a dense CPU tensor: the values of others cannot be checked."""
    return (
        isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_nested
    )


def _model(state: dict[str, Tensor], path: Path) -> TrainedModel:
    head = state.get(HEAD)
    if head is not None and head.dim() == 2 and len(head) != 1000:
        raise CheckpointError(f"{path} has {len(head)} classes; ImageNet has 1000")
    network = load_network(state, "alexnet", 1000, path)
    digest = sha256(path.read_bytes())
    return imagenet_model(network, IMAGENET_MEAN, IMAGENET_STD, digest, source="torchvision")
