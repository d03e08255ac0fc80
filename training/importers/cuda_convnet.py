"""The checkpoints of 2012: the layers of net 145, in two columns.

    name       inputs of a column           matrices
    conv1-5    pixels; its own column, but  (channels * k * k, filters) for each input
               both of them in conv3
    fc...      both columns                 (inputs, outputs) for each input, in any memory order

Matrices have the order of the layer's list of inputs, in which b may come before a. At test the
code halves the outputs of fc6 and fc7, since dropout scaled nothing in training; here the weights
behind them are halved instead.

The mean is an image in the `batches.meta` of the photos, which is no part of a checkpoint; without
it each channel has one mean.

Net 145 is recognised by its layers with weights. Nets of the time that differ only in other layers,
such as 148, which has no norms, cannot be distinguished from it.
"""

import math
from pathlib import Path

import torch
from torch import Tensor

from alexnet.bundle import sha256
from alexnet.labels import Labels
from training.checkpoint import CheckpointError
from training.importers import convnet_file
from training.importers.array_pickle import PickledArray
from training.importers.base import TrainedModel, central, imagenet_model, to_float32
from training.importers.class_order import class_order
from training.importers.convnet_file import Layer
from training.network import ARCHITECTURES, AlexNet

# For each of our layers its columns, and the number of inputs of each column.
COLUMNS = (
    (("conv1a", "conv1b"), 1),
    (("conv2a", "conv2b"), 1),
    (("conv3a", "conv3b"), 2),
    (("conv4a", "conv4b"), 1),
    (("conv5a", "conv5b"), 1),
    (("fc2048a", "fc2048b"), 2),
    (("fc2048ba", "fc2048bb"), 2),
    (("fc1000",), 2),
)
MEAN = (127.226, 118.587, 103.448)  # RGB: the mean image, averaged
STD = (1.0, 1.0, 1.0)
SIDE = 256  # px: of the mean image


@torch.no_grad()
def load(path: Path, classes: Path | None, mean: Path | None = None) -> TrainedModel:
    """`path` is the file or its folder; `classes` and `mean` as in load_model."""
    file = convnet_file.newest(path) if path.is_dir() else path
    if classes is None:
        raise CheckpointError(
            f"the order of the classes in {file} is unknown: give a text file with one synset a "
            "line in the order of its outputs as --class-order FILE"
        )
    order = class_order(classes, Labels.imagenet())
    data = file.read_bytes()
    layers = convnet_file.read(data, file)
    network = AlexNet(len(order), "alexnet2012", dropout=0.0)
    for (columns, inputs), layer in zip(COLUMNS, network.layers, strict=True):
        assert layer.bias is not None
        outputs, channels, *kernel = layer.weight.shape
        shape = (outputs // len(columns), channels // inputs, *kernel)
        parts = [_column(layers, name, inputs, shape, file) for name in columns]
        layer.weight.copy_(torch.cat([weight for weight, _ in parts]))
        layer.bias.copy_(torch.cat([bias for _, bias in parts]))
    for behind_dropout in network.fully_connected[1:]:
        behind_dropout.weight.mul_(0.5)
    head = network.fully_connected[-1]
    for parameter in (head.weight, head.bias):
        parameter.copy_(parameter[order])
    crop = ARCHITECTURES[network.arch].crop
    image = None if mean is None else central(_mean_image(mean), crop, str(mean))
    return imagenet_model(
        network, MEAN, STD, sha256(data), source="cuda-convnet", crop=crop, image=image
    )


def _mean_image(path: Path) -> Tensor:
    """(3, SIDE, SIDE), RGB."""
    what = f"{path}: data_mean"
    values = _numbers(convnet_file.read_mean(path), what).flatten()
    return to_float32(values, (3 * SIDE**2,), what).reshape(3, SIDE, SIDE)


def _column(
    layers: dict[str, Layer], name: str, inputs: int, shape: tuple[int, ...], file: Path
) -> tuple[Tensor, Tensor]:
    """The weights of one column, inputs sorted by name, and its biases.

    `shape` is torch's, (filters, channels, k, k) or (outputs, inputs), for a single input.
    """
    what = f"{file}: {name}"
    if name not in layers:
        raise CheckpointError(f"{file} is not of net 145: it has no layer {name}")
    layer = layers[name]
    names, weights = layer["inputs"], layer.get("weights")
    if not isinstance(weights, list) or not len(weights) == len(names) == inputs:
        raise CheckpointError(f"{what} is not of net 145, where it has {inputs} weight matrices")
    if not all(isinstance(i, str) for i in names) or len(set(names)) != inputs:
        raise CheckpointError(f"{what} has inputs that cannot be told apart")
    filters = shape[0]
    matrix = (math.prod(shape[1:]), filters)
    parts = []
    for i, weight in sorted(zip(names, weights, strict=True), key=lambda pair: pair[0]):
        its = f"{what}, the matrix of {i[:40]}"
        values = to_float32(_numbers(weight, its), matrix, its)
        parts.append(values.reshape(*shape[1:], filters).movedim(-1, 0))
    bias = _numbers(layer.get("biases"), f"{what}, its bias").flatten()
    return torch.cat(parts, 1), to_float32(bias, (filters,), f"{what}, its bias")


def _numbers(array: object, what: str) -> Tensor:
    if not isinstance(array, PickledArray):
        raise CheckpointError(f"{what} is no array")
    try:
        return torch.from_numpy(array.numpy())
    except ValueError as error:
        raise CheckpointError(f"{what} {error}") from None
