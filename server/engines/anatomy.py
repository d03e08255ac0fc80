"""What a network is made of, read from the graph that is served: layers, their cost, and what the
first of them looks for."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from server.engines.layers import Layer, Layers
from server.engines.model import Model
from server.engines.onnx_file import read_onnx
from server.engines.ort import OrtEngine, profile

log = logging.getLogger(__name__)

COLOURS = 3
_NAMES = {"Conv": "conv", "Gemm": "fc"}


@dataclass(frozen=True)
class LayerFacts:
    name: str
    """conv1 to fc8, as in the paper."""
    weights: tuple[int, ...]
    """(outputs, inputs of each, window): those of a group only, where there are groups."""
    output: tuple[int, ...]
    """(channels, rows, columns), or (units,): before any pooling."""
    parameters: int
    """Weights; without the biases."""
    zeros: float
    """Part of these that is 0."""
    macs: int
    """Products that are added up for one photo."""
    ms: float | None
    """For one photo on this machine; None where the engine tells no time."""


@dataclass(frozen=True)
class Anatomy:
    layers: tuple[LayerFacts, ...]
    """Empty for a graph that is no chain of known layers."""
    rest_ms: float | None
    """For what lies between the layers."""
    filters: NDArray[np.uint8] | None
    """The windows of the first layer, each from its own darkest to its brightest, around grey:
    (rows, columns, height, width, 3). None where they do not look at colours."""


def dissect(model: Model) -> Anatomy:
    """Takes half a second, most of it to measure."""
    onnx = model.bundle.files[model.artifact.file]
    layers = Layers(read_onnx(onnx)).all
    times: Mapping[str, float] = {}
    if isinstance(model.engine, OrtEngine):
        try:
            engine = model.engine
            times = profile(onnx, model.bundle.manifest, engine.threads, engine.exact)
        except OSError as error:
            log.warning("the layers are not timed: %s", error)
    side = model.bundle.manifest.preprocess.crop
    facts = []
    for number, layer in enumerate(layers, 1):
        output, side = _output(layer, side)
        facts.append(_facts(layer, f"{_NAMES[layer.node.op]}{number}", output, times))
    rest = sum(times.values()) - sum(fact.ms or 0 for fact in facts) if times else None
    return Anatomy(tuple(facts), rest, _filters(layers[0]) if layers else None)


def _output(layer: Layer, side: int) -> tuple[tuple[int, ...], int]:
    """Its shape, and the side of what the next layer gets."""
    outputs = len(layer.stored)
    if not layer.is_convolution:
        return (outputs,), side
    numbers = layer.node.numbers
    side = _windows(side, layer.stored.shape[-1], numbers)
    shape = outputs, side, side
    for node in layer.following:
        if node.op == "MaxPool":
            side = _windows(side, node.numbers.get("kernel_shape", (1,))[0], node.numbers)
    return shape, side


def _windows(side: int, window: int, numbers: Mapping[str, tuple[int, ...]]) -> int:
    """How many fit along a side, with its padding."""
    top, _, bottom, _ = numbers.get("pads", (0, 0, 0, 0))
    return (side + top + bottom - window) // numbers.get("strides", (1,))[0] + 1


def _facts(
    layer: Layer, name: str, output: tuple[int, ...], times: Mapping[str, float]
) -> LayerFacts:
    stored = layer.stored
    # ONNX Runtime calls a layer and its ReLU by the name of one of them.
    own = layer.node, *takewhile(lambda node: node.op == "Relu", layer.following)
    taken = [times[node.name] for node in own if node.name in times]
    return LayerFacts(
        name=name,
        weights=stored.shape,
        output=output,
        parameters=stored.size,
        zeros=1 - int(np.count_nonzero(stored)) / stored.size,
        macs=stored.size * math.prod(output[1:]),
        ms=sum(taken) if taken else None,
    )


def _filters(first: Layer) -> NDArray[np.uint8] | None:
    if not first.is_convolution or first.stored.shape[1] != COLOURS:
        return None
    windows = first.rows(slice(None)).transpose(0, 2, 3, 1)
    largest = np.abs(windows).max((1, 2, 3), keepdims=True)
    shown: NDArray[np.uint8] = (128 + 127 * windows / np.maximum(largest, 1e-9)).astype(np.uint8)
    rows = next(n for n in range(math.isqrt(len(shown)), 0, -1) if len(shown) % n == 0)
    return shown.reshape(rows, -1, *shown.shape[1:])
