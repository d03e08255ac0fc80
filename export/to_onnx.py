"""A plain AlexNet -> ONNX in float32.

Written node by node: readable graphs, equal for every version of torch. The int8 graph is built by
the same `walk`, with its own weights and with rounding between the layers.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import nn

from alexnet.spec import INPUT_NAME, OUTPUT_NAME
from export.graph import Graph
from export.norms import cross_map_norm, spatial_norm
from export.sequence import sequence
from training.importers import TrainedModel
from training.layers import CrossMapNorm, SpatialNorm
from training.network import AlexNet

Parameters = Callable[[int], tuple[str, str]]
"""Index of a layer, 0 to 7 -> adds weight and bias to the graph, returns their names."""
OutputHook = Callable[[nn.Module, str], str]
"""A module and the name of its output -> the name of the next module's input."""


def to_onnx(model: TrainedModel, side: int) -> bytes:
    """The float32 graph, with the normalisation as its first two operations.

    The mean is subtracted per channel, or as an image.
    """
    graph = Graph(side, model.network.classes)
    pixels = graph.node("Cast", INPUT_NAME, to=1)
    pixels = graph.node("Sub", pixels, graph.constant("mean", array(model.deployable.mean)))
    pixels = graph.node("Div", pixels, graph.constant("std", np.array(model.std, np.float32)))
    x = graph.node("Transpose", pixels, perm=[0, 3, 1, 2])

    def parameters(index: int) -> tuple[str, str]:
        layer = model.network.layers[index]
        weight = graph.constant(f"w{index}", array(layer.weight))
        assert layer.bias is not None
        return weight, graph.constant(f"b{index}", array(layer.bias))

    walk(graph, model.network, side, x, parameters, lambda _, x: x)
    return graph.to_bytes()


def walk(
    graph: Graph, network: AlexNet, side: int, x: str, parameters: Parameters, hook: OutputHook
) -> None:
    """Adds the network to the graph, from its NCHW input `x`, `side` px square, to `logits`.

    Raises ValueError if the maps before fc6 do not have the size that its weights need.
    """
    index = 0
    border = (0, 0, 0, 0)  # left, right, top, bottom: zeros to add to the next layer's padding
    for module in sequence(network):
        match module:
            case nn.ZeroPad2d():
                border = module.padding
            case nn.Conv2d():
                assert not isinstance(module.padding, str)  # torch also takes names
                left, right, top, bottom = border
                down, across = module.padding
                pads = (top + down, left + across, bottom + down, right + across)
                x = graph.node(
                    "Conv", x, *parameters(index),
                    strides=module.stride, pads=pads, group=module.groups,
                )  # fmt: skip
                side = (side + pads[0] + pads[2] - module.kernel_size[0]) // module.stride[0] + 1
                index, border = index + 1, (0, 0, 0, 0)
            case nn.ReLU():
                x = graph.node("Relu", x)
            case nn.MaxPool2d():
                x = graph.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
                side = (side - 3) // 2 + 1
            case CrossMapNorm():
                x = cross_map_norm(graph, module, x, index)
            case SpatialNorm():
                x = spatial_norm(graph, module, x, index)
            case nn.AdaptiveAvgPool2d():
                _check(side, network)
            case nn.Flatten():
                # Not ONNX's Flatten: ONNX Runtime moves int8 through Reshape only, and fc6 is the
                # largest layer
                shape = np.array([-1, network.fully_connected[0].in_features], np.int64)
                x = graph.node("Reshape", x, graph.constant("flat", shape))
            case nn.Linear():
                index += 1
                name = OUTPUT_NAME if index == len(network.layers) else ""
                x = graph.node("Gemm", x, *parameters(index - 1), transB=1, name=name)
            case _:
                raise AssertionError(f"{type(module).__name__} in what should be a plain network")
        x = hook(module, x)


def _check(side: int, network: AlexNet) -> None:
    """The adaptive pooling, which is not exported, must be the identity."""
    wanted = network.avgpool.output_size
    if side != wanted:
        raise ValueError(
            f"the crop leaves a {side} x {side} map before fc6, which takes {wanted} x {wanted}: "
            "fold the network for that crop"
        )


def array(tensor: object) -> NDArray[np.float32]:
    return tensor.detach().cpu().float().numpy()  # type: ignore[attr-defined]
