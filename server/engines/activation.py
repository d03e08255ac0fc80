"""Where the evidence for a class lies, from one run of the network: Grad-CAM (Selvaraju et al.
2017, arXiv 1610.02391, section 3) of its last convolution.

The gradient needs no other run: behind the convolutions AlexNet is three matrices with a ReLU
between, so that it is a product of those rows whose ReLU let something pass. Of 4096 outputs these
are some hundreds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.engines.layers import Layer, Layers
from server.engines.onnx_file import OnnxFile

Inside = tuple[NDArray[Any], ...]
"""Of one photo: the maps of the last convolution (channels, rows, columns), and the outputs of the
first two fully connected layers, all behind their ReLU; the integers of int8."""

_TO_LOGITS = ["MaxPool", "Reshape"]


@dataclass(frozen=True)
class Activation:
    """`explain=cam` for one graph."""

    outputs: tuple[str, ...]
    """The tensors that it needs."""
    _connected: Sequence[Layer]

    @classmethod
    def of(cls, file: OnnxFile) -> "Activation | None":
        """None for a graph that ends in another way."""
        layers = Layers(file)
        *_, last = layers.convolutions or (None,)
        if last is None or len(layers.connected) != 3 or layers.all[-4:-3] != (last,):
            return None
        moves = [n.op for n in last.following if n.op in _TO_LOGITS]
        tensors = [layer.active for layer in (last, *layers.connected[:2])]
        rows = all(layer.node.numbers.get("transB") == (1,) for layer in layers.connected)
        if moves != _TO_LOGITS or not all(tensors) or not rows or layers.connected[2].following:
            return None
        return cls(tuple(tensors), layers.connected)

    def shares(self, inside: Inside, index: int) -> NDArray[np.float32]:
        """(rows, columns) of the maps: what each place adds to the class, as a share of the most;
        zeros where no place speaks for it."""
        maps, *hidden = inside
        gradient = self._connected[2].rows([index])[0]
        for layer, outputs in zip(self._connected[1::-1], reversed(hidden), strict=True):
            passed = np.flatnonzero(outputs)
            gradient = gradient[passed] @ layer.rows(passed)
        # Pooling passes each of these on to one place of its channel: their sum is that of all.
        weights = gradient.reshape(len(maps), -1).sum(1)
        evidence = np.einsum("c,cij->ij", weights, maps.astype(np.float32)).clip(0)
        shares: NDArray[np.float32] = evidence / max(float(evidence.max()), 1e-30)
        return shares
