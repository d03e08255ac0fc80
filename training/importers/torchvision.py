"""torchvision's `alexnet`: a state dict as `.pth`, or its tensors as `.safetensors`.

The number of classes is free, and a training script may have wrapped the dict: in `state_dict`, in
`model`, or with `module.` before every name.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from alexnet.bundle import sha256
from training.checkpoint import CheckpointError
from training.importers.base import TrainedModel, load_network, reason
from training.importers.class_names import class_names
from training.importers.rehearsal import rehearse

# The normalisation of torchvision's weights, on the 0-255 scale.
IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
HEAD = "classifier.6.weight"
MOST_CLASSES = 100_000
_WRAPPERS = ("state_dict", "model_state_dict", "model", "model_state", "net")
_PREFIXES = ("module.", "_orig_mod.", "model.")


def recognises(path: Path) -> bool:
    """Whether this is a safetensors file that another program wrote."""
    try:
        with safe_open(path, "pt") as file:
            return "alexnet" not in (file.metadata() or {})
    except SafetensorError:
        return False


def load_safetensors(path: Path, names: Path | None = None) -> TrainedModel:
    """`names` is a file of class names; without it they are ImageNet's 1000, or numbered."""
    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is no file of plain weights: {reason(error)}") from None
    return _model(state, path, names)


def load_pickled(path: Path, names: Path | None = None) -> TrainedModel:
    """As `load_safetensors`."""
    try:
        rehearse(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # weights_only refuses pickles that would run code; a damaged one can raise almost anything.
        raise CheckpointError(f"{path} is no file of plain weights: {reason(error)}") from None
    state = _unwrapped(state)
    if not isinstance(state, dict) or not all(_is_plain(*entry) for entry in state.items()):
        raise CheckpointError(f"{path} is no state dict: expected names and tensors")
    return _model(state, path, names)


def _unwrapped(content: Any) -> Any:
    """The state dict in what a training script saved around it."""
    for _ in _WRAPPERS:  # one inside the other, at most
        inner = [content[k] for k in _WRAPPERS if isinstance(content, dict) and k in content]
        dicts = [value for value in inner if isinstance(value, dict)]
        if not dicts:
            break
        content = dicts[0]
    return content


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _is_plain(name: object, value: object) -> bool:
    """Whether it is a name and a dense CPU tensor: the values of others cannot be checked."""
    return (
        isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_nested
    )


def _model(state: dict[str, Tensor], path: Path, names: Path | None) -> TrainedModel:
    state = _without_prefix(state)
    head = state.get(HEAD)
    classes = len(head) if head is not None and head.dim() == 2 else 1000
    if not 0 < classes <= MOST_CLASSES:
        raise CheckpointError(f"{path} has {classes} classes; expected 1 to {MOST_CLASSES:,}")
    labels = class_names(classes, names)
    network = load_network(state, "alexnet", classes, path)
    digest = sha256(path.read_bytes())
    return TrainedModel(
        network, IMAGENET_MEAN, IMAGENET_STD, labels, classes,
        {"lineage": ["torchvision"], "commit": "unknown"}, digest, geometry="torchvision",
    )  # fmt: skip
