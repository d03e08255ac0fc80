"""The response norms of 2012 in ONNX: x / base ** 0.75, with base = k + alpha * mean of squares.

ONNX's own LRN has no columns, and takes ONNX Runtime 4.3 ms for the maps of conv1 where the banded
matrix takes 0.8 (2 cores, Zen 4). The product is a channels-last MatMul, so that ONNX Runtime keeps
the int8 pooling behind it channels-last, too: after a 1 x 1 Conv that pooling alone takes 0.8 ms
instead of 0.03, and all of `alexnet2012` 36 % longer at batch 16.
"""

from export.graph import Graph
from training.layers import CrossMapNorm, SpatialNorm

CHANNELS_LAST, CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def cross_map_norm(graph: Graph, norm: CrossMapNorm, x: str, index: int) -> str:
    """(N, maps, H, W) -> the same; `index` makes the names of its constants unique."""
    x = graph.node("Transpose", x, perm=CHANNELS_LAST)
    weight = (norm.band[:, :, 0, 0].T * (norm.alpha / norm.size)).cpu().numpy()
    band = graph.constant(f"band{index}", weight)
    scaled = graph.node("MatMul", graph.node("Mul", x, x), band)
    return _divide(graph, x, graph.node("Add", scaled, graph.scalar(f"k{index}", norm.k)))


def spatial_norm(graph: Graph, norm: SpatialNorm, x: str, index: int) -> str:
    """(N, maps, H, W) -> the same; `index` makes the names of its constants unique."""
    mean = graph.node(
        "AveragePool", graph.node("Mul", x, x),
        kernel_shape=[norm.size] * 2, pads=[norm.size // 2] * 4, count_include_pad=1,
    )  # fmt: skip
    x, mean = (graph.node("Transpose", y, perm=CHANNELS_LAST) for y in (x, mean))
    scaled = graph.node("Mul", mean, graph.scalar(f"spatial_alpha{index}", norm.alpha))
    base = graph.node("Add", scaled, graph.scalar(f"spatial_k{index}", norm.k))
    return _divide(graph, x, base)


def _divide(graph: Graph, x: str, base: str) -> str:
    """x / base ** 0.75, by two square roots: with Pow all of `alexnet2012` takes 18 % longer."""
    power = graph.node("Sqrt", graph.node("Mul", base, graph.node("Sqrt", base)))
    return graph.node("Transpose", graph.node("Div", x, power), perm=CHANNELS_FIRST)
