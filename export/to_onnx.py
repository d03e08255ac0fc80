"""A plain AlexNet -> ONNX in float32.

Written node by node: twenty nodes that a person can read, the same on every version of torch, and
the same walk (`walk`) that the int8 graph takes with its own way of drawing each layer.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import nn

from alexnet.spec import INPUT_NAME, OUTPUT_NAME
from export.graph import Graph
from training.importers import Model
from training.network import CONVOLUTIONS, POOLED, AlexNet

Draw = Callable[[int, str], str]


def to_onnx(model: Model, side: int) -> bytes:
    """The float32 graph, with the normalisation as its first two operations."""
    graph = Graph(side, model.network.classes)
    pixels = graph.node("Cast", INPUT_NAME, to=1)
    pixels = graph.node("Sub", pixels, graph.constant("mean", np.array(model.mean, np.float32)))
    pixels = graph.node("Div", pixels, graph.constant("std", np.array(model.std, np.float32)))
    x = graph.node("Transpose", pixels, perm=[0, 3, 1, 2])

    def draw(index: int, x: str) -> str:
        layer = model.network.layers[index]
        weight = graph.constant(f"w{index}", array(layer.weight))
        assert layer.bias is not None
        bias = graph.constant(f"b{index}", array(layer.bias))
        return weighted(graph, layer, x, weight, bias, last=index == len(CONVOLUTIONS) + 2)

    walk(graph, model.network, side, x, draw)
    return graph.to_bytes()


def walk(graph: Graph, network: AlexNet, side: int, x: str, draw: Draw) -> None:
    """The network from its NCHW input to `logits`; `draw` adds layer `index` and its ReLU."""
    for index, (_, kernel, stride, padding, pooled) in enumerate(CONVOLUTIONS):
        x = draw(index, x)
        side = (side + 2 * padding - kernel) // stride + 1
        if pooled:
            x = graph.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
            side = (side - 3) // 2 + 1
    if side != POOLED:
        raise ValueError(
            f"the crop leaves a {side} x {side} map before fc6 where AlexNet has "
            f"{POOLED} x {POOLED}: export at 224 px"
        )
    # Reshape, not Flatten: ONNX Runtime moves int8 through the former only, and fc6 is the largest
    flat = graph.constant("flat", np.array([-1, CONVOLUTIONS[-1][0] * POOLED**2], np.int64))
    x = graph.node("Reshape", x, flat)
    for index in range(len(CONVOLUTIONS), len(network.layers)):
        x = draw(index, x)


def weighted(
    graph: Graph, layer: nn.Conv2d | nn.Linear, x: str, weight: str, bias: str, *, last: bool
) -> str:
    """The convolution or matrix product and, but for the last layer, its ReLU."""
    if isinstance(layer, nn.Conv2d):
        pads = (*layer.padding, *layer.padding)
        x = graph.node("Conv", x, weight, bias, strides=layer.stride, pads=pads)
    else:
        x = graph.node("Gemm", x, weight, bias, transB=1, name=OUTPUT_NAME if last else "")
    return x if last else graph.node("Relu", x)


def array(tensor: object) -> NDArray[np.float32]:
    return tensor.detach().cpu().float().numpy()  # type: ignore[attr-defined]
