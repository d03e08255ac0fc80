"""The layers of an AlexNet, found in the graph that is served: fp32, or int8 with its scales."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.engines.onnx_file import Node, OnnxFile

_MOVES = ("Relu", "QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Layer:
    """A convolution, or a fully connected layer, and what comes right behind it."""

    node: Node
    stored: NDArray[Any]
    """Its weights as they are in the file: (outputs, ...)."""
    scale: NDArray[np.float32] | None
    """(outputs,): a weight is stored * scale. None: they are in float."""
    active: str
    """The tensor that has its output behind the ReLU: in int8 the integers, whose zero is 0. Empty
    without a ReLU."""
    following: Sequence[Node]
    """Down to the next layer."""

    @property
    def is_convolution(self) -> bool:
        return self.node.op == "Conv"

    def rows(self, chosen: Any) -> NDArray[np.float32]:
        """The weights of some outputs."""
        rows: NDArray[np.float32] = self.stored[chosen].astype(np.float32)
        if self.scale is not None:
            rows *= self.scale[chosen].reshape(-1, *[1] * (rows.ndim - 1))
        return rows


class Layers:
    """Of a graph, in order; `all` is empty where it is no chain of layers whose weights can be
    read."""

    def __init__(self, file: OnnxFile):
        self._makers = {node.output: node for node in file.nodes}
        self._constants = file.constants
        chain = [n for n in file.nodes if not self._is_constant(n.output)]
        starts = [i for i, node in enumerate(chain) if node.op in ("Conv", "Gemm")]
        parts = [chain[a:b] for a, b in pairwise([*starts, len(chain)])]
        layers = [self._layer(node, following) for node, *following in parts]
        known = [layer for layer in layers if layer]
        self.all: tuple[Layer, ...] = tuple(known) if len(known) == len(layers) else ()

    @cached_property
    def convolutions(self) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.all if layer.is_convolution)

    @cached_property
    def connected(self) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.all if not layer.is_convolution)

    def _is_constant(self, name: str) -> bool:
        """Stored, or made of what is."""
        if name in self._constants:
            return True
        maker = self._makers.get(name)
        if not maker or maker.op != "DequantizeLinear":
            return False
        return bool(maker.inputs) and maker.inputs[0] in self._constants

    def _layer(self, node: Node, following: Sequence[Node]) -> Layer | None:
        weight, scale = node.inputs[1] if node.inputs[1:] else "", None
        if (maker := self._makers.get(weight)) and len(maker.inputs) > 1:
            weight, scale = maker.inputs[0], self._constants.get(maker.inputs[1])
            if scale is None:
                return None
        stored = self._constants.get(weight)
        if stored is None or stored.ndim < 2 or (scale is not None and len(stored) != scale.size):
            return None
        active = ""
        for behind in following:
            if behind.op not in _MOVES or behind.op == "DequantizeLinear":
                break
            active = behind.output
            if behind.op == "QuantizeLinear":
                zero = self._constants.get(behind.inputs[-1])
                active = active if zero is not None and not zero.any() else ""
                break
        return Layer(node, stored, scale, active, following)
