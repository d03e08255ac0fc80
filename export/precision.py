"""The int8 graph: static, per output channel, every layer with weights in integer arithmetic.

Quantise / dequantise nodes are placed where ONNX Runtime and TensorRT fuse them. The pixels are the
first quantised tensor: (p - 128) / 64 is `DequantizeLinear(1/64, 128)`, so that normalisation is
free and exact; any other mean and std are folded into conv1. What a mean image adds to that is the
same for every photo, and is added to the output of conv1 as a map. The norms of 2012 run in float
between two roundings, as their squares do not fit into 8 bits.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from alexnet.spec import INPUT_NAME, PIXEL_SCALE, PIXEL_ZERO
from export.graph import Graph
from export.sequence import rounding_points, sequence
from export.to_onnx import array, walk
from training.importers import TrainedModel

BINS = 4096
MOST_BIAS = np.float32(2**30)
"""In steps: half of what 32 bits hold, as what rounding takes from the weights is added. More only
where a channel's weights are next to nothing beside its bias."""


@dataclass(frozen=True)
class Calibration:
    """What photos do inside of the network."""

    scales: tuple[float, ...]
    """At each rounding point: value = integer * scale."""
    means: tuple[Tensor, ...]
    """What each layer but the first takes, on the average: (1, maps, H, W) or (1, inputs)."""


@torch.inference_mode()
def calibrate(model: TrainedModel, crops: NDArray[np.uint8], batch: int = 32) -> Calibration:
    """Collects histograms of all activations on the crops; clips where the error is smallest.

    A ReLU behind its pooling is observed there, though the graph rounds before the pooling: values
    that the pooling drops reach no other layer.
    """
    points = rounding_points(model.network, image=model.image is not None)
    tops = [0.0] * len(points)
    counts = [torch.zeros(BINS) for _ in points]
    added = _added_map(model)

    def watch(index: int, counting: bool) -> None:
        def hook(module: nn.Module, _: object, output: Tensor) -> None:
            if added is not None and module is model.network.layers[0]:
                output = output - added  # in the graph it is added behind the rounding
            if counting:
                counts[index] += torch.histc(output.abs(), BINS, 0, tops[index])
            else:
                tops[index] = max(tops[index], output.abs().max().item(), 1e-6)

        handles.append(points[index].register_forward_hook(hook))

    later = model.network.layers[1:]
    sums: list[Tensor | float] = [0.0] * len(later)

    def add(index: int) -> None:
        def hook(module: nn.Module, inputs: tuple[Tensor]) -> None:
            sums[index] = sums[index] + inputs[0].sum(0, keepdim=True)

        handles.append(later[index].register_forward_pre_hook(hook))

    for counting in (False, True):  # first the range, then the histogram
        handles: list[torch.utils.hooks.RemovableHandle] = []
        if counting:
            for index in range(len(later)):
                add(index)
        for index in range(len(points)):
            watch(index, counting)
        for start in range(0, len(crops), batch):
            model.deployable(torch.from_numpy(crops[start : start + batch]))
        for handle in handles:
            handle.remove()
    return Calibration(
        tuple(
            _best_scale(c.numpy(), top, steps=255 - _zero_point(point))
            for c, top, point in zip(counts, tops, points, strict=True)
        ),
        tuple(torch.as_tensor(total) / len(crops) for total in sums),
    )


def _best_scale(counts: NDArray[np.float32], top: float, steps: int) -> float:
    """The scale of `steps` steps with the least squared error, for a histogram of 0..top."""
    values = (np.arange(BINS) + 0.5) * top / BINS
    scales = np.linspace(0.2, 1, 81) * top / steps

    def error(scale: float) -> float:
        quantised = np.minimum(np.round(values / scale), steps) * scale
        return float(np.sum(counts * (quantised - values) ** 2))

    return float(min(scales, key=error))


def _zero_point(point: nn.Module) -> int:
    """Only the output of a convolution without a ReLU has both signs."""
    return 128 if isinstance(point, nn.Conv2d) else 0


def to_int8(model: TrainedModel, side: int, calibration: Calibration) -> bytes:
    """The serialised int8 graph; raises ValueError as `walk` does."""
    graph = Graph(side, model.network.classes)
    points = rounding_points(model.network, image=model.image is not None)
    added = _added_map(model)
    pixel_scale = graph.scalar("pixel_scale", 1 / PIXEL_SCALE)
    pixel_zero = graph.scalar("pixel_zero", PIXEL_ZERO, np.uint8)
    x = graph.node("Transpose", INPUT_NAME, perm=[0, 3, 1, 2])
    x = graph.node("DequantizeLinear", x, pixel_scale, pixel_zero)
    input_scale = 1 / PIXEL_SCALE

    def parameters(index: int) -> tuple[str, str]:
        layer = model.network.layers[index]
        weight, bias = fold_normalisation(model) if index == 0 else _parameters(layer)
        least = np.abs(bias) / (MOST_BIAS * np.float32(input_scale))
        scale: NDArray[np.float32] = np.maximum(_per_output(weight), least)
        step = scale.reshape(-1, *[1] * (weight.ndim - 1))
        quantised = np.round(weight / step)
        w = _dequantise(graph, f"w{index}", quantised.astype(np.int8), scale)
        if index:  # the sums of the first are short
            rounded = quantised * step
            bias = bias + _lost(layer, weight - rounded, calibration.means[index - 1])
        b_scale = scale * np.float32(input_scale)
        b = _dequantise(graph, f"b{index}", np.round(bias / b_scale).astype(np.int32), b_scale)
        return w, b

    def round_output(module: nn.Module, x: str) -> str:
        nonlocal input_scale
        if module not in points:
            return x
        index = points.index(module)
        input_scale = calibration.scales[index]
        scale = graph.scalar(f"y{index}_scale", input_scale)
        zero = graph.scalar(f"y{index}_zero", _zero_point(module), np.uint8)
        x = graph.node("QuantizeLinear", x, scale, zero)
        x = graph.node("DequantizeLinear", x, scale, zero)
        if added is None or module is not model.network.layers[0]:
            return x
        return graph.node("Add", x, graph.constant("mean_map", array(added)))

    walk(graph, model.network, side, x, parameters, round_output)
    return graph.to_bytes()


@torch.inference_mode()
def _lost(
    layer: nn.Conv2d | nn.Linear, weight: NDArray[np.float32], mean: Tensor
) -> NDArray[np.float32]:
    """(outputs,): what this part of a layer's weights, which rounding takes away, gives on the
    average. It is much where training has moved very many weights by less than a step, all in one
    direction (https://arxiv.org/abs/1906.04721, section 4.2)."""
    part = {"weight": torch.from_numpy(weight), "bias": torch.zeros(len(weight))}
    output = functional_call(layer, part, mean)
    return array(output.flatten(2).mean((0, 2)) if output.ndim > 2 else output[0])


def _dequantise(graph: Graph, name: str, value: NDArray, scale: NDArray[np.float32]) -> str:
    """A constant stored as integers; axis 0 is the output channel."""
    stored, scales = graph.constant(f"{name}_q", value), graph.constant(f"{name}_scale", scale)
    zero = graph.constant(f"{name}_zero", np.zeros(len(scale), value.dtype))
    return graph.node("DequantizeLinear", stored, scales, zero, axis=0, name=name)


def _per_output(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """The symmetric scale of each output channel; for a channel of zeros an arbitrary one."""
    largest = np.abs(weight).reshape(len(weight), -1).max(1)
    return np.where(largest > 0, largest / 127, 1e-6).astype(np.float32)


def _parameters(layer: nn.Module) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return array(layer.weight), array(layer.bias)


def fold_normalisation(model: TrainedModel) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """conv1 rewritten to take (p - 128) / 64 instead of (p - mean) / std, channel by channel.

    (p - mean) / std = (p - 128) / 64 * (64 / std) + (128 - mean) / std. Exact but for the two or
    three pixels of padding, which become 128 instead of the mean (a difference of 4 to 24 grey
    levels with ImageNet's); exact everywhere when mean and std are 128 and 64, and with the map of
    a mean image, which knows of the padding.
    """
    weight, bias = _parameters(model.network.layers[0])
    _, std = np.array([model.mean, model.std], np.float32)
    return weight * (PIXEL_SCALE / std)[:, None, None], bias + _constant(model)


def _constant(model: TrainedModel) -> NDArray[np.float32]:
    """(maps,): conv1 of (128 - mean) / std, without its bias and away from the border."""
    mean, std = np.array([model.mean, model.std], np.float32)
    weight = array(model.network.layers[0].weight)
    return np.asarray((weight * ((PIXEL_ZERO - mean) / std)[:, None, None]).sum((1, 2, 3)))


@torch.inference_mode()
def _added_map(model: TrainedModel) -> Tensor | None:
    """(1, maps, H, W): what a mean image adds to the output of conv1 beyond `_constant`.

    conv1((p - image) / std) = conv1((p - 128) / std) + conv1((128 - image) / std), as it is linear;
    both are padded with 0, so this is exact at the border as well.
    """
    if model.image is None:
        return None
    x = ((PIXEL_ZERO - model.image) / torch.tensor(model.std)).permute(2, 0, 1)[None]
    modules, conv1 = sequence(model.network), model.network.layers[0]
    assert isinstance(conv1, nn.Conv2d)
    for padding in modules[: modules.index(conv1)]:
        x = padding(x)
    bias = -torch.from_numpy(_constant(model))
    return nn.functional.conv2d(x, conv1.weight, bias, conv1.stride, conv1.padding)
