"""The result of every importer: a plain network and its facts."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.labels import Labels
from alexnet.manifest import Calibration, Taught
from alexnet.spec import Geometry, Preprocess
from training.checkpoint import CheckpointError
from training.network import ARCHITECTURES, AlexNet, Deployable

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class TrainedModel:
    """A plain AlexNet in evaluation mode with its preprocessing, labels and facts."""

    network: AlexNet
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: Labels
    known: int
    """Number of classes that had training photos."""
    facts: dict[str, Any]
    sha256: str
    crop: int = 224
    """Side of the input in px."""
    geometry: Geometry = "centre"
    image: Tensor | None = None
    """(crop, crop, 3): a mean image, subtracted in place of the mean of each channel."""
    taught: Taught | None = None
    """None without a teacher."""
    calibration: Calibration | None = None
    """Of a bundle, whose last layer has the temperature in it."""

    @property
    def preprocess(self) -> Preprocess:
        """How a photo becomes what the network sees; another crop is the same view of it at another
        resolution, as in training."""
        own, usual = ARCHITECTURES[self.network.arch].crop, Preprocess()
        view = replace(usual, crop=own) if own > usual.crop else usual
        return replace(view.at(self.crop), geometry=self.geometry)

    @property
    def deployable(self) -> Deployable:
        mean = self.mean if self.image is None else self.image
        return Deployable(self.network, mean, self.std).eval()

    def predict(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, crop, crop, 3) -> (N, classes) logits, on the CPU."""
        with torch.inference_mode():
            logits: NDArray[np.float32] = self.deployable(torch.from_numpy(crops)).numpy()
        return logits


def imagenet_model(
    network: AlexNet,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    sha256: str,
    *,
    source: str,
    crop: int = 224,
    geometry: Geometry = "centre",
    image: Tensor | None = None,
) -> TrainedModel:
    """The model of `source`, another program, trained on ImageNet's 1000 classes.

    A mean `image`, as `central` returns it, takes the place of `mean`.
    """
    labels = Labels.imagenet()
    facts = {"lineage": [source], "commit": "unknown"}
    if image is not None:
        mean = channel_means(image)
    return TrainedModel(
        network.eval(), mean, std, labels, len(labels), facts, sha256, crop, geometry, image
    )


def channel_means(image: Tensor) -> tuple[float, float, float]:
    """Of a mean image, (side, side, 3) RGB."""
    red, green, blue = image.mean((0, 1)).tolist()
    return red, green, blue


def central(image: Tensor, crop: int, what: str) -> Tensor:
    """A mean image, (3, side, side) RGB -> what of it the central crop covers, (crop, crop, 3).

    Caffe and cuda-convnet round the corner down. Raises CheckpointError.
    """
    if image.min() < 0 or image.max() > 255:
        raise CheckpointError(f"{what} has values outside of 0 to 255")
    first = (image.shape[1] - crop) // 2
    return image[:, first : first + crop, first : first + crop].permute(1, 2, 0).contiguous()


@torch.no_grad()
def load_network(state: Mapping[str, Tensor], arch: str, classes: int, path: Path) -> AlexNet:
    """The plain `arch` with exactly this state; raises CheckpointError."""
    network = AlexNet(classes, arch, dropout=0.0).eval()
    wanted = network.state_dict()
    if missing := wanted.keys() - state.keys():
        raise CheckpointError(f"{path} is no {arch}: it has no {min(missing)}")
    if unknown := state.keys() - wanted.keys():
        raise CheckpointError(f"{path} is no {arch}, which has no {min(unknown)[:80]}")
    for name, tensor in wanted.items():
        tensor.copy_(to_float32(state[name], tensor.shape, f"{path}: {name}"))
    return network


def to_float32(values: Tensor, shape: tuple[int, ...], what: str) -> Tensor:
    """`values` in float32; raises CheckpointError unless they are finite and of this shape."""
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
    """One line of a parser's message, which may quote large parts of a damaged file."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:200]
