"""The lower bound ("floor") of the time of a batch, from the bytes and operations of its layers.

Each layer takes the longer of two times: its bytes over the memory bandwidth, or its operations
over the matrix rate. Operations between the layers are free, as if fused into them.
"""

from typing import NamedTuple

import torch
from torch import nn

from training.fold import fold
from training.network import AlexNet


class Precision(NamedTuple):
    """Bytes per number, and the name of the matrix rate."""

    activation: int
    convolution: int
    dense: int
    rate: str


PRECISIONS = {
    "fp32": Precision(4, 4, 4, "tf32"),
    "16 bit": Precision(2, 2, 2, "bf16"),
    "8 bit": Precision(1, 1, 1, "fp8"),
    "fc weights 8 bit": Precision(2, 2, 1, "bf16"),
}


class LayerCost(NamedTuple):
    """Costs of a layer per photo, and its weights, which are read once per batch."""

    macs: int
    weights: int
    inputs: int
    outputs: int
    """As the next layer reads them: pooled."""
    dense: bool
    first: bool

    def moved(self, batch: int, precision: Precision) -> int:
        """Bytes; pixels have one byte each."""
        weights = self.weights * (precision.dense if self.dense else precision.convolution)
        read = self.inputs * (1 if self.first else precision.activation)
        return weights + batch * (read + self.outputs * precision.activation)

    def flop(self, batch: int) -> float:
        return 2.0 * batch * self.macs


def layers_of(classes: int, side: int) -> list[LayerCost]:
    """Of the one-tower network for crops of `side` px, from a run on the meta device."""
    seen: list[tuple[nn.Conv2d | nn.Linear, int, int]] = []
    with torch.device("meta"):
        network = fold(AlexNet(classes, dropout=0).eval(), side)
    for layer in network.layers:
        layer.register_forward_hook(lambda m, x, y: seen.append((m, x[0].numel(), y.numel())))
    network(torch.empty(1, 3, side, side, device="meta"))
    read = [inputs for _, inputs, _ in seen[1:]] + [classes]
    return [
        LayerCost(
            m.weight[0].numel() * positions, m.weight.numel(), inputs, outputs,
            isinstance(m, nn.Linear), m is seen[0][0],
        )
        for (m, inputs, positions), outputs in zip(seen, read, strict=True)
    ]  # fmt: skip


def floor_us(
    layers: list[LayerCost], batch: int, precision: Precision, bytes_per_s: float, flop_per_s: float
) -> float:
    return 1e6 * sum(
        max(layer.moved(batch, precision) / bytes_per_s, layer.flop(batch) / flop_per_s)
        for layer in layers
    )
