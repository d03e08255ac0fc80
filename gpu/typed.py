"""The exported graph in the types for a GPU.

TensorRT 11 takes every type from the graph ("strong typing"), so float16 needs a float16 graph. An
artifact, fp32 or int8, is therefore converted to plain float32, and then to the wanted precision.
The normalisation of the pixels and the norms of 2012, whose squares do not fit into float16, are
always computed in float32.
"""

import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from alexnet.spec import INPUT_NAME, OUTPUT_NAME

FLOAT = TensorProto.FLOAT
# precision -> type of the layers, opset, matching IR version. Convolutions in bfloat16 need opset
# 22, scales in float16 need 19.
PRECISIONS = {
    "fp32": (FLOAT, 18, 8),
    "fp16": (TensorProto.FLOAT16, 18, 8),
    "bf16": (TensorProto.BFLOAT16, 22, 10),
    "int8": (TensorProto.FLOAT16, 19, 9),
    "fp8": (TensorProto.FLOAT16, 19, 9),
}
# precision with scales -> the type of its products, and the largest number of the type.
SCALED = {"int8": (TensorProto.INT8, 127.0), "fp8": (TensorProto.FLOAT8E4M3FN, 448.0)}
MOVES = ("MaxPool", "Reshape")  # operations that keep the range of values, and so the scale
LAYERS = ("Conv", "Gemm", "Relu", *MOVES)  # in the precision; all others in float32


def float_graph(onnx: bytes) -> ModelProto:
    """The same network in float32 only, without rounding between layers.

    It begins with Cast, Sub, Div or Mul, Transpose. Raises ValueError for invalid ONNX.
    """
    floats = _FloatGraph(onnx)
    constants = [numpy_helper.from_array(v, name) for name, v in floats.constants.items()]
    return floats.model_of(floats.nodes, constants)


def typed(onnx: bytes, precision: str) -> bytes:
    """uint8 (batch, side, side, 3) `images` -> float32 (batch, classes) `logits`, in `precision`.

    int8 and fp8 are Q/DQ pairs that TensorRT fuses: symmetric, in front of each layer with weights,
    whose scales are per output channel, with float16 between them. Raises ValueError.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; there are {', '.join(PRECISIONS)}")
    floats = _FloatGraph(onnx)
    if precision in SCALED and not floats.tops:
        raise ValueError(
            f"{precision} needs the scales of an int8 artifact, and this one is in float: "
            "export the model with --precision int8,fp32"
        )
    data: bytes = _TypedGraph(floats, precision).model.SerializeToString()
    return data


class _FloatGraph:
    """An artifact's graph without its rounding, and the ranges of the rounded tensors."""

    def __init__(self, data: bytes):
        try:
            self._model = onnx.load_from_string(data)
        except Exception as error:  # its type depends on the installed protobuf
            raise ValueError(f"the artifact cannot be read as an ONNX graph: {error}") from None
        graph = self._model.graph
        self.constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        self.tops: dict[str, float] = {}
        """Tensor that int8 rounds -> its largest value."""
        self._same: dict[str, str] = {}  # output of a removed node -> its replacement
        self.nodes = [kept for node in graph.node for kept in self._read(node)]
        used = {name for node in self.nodes for name in node.input}
        self.constants = {n: value for n, value in self.constants.items() if n in used}

    def model_of(
        self, nodes: list[NodeProto], constants: list[TensorProto], opset: int = 18, ir: int = 8
    ) -> ModelProto:
        """With the artifact's inputs and outputs."""
        graph = self._model.graph
        graph = helper.make_graph(nodes, graph.name, graph.input, graph.output, constants)
        opsets = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=ir)

    def _read(self, node: NodeProto) -> list[NodeProto]:
        node.input[:] = [self._same.get(name, name) for name in node.input]
        first, output = node.input[0], node.output[0]
        match node.op_type:
            case "QuantizeLinear":
                self._same[output] = first
            case "Transpose" if first == INPUT_NAME:
                self._same[output] = first  # moved behind the normalisation
            case "DequantizeLinear" if first in self.constants:
                stored, scale, zero = (self.constants[name] for name in node.input)
                along = (-1, *[1] * (stored.ndim - 1))  # axis 0 is the output channel
                centred = stored.astype(np.float32) - zero.reshape(along).astype(np.float32)
                self.constants[output] = centred * scale.reshape(along)
            case "DequantizeLinear":
                scale, zero = (self.constants[name].item() for name in node.input[1:])
                rounded = output if first == INPUT_NAME else first
                self.tops[rounded] = scale * (255 - zero)
                if first == INPUT_NAME:
                    return self._normalisation(zero, scale, output)
                self._same[output] = first
            case _:
                return [node]
        return []

    def _normalisation(self, zero: float, scale: float, output: str) -> list[NodeProto]:
        self.constants |= {"zero": np.array(zero, np.float32), "scale": np.array(scale, np.float32)}
        return [
            helper.make_node("Cast", [INPUT_NAME], ["pixels"], "pixels", to=FLOAT),
            helper.make_node("Sub", ["pixels", "zero"], ["centred"], "centred"),
            helper.make_node("Mul", ["centred", "scale"], ["scaled"], "scaled"),
            helper.make_node("Transpose", ["scaled"], [output], output, perm=[0, 3, 1, 2]),
        ]


class _TypedGraph:
    """The float graph with each node in its type."""

    def __init__(self, floats: _FloatGraph, precision: str):
        self._values, self._tops = floats.constants, floats.tops
        self._precision, (self._kind, opset, ir) = precision, PRECISIONS[precision]
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}
        self._kinds: dict[str, int] = {}  # tensor -> its type
        for node in floats.nodes:
            self._write(node)
        self.model = floats.model_of(self._nodes, list(self._constants.values()), opset, ir)

    def _write(self, node: NodeProto) -> None:
        kind = self._kind if node.op_type in LAYERS else FLOAT
        first, output = node.input[0], node.output[0]
        if node.op_type in MOVES and first in self._tops:
            self._tops[output] = self._tops[first]
        if first != INPUT_NAME:
            scaled = 2 if self._has_scales(node) else 0
            node.input[:] = [
                self._quantise(name) if place < scaled else self._cast(name, kind)
                for place, name in enumerate(node.input)
            ]
        if output == OUTPUT_NAME and kind != FLOAT:
            node.name = node.output[0] = "narrow"
        self._nodes.append(node)
        self._kinds[node.output[0]] = kind
        if node.output[0] != output:
            self._node("Cast", ["narrow"], output, to=FLOAT)

    def _has_scales(self, node: NodeProto) -> bool:
        """TensorRT has fp8 convolutions from 16 channels up, with windows of 32 numbers at most
        (as NVIDIA's Model Optimizer has it): conv1 stays in float16."""
        if self._precision not in SCALED or node.op_type not in ("Conv", "Gemm"):
            return False
        _, channels, *window = self._values[node.input[1]].shape
        return self._precision == "int8" or (channels >= 16 and math.prod(window) <= 32)

    def _cast(self, name: str, kind: int) -> str:
        """The tensor in that type, by a Cast if needed."""
        if name in self._values:
            return self._constant(name, self._values[name], kind)
        if self._kinds[name] == kind:
            return name
        return self._node("Cast", [name], f"{name}_{TensorProto.DataType.Name(kind)}", to=kind)

    def _quantise(self, name: str) -> str:
        """The tensor through a Q/DQ pair, which TensorRT fuses."""
        kind, (narrow, top) = self._kind, SCALED[self._precision]
        if name not in self._values:
            nought, step = np.zeros((), np.float32), np.array(self._tops[name] / top, np.float32)
            by = [self._constant(f"{name}_scale", step, kind), self._constant("0", nought, narrow)]
            q = self._node("QuantizeLinear", [self._cast(name, kind), *by], f"{name}_quantised")
            return self._node("DequantizeLinear", [q, *by], f"{name}_scaled")
        weight = self._values[name]
        largest = np.abs(weight).max(axis=tuple(range(1, weight.ndim)), keepdims=True)
        # Rounded to float16, whose normal range starts at 2 ** -14; weights use the rounded ones
        scales = np.maximum(largest / top, 2.0**-14).astype(np.float16).astype(np.float32)
        stored = np.clip(weight / scales, -top, top)
        stored = np.rint(stored) if self._precision == "int8" else stored
        q = self._constant(f"{name}_quantised", stored, narrow)
        by = [self._constant(f"{name}_scale", scales.ravel(), kind)]
        return self._node("DequantizeLinear", [q, *by], f"{name}_scaled", axis=0)

    def _constant(self, name: str, value: NDArray[Any], kind: int) -> str:
        if value.dtype == np.float32 and kind != FLOAT:  # the shape for a Reshape stays int64
            name = f"{name}_{TensorProto.DataType.Name(kind)}"
            value = value.astype(helper.tensor_dtype_to_np_dtype(kind))
        self._constants[name] = numpy_helper.from_array(value, name)
        return name

    def _node(self, op: str, inputs: list[str], output: str, **attributes: int) -> str:
        if output not in self._kinds:
            self._nodes.append(helper.make_node(op, inputs, [output], output, **attributes))
            self._kinds[output] = attributes.get("to", self._kind)
        return output
