"""A graph whose sums do not saturate, also on a CPU without VNNI (ADR 36)."""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.engines.layers import Layers
from server.engines.onnx_file import OnnxFile, read_onnx


def narrowed(onnx: bytes) -> list[bytes | memoryview]:
    """The parts of a file whose first layer has its weights in 7 bits, so that no pair of products
    can saturate: pixels are as large as they come. Empty for a graph that it does not know.

    The other layers keep their 8 bits: behind a ReLU two neighbours are hardly ever both so large.
    """
    changed = _halved(read_onnx(onnx))
    whole, base = memoryview(onnx), np.frombuffer(onnx, np.uint8).ctypes.data
    parts: list[bytes | memoryview] = []
    done = 0
    for start, new in sorted((old.ctypes.data - base, new) for old, new in changed):
        parts += [whole[done:start], new]
        done = start + len(new)
    return [*parts, whole[done:]] if parts else []


def _halved(file: OnnxFile) -> list[tuple[NDArray[Any], bytes]]:
    """Each constant that changes as it lies in the file, and its new bytes: halves, and scales that
    are twice as large."""
    layers = Layers(file).all
    if not layers or layers[0].stored.dtype != np.int8:
        return []
    makers = {node.output: node for node in file.nodes}
    used = Counter(name for node in file.nodes for name in node.inputs)
    changed = []
    for name in layers[0].node.inputs[1:]:
        maker = makers.get(name)
        if maker is None or maker.op != "DequantizeLinear":
            return []
        constants = [file.constants.get(part) for part in maker.inputs]
        stored, scale, *zero = constants
        if stored is None or scale is None or any(z is None or z.any() for z in zero):
            return []
        if any(used[part] > 1 for part in maker.inputs[:2]):
            return []
        changed += [
            (stored, np.rint(stored / 2).astype(stored.dtype).tobytes()),
            (scale, (2 * scale).astype(scale.dtype).tobytes()),
        ]
    return changed
