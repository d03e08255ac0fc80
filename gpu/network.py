"""The exported graph run by torch, without TensorRT, in fewer passes than it has nodes.

Activations are channels last from the pixels to fc6, whose weights are permuted to match, so that
flattening copies nothing. conv1 reads blocks of 4 x 4 pixels, 48 channels, with a 3 x 3 window and
stride 1, as matrix units need many channels. Where pooling follows, bias and ReLU are applied after
it, to a quarter of the numbers, with bitwise the same result.
"""

from collections.abc import Callable
from math import isqrt
from typing import Any

import torch
import torch.nn.functional as F
from onnx import NodeProto, helper, numpy_helper
from torch import Tensor

from alexnet.spec import INPUT_NAME
from gpu.typed import float_graph

Step = Callable[[Tensor], Tensor]
Build = Callable[..., Step]
BLOCK = 4  # px; the stride of conv1
HEADS = ("Cast Sub Div Transpose", "Cast Sub Mul Transpose")
# The operations of export/norms.py.
CROSS_MAP_NORM = "Transpose Mul MatMul Add Sqrt Mul Sqrt Div Transpose"
SPATIAL_NORM = "Mul AveragePool Transpose Transpose Mul Add Sqrt Mul Sqrt Div Transpose"


class Network:
    """uint8 (N, side, side, 3) -> float32 (N, classes), or float64 for a float64 network.

    Norms and the normalisation of pixels are computed in at least float32: the squares in the norms
    of 2012 do not fit into float16. In float32 a GPU convolves in TF32, torch's default. Raises
    ValueError for a graph that alexnet-export did not write.
    """

    def __init__(self, onnx: bytes, dtype: torch.dtype, device: torch.device | str = "cpu"):
        self.dtype, self.device = dtype, torch.device(device)
        self.wide = torch.promote_types(dtype, torch.float32)
        graph = float_graph(onnx).graph
        self._arrays = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
        self._maps = 0  # outputs of the last convolution so far
        self._steps: list[Step] = []
        patterns, nodes, last = self.patterns(), list(graph.node), INPUT_NAME
        while nodes:
            ops = " ".join(node.op_type for node in nodes) + " "
            found = [pattern for pattern in patterns if ops.startswith(pattern + " ")]
            taken = nodes[: len(max(found, key=len, default="").split())]
            known = {last, *self._arrays, *(node.output[0] for node in taken)}
            if not taken or not all(name in known for node in taken for name in node.input):
                raise unknown(nodes[0])  # or the graph is no chain
            self._steps.append(patterns[max(found, key=len)](*taken))
            last = taken[-1].output[0]
            del nodes[: len(taken)]
        del self._arrays

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        x = images
        for step in self._steps:
            x = step(x)
        return x.to(self.wide)

    def patterns(self) -> dict[str, Build]:
        """Consecutive operations -> the builder of one step for them. The longest match wins."""
        return {
            **dict.fromkeys(HEADS, self._normalise),
            **dict.fromkeys(("Conv", "Conv Relu", "Conv Relu MaxPool"), self._convolve),
            **dict.fromkeys((CROSS_MAP_NORM, SPATIAL_NORM), self._norm),
            **dict.fromkeys(("Add", "Add Relu"), self._add),
            "MaxPool": lambda node: max_pool,
            "Relu MaxPool": lambda *nodes: lambda x: max_pool(x).relu_(),
            **dict.fromkeys(("Reshape Gemm", "Reshape Gemm Relu"), self._multiply),
            **dict.fromkeys(("Gemm", "Gemm Relu"), self._multiply),
        }

    def _normalise(self, *nodes: NodeProto) -> Step:
        mean, std = (self.constant(node.input[1], self.wide) for node in nodes[1:3])
        divide = torch.div if nodes[2].op_type == "Div" else torch.mul
        return lambda x: divide(x - mean, std).to(self.dtype).permute(0, 3, 1, 2)

    def _convolve(self, *nodes: NodeProto) -> Step:
        ops, sums = [node.op_type for node in nodes], self.sums(nodes[0])
        bias = self.constant(nodes[0].input[2])
        if "MaxPool" in ops:
            return lambda x: max_pool(sums(x, None)).add_(bias[:, None, None]).relu_()
        return lambda x: sums(x, bias).relu_() if "Relu" in ops else sums(x, bias)

    def sums(self, conv: NodeProto, in_blocks: bool = False) -> Callable[..., Tensor]:
        """A function (x, bias or None) that convolves; conv1's takes pixels, or blocks of them."""
        attributes = attributes_of(conv)
        (stride, _), (top, left, bottom, right) = attributes["strides"], attributes["pads"]
        weight = self.array(conv.input[1])
        self._maps, channels, window, _ = weight.shape
        group, padding = attributes["group"], left
        blocks = (stride, channels) == (BLOCK, 3)
        if (top, bottom) != (left, right) or not (blocks or left == right):
            raise unknown(conv)
        if blocks:
            stride, padding, lack = 1, 0, -window % BLOCK
            weight = to_blocks(F.pad(weight, (0, lack, 0, lack)))
        kernel = weight.to(self.device, self.dtype, memory_format=torch.channels_last)

        def convolve(x: Tensor, bias: Tensor | None) -> Tensor:
            if blocks and not in_blocks:  # exactly the pixels that the windows cover
                side = x.shape[3]
                whole = (side + left + right - window) // BLOCK * BLOCK + window + lack
                x = to_blocks(F.pad(x, (left, whole - left - side) * 2))
            return F.conv2d(x, kernel, bias, stride, padding, 1, group)

        return convolve

    def _add(self, *nodes: NodeProto) -> Step:
        """The map of a mean image, which int8 adds to conv1 (export/precision.py)."""
        added, relu = self.constant(nodes[0].input[1]), len(nodes) > 1
        return lambda x: (x + added).relu_() if relu else x + added

    def _norm(self, *nodes: NodeProto) -> Step:
        """x / base ** 0.75, across maps by a banded matrix, or in a window of one map."""
        names = [name for node in nodes for name in node.input if name in self._arrays]
        weight, k = (self.constant(name, self.wide) for name in names)
        pools = [node for node in nodes if node.op_type == "AveragePool"]
        window = attributes_of(pools[0])["kernel_shape"][0] if pools else 0

        def step(x: Tensor) -> Tensor:
            base = x.to(self.wide).square()
            if window:
                base = F.avg_pool2d(base, window, 1, window // 2) * weight + k
            else:
                base = (base.permute(0, 2, 3, 1) @ weight).permute(0, 3, 1, 2) + k
            return (x / (base * base.sqrt()).sqrt()).to(self.dtype)

        return step

    def _multiply(self, *nodes: NodeProto) -> Step:
        ops = [node.op_type for node in nodes]
        gemm = nodes[ops.index("Gemm")]
        weight, bias = self.array(gemm.input[1]), self.constant(gemm.input[2])
        if "Reshape" in ops:  # fc6's columns in channels-last order
            side = isqrt(weight.shape[1] // self._maps)
            weight = weight.unflatten(1, (self._maps, side, side)).permute(0, 2, 3, 1).flatten(1)
        product = self.product(weight, bias, "Relu" in ops)
        return lambda x: product(x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x)

    def product(self, weight: Tensor, bias: Tensor, relu: bool) -> Step:
        # The private function is torch's only way to fuse a ReLU by cuBLASLt.
        product: Callable[..., Tensor] = torch._addmm_activation if relu else torch.addmm
        columns = weight.to(self.device, self.dtype).t()
        return lambda x: product(bias, x, columns)

    def array(self, name: str) -> Tensor:
        return torch.tensor(self._arrays[name])

    def constant(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        return self.array(name).to(self.device, dtype or self.dtype)


def to_blocks(x: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, 48, H / 4, W / 4): channels are row, column, colour within a block."""
    x = x.unflatten(3, (-1, BLOCK)).unflatten(2, (-1, BLOCK))
    return x.permute(0, 2, 4, 3, 5, 1).flatten(3).permute(0, 3, 1, 2)


def max_pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 2)


def attributes_of(node: NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def unknown(node: NodeProto) -> ValueError:
    return ValueError(
        f"the torch engine does not know what {node.op_type} is for in node {node.name}: "
        "it runs the graphs that alexnet-export writes"
    )
