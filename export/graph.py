"""An ONNX graph under construction: a chain of nodes and the constants they read."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from alexnet.spec import INPUT_NAME, OUTPUT_NAME

OPSET = 18  # ONNX 1.13 (2022), supported by every runtime we target


class Graph:
    """uint8 (batch, side, side, 3) `images` -> float32 (batch, classes) `logits`."""

    def __init__(self, side: int, classes: int):
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self.input = helper.make_tensor_value_info(
            INPUT_NAME, TensorProto.UINT8, ["batch", side, side, 3]
        )
        self.output = helper.make_tensor_value_info(
            OUTPUT_NAME, TensorProto.FLOAT, ["batch", classes]
        )

    def node(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Adds a node and returns the name of its one output."""
        output = name or f"{op}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [output], output, **attributes))
        return output

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def scalar(self, name: str, value: float, dtype: type = np.float32) -> str:
        return self.constant(name, np.asarray(value, dtype))

    def to_bytes(self) -> bytes:
        """The checked model."""
        graph = helper.make_graph(
            self._nodes, "alexnet", [self.input], [self.output], self._constants
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], producer_name="alexnet")
        model.ir_version = 8  # matches opset 18; older runtimes refuse newer ones
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()
