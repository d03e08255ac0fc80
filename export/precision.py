"""The int8 variant: static, per output channel, every layer in integer arithmetic.

Quantise / dequantise nodes are written where ONNX Runtime and TensorRT fuse them. The pixels
themselves are the first quantised tensor: (p - 128) / 64 *is* `DequantizeLinear(1/64, 128)`, so
normalisation costs nothing and is exact; any other mean and std are folded into conv1.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alexnet.spec import INPUT_NAME, PIXEL_SCALE, PIXEL_ZERO
from export.graph import Graph
from export.to_onnx import array, walk, weighted
from training.importers import Model

BINS = 4096


@dataclass(frozen=True)
class Calibration:
    """The scale of each layer's output after its ReLU: uint8 value times scale is the number."""

    scales: tuple[float, ...]


@torch.inference_mode()
def calibrate(model: Model, crops: NDArray[np.uint8], batch: int = 32) -> Calibration:
    """Looks at every activation that the crops cause, and clips where the error is smallest."""
    layers = model.network.layers[:-1]
    tops = [0.0] * len(layers)
    counts = [torch.zeros(BINS) for _ in layers]

    def watch(index: int, counting: bool) -> None:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            if counting:
                counts[index] += torch.histc(output.clamp(min=0), BINS, 0, tops[index])
            else:
                tops[index] = max(tops[index], output.max().item(), 1e-6)

        handles.append(layers[index].register_forward_hook(hook))

    for counting in (False, True):  # first the range, then what lies where in it
        handles: list[torch.utils.hooks.RemovableHandle] = []
        for index in range(len(layers)):
            watch(index, counting)
        for start in range(0, len(crops), batch):
            model.deployable(torch.from_numpy(crops[start : start + batch]))
        for handle in handles:
            handle.remove()
    scales = (_best_scale(c.numpy(), top) for c, top in zip(counts, tops, strict=True))
    return Calibration(tuple(scales))


def _best_scale(counts: NDArray[np.float32], top: float) -> float:
    """The uint8 scale with the least squared error over the histogram of 0..top."""
    values = (np.arange(BINS) + 0.5) * top / BINS
    scales = np.linspace(0.2, 1, 81) * top / 255

    def error(scale: float) -> float:
        quantised = np.minimum(np.round(values / scale), 255) * scale
        return float(np.sum(counts * (quantised - values) ** 2))

    return float(min(scales, key=error))


def to_int8(model: Model, side: int, calibration: Calibration) -> bytes:
    """The int8 graph."""
    graph = Graph(side, model.network.classes)
    zero = graph.scalar("zero", 0, np.uint8)
    pixel_scale = graph.scalar("pixel_scale", 1 / PIXEL_SCALE)
    pixel_zero = graph.scalar("pixel_zero", PIXEL_ZERO, np.uint8)
    x = graph.node("Transpose", INPUT_NAME, perm=[0, 3, 1, 2])
    x = graph.node("DequantizeLinear", x, pixel_scale, pixel_zero)
    input_scale = 1 / PIXEL_SCALE

    def draw(index: int, x: str) -> str:
        nonlocal input_scale
        layer = model.network.layers[index]
        weight, bias = _on_pixels(model) if index == 0 else _parameters(layer)
        scale = _per_output(weight)
        quantised = np.round(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
        w = _dequantised(graph, f"w{index}", quantised.astype(np.int8), scale)
        b_scale = scale * np.float32(input_scale)
        b = _dequantised(graph, f"b{index}", np.round(bias / b_scale).astype(np.int32), b_scale)
        last = index == len(calibration.scales)
        x = weighted(graph, layer, x, w, b, last=last)
        if last:
            return x
        input_scale = calibration.scales[index]
        y_scale = graph.scalar(f"y{index}_scale", input_scale)
        return graph.node(
            "DequantizeLinear", graph.node("QuantizeLinear", x, y_scale, zero), y_scale, zero
        )

    walk(graph, model.network, side, x, draw)
    return graph.to_bytes()


def _dequantised(graph: Graph, name: str, value: NDArray, scale: NDArray[np.float32]) -> str:
    """A constant stored as integers; axis 0 is the output channel."""
    stored, scales = graph.constant(f"{name}_q", value), graph.constant(f"{name}_scale", scale)
    zero = graph.constant(f"{name}_zero", np.zeros(len(scale), value.dtype))
    return graph.node("DequantizeLinear", stored, scales, zero, axis=0, name=name)


def _per_output(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Symmetric scale of each output channel; a channel of zeros gets one that changes nothing."""
    largest = np.abs(weight).reshape(len(weight), -1).max(1)
    return np.where(largest > 0, largest / 127, 1e-6).astype(np.float32)


def _parameters(layer: nn.Module) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return array(layer.weight), array(layer.bias)


def _on_pixels(model: Model) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """conv1 rewritten to take (p - 128) / 64 instead of (p - mean) / std, channel by channel.

    (p - mean) / std = (p - 128) / 64 * (64 / std) + (128 - mean) / std. Exact but for the two
    pixels of padding, which become 128 instead of the mean (a difference of 4 to 24 grey levels
    with ImageNet's); exact everywhere when mean and std are 128 and 64.
    """
    weight, bias = _parameters(model.network.layers[0])
    mean, std = np.array([model.mean, model.std], np.float32)
    bias = bias + (weight * ((PIXEL_ZERO - mean) / std)[:, None, None]).sum((1, 2, 3))
    return weight * (PIXEL_SCALE / std)[:, None, None], bias
