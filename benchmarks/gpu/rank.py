"""Softmax and the k most probable classes in one pass: 40 bytes per photo leave the GPU, not 4 kB.
No product code runs it: a candidate, not yet measured on a GPU.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpu.kernels.tensors import FLOATS, FUSED, check, wide


def rank(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(N, classes), finite -> float32 probabilities (N, k), descending, and int32 classes (N, k).

    Of equal probabilities the lower class comes first, as in alexnet/postprocess.py.
    """
    check("logits", logits, ("N", "classes"), *FLOATS)
    count, classes = logits.shape
    if not 1 <= k <= classes:
        raise ValueError(f"k must lie between 1 and the {classes} classes; it is {k}")
    probability = torch.empty((count, k), dtype=torch.float32, device=logits.device)
    index = torch.empty_like(probability, dtype=torch.int32)
    block = triton.next_power_of_2(classes)
    _rank[(count,)](logits, probability, index, classes, K=k, BLOCK=block, num_warps=4, **FUSED)
    return probability, index


def rank_ref(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The reference of `rank` in torch."""
    logits = wide(logits)
    order = logits.sort(dim=1, descending=True, stable=True).indices[:, :k]
    return logits.softmax(1).gather(1, order), order.int()


@triton.jit
def _rank(logits, probability, index, classes, K: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    logits += row.to(tl.int64) * classes
    x = tl.load(logits + column, column < classes, other=float("-inf")).to(tl.float32)
    largest = tl.max(x, 0)
    total = tl.sum(tl.exp(x - largest), 0)
    for i in tl.static_range(K):
        value, best = tl.max(x, 0, return_indices=True)
        tl.store(probability + row * K + i, tl.exp(value - largest) / total)
        tl.store(index + row * K + i, best)
        x = tl.where(column == best, float("-inf"), x)
