"""OpenVINO on the CPU, silenced: the one door to it."""

import sys
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.manifest import Manifest
from server.engines.activation import Activation, Inside
from server.engines.base import Pending
from server.engines.onnx_file import read_onnx
from server.engines.ort import OrtEngine

# Its import asks the name server for a host of Google, and keeps an id at home, with this package.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino  # noqa: E402
from openvino import opset8 as operators  # noqa: E402
from openvino.op import Constant  # noqa: E402
from openvino.utils import replace_node  # noqa: E402


def connect_by_convolutions(model: openvino.Model) -> int:
    """Makes of each fully connected layer in int8 a convolution of 1 x 1 over a row of photos: the
    same sums, by kernels that take a third of the time (ADR 35). Returns how many."""
    found = 0
    for node in model.get_ordered_ops():
        weights = _int8_weights(node) if node.get_type_name() == "MatMul" else None
        if weights is None:
            continue
        stored, scale = weights
        classes, features = stored.shape
        kernel = operators.multiply(
            operators.convert(Constant(stored.reshape(classes, features, 1, 1)), "f32"),
            Constant(scale.reshape(classes, 1, 1, 1)),
        )
        row = operators.reshape(node.input_value(0), [1, 1, -1, features], special_zero=False)
        channels_first = operators.transpose(row, [0, 3, 1, 2])
        summed = operators.convolution(channels_first, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
        channels_last = operators.transpose(summed, [0, 2, 3, 1])
        replace_node(node, operators.reshape(channels_last, [-1, classes], special_zero=False))
        found += 1
    return found


def _int8_weights(node: Any) -> tuple[NDArray[np.int8], NDArray[np.float32]] | None:
    """(classes, features) and (classes,) of x @ w.T, where w is stored in int8 around zero."""
    if node.get_attributes() != {"transpose_a": False, "transpose_b": True}:
        return None
    sources = _constants(node.input_value(1).get_node())
    if len(sources) != 3 or sources[0].ndim != 2 or sources[0].dtype != np.int8:
        return None
    stored, zero, scale = sources
    if zero.any() or not zero.size == scale.size == len(stored):
        return None
    return stored, scale.astype(np.float32)


def _constants(node: Any) -> list[NDArray[Any]]:
    """What a dequantized constant is made of: its numbers, their zeros, their scales."""
    kind = node.get_type_name()
    if kind == "Constant":
        return [node.data]
    taken = {"Convert": 1, "Reshape": 1, "Subtract": 2, "Multiply": 2}.get(kind, 0)
    inputs = [node.input_value(i).get_node() for i in range(taken)]
    return [constant for each in inputs for constant in _constants(each)]


class OpenVinoEngine:
    name, on_cpu, depth = "openvino-cpu", True, 1

    def __init__(self, onnx: bytes, manifest: Manifest, precision: str, threads: int):
        self.threads = threads
        self._input = manifest.input.name
        self.activation = Activation.of(read_onnx(onnx))
        self._open_ort = partial(OrtEngine, onnx, manifest, threads)
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # the decoders have the same cores
        }
        if precision == "fp32":  # where there is AMX it would be bf16
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        core = openvino.Core()
        model = core.read_model(onnx)
        connect_by_convolutions(model)
        compiled = core.compile_model(model, "CPU", settings)
        self._request = compiled.create_infer_request()

    def begin(self, crops: Sequence[NDArray[np.uint8]]) -> Pending:
        return lambda: self.run(np.stack(crops))

    def run(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self._request.infer({self._input: crops})[0]
        return logits

    def look_inside(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], list[Inside]]:
        """By ONNX Runtime: here an output inside of the graph would cost every run."""
        return self._ort.look_inside(crops)

    @cached_property
    def _ort(self) -> OrtEngine:
        return self._open_ort()

    def close(self) -> None:
        del self._request
        self.__dict__.pop("_ort", None)
