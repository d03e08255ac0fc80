"""The network with our own kernels instead of torch's operations.

Experimental: not yet measured on a GPU, so it is never chosen by default.
"""

from functools import partial

import torch
from onnx import NodeProto
from torch import Tensor

from gpu.kernels import norm, pixels, response, weight_only
from gpu.network import CROSS_MAP_NORM, HEADS, Build, Network, Step, attributes_of

STAGES = (
    "Conv Relu MaxPool",
    f"Conv Relu {CROSS_MAP_NORM} MaxPool",
    f"Conv {CROSS_MAP_NORM} Relu MaxPool",
)


class FusedNetwork(Network):
    """As Network; on a CPU with the reference implementations of the kernels.

    `weights` (torch.int8 or float8_e4m3fn) stores the fully connected layers of a half-precision
    network in 8 bits: half the bytes to read for up to 64 photos. More use the values unpacked.
    """

    def __init__(
        self, onnx: bytes, dtype: torch.dtype, device: torch.device | str = "cpu",
        weights: torch.dtype | None = None,
    ):  # fmt: skip
        self._weights, self._suffix = weights, "_ref" * (torch.device(device).type == "cpu")
        super().__init__(onnx, dtype, device)

    def patterns(self) -> dict[str, Build]:
        stages = [*STAGES, *(f"{head} {stage}" for head in HEADS for stage in STAGES)]
        ours = {**dict.fromkeys(stages, self._stage), CROSS_MAP_NORM: self._cross_map_norm}
        return super().patterns() | ours

    def _stage(self, *nodes: NodeProto) -> Step:
        """A convolution and the nodes behind it up to the pooling; conv1 starts at uint8 pixels."""
        ops = [node.op_type for node in nodes]
        at = ops.index("Conv")
        image = at > 0 and self.array(nodes[1].input[1]).ndim == 3  # our kernel takes no mean image
        sums = self.sums(nodes[at], in_blocks=at > 0 and not image)
        bias = self.constant(nodes[at].input[2])
        prepare = None
        if at:
            pixels = (nodes[1], nodes[2], nodes[at])
            prepare = self._normalise(*nodes[:at]) if image else self._pixels(*pixels)
        respond = partial(
            getattr(response, "response" + self._suffix),
            norm=self._constants_of(nodes) if "MatMul" in ops else None,
            relu_first=ops[at + 1] == "Relu",
        )

        def step(x: Tensor) -> Tensor:  # with cuDNN, x is contiguous already
            x = sums(prepare(x) if prepare else x, None).permute(0, 2, 3, 1)
            return respond(x.contiguous(), bias).permute(0, 3, 1, 2)

        return step

    def _pixels(self, sub: NodeProto, scale: NodeProto, conv: NodeProto) -> Step:
        mean, std = (self.array(node.input[1]).expand(3) for node in (sub, scale))
        std = std if scale.op_type == "Div" else 1 / std
        padding = tuple(attributes_of(conv)["pads"][1:3])  # left and bottom: the axes are alike
        in_blocks = getattr(pixels, "in_blocks" + self._suffix)
        view = pixels.View(tuple(mean.tolist()), tuple(std.tolist()), padding)
        return lambda x: in_blocks(x, view, self.dtype).permute(0, 3, 1, 2)

    def _cross_map_norm(self, *nodes: NodeProto) -> Step:
        normalise, how = getattr(norm, "normalise" + self._suffix), self._constants_of(nodes)
        return lambda x: normalise(x.permute(0, 2, 3, 1).contiguous(), how).permute(0, 3, 1, 2)

    def _constants_of(self, nodes: tuple[NodeProto, ...]) -> norm.Norm:
        """The band has alpha / 5 beside its diagonal, and 0 at the border of two columns."""
        band, k = (self.array(n.input[1]) for n in nodes if n.op_type in ("MatMul", "Add"))
        ends = int((band.diagonal(1) == 0).sum())
        return norm.Norm(5 * band[0, 0].item(), k.item(), columns=1 + ends)

    def product(self, weight: Tensor, bias: Tensor, relu: bool) -> Step:
        if self._weights is None:
            return super().product(weight, bias, relu)
        codes, scale = weight_only.quantise(weight, self._weights)
        many = super().product(codes.float() * scale[:, None], bias, relu)
        packed = weight_only.Quantised(codes.to(self.device), scale.to(self.device))
        few = getattr(weight_only, "weight_only" + self._suffix)
        most = weight_only.MAX_ROWS
        return lambda x: few(x, packed, bias, relu=relu) if len(x) <= most else many(x)
