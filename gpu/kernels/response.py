"""Bias, ReLU, response normalisation and 3 x 3 max-pooling with stride 2, in one pass.

A thread computes 4 channels of 3 x 3 results from 7 x 7 pixels, so that a pixel is normalised 1.4
times on average; with one thread per result it would be 2.25 times, and the special functions (2
per number) would take twice as long as the memory accesses [estimate]. Small batches have too few
such threads and use one per row of 3 results. Experimental: not yet measured on a GPU.
"""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from gpu.kernels.norm import VECTOR, Norm, load, normalise_ref, power, squared, store
from gpu.kernels.tensors import FLOATS, FUSED, check, wide

_THREADS = 132 * 2048  # resident on an H100 or H200


def response(
    x: Tensor, bias: Tensor, norm: Norm | None = None, *, relu_first: bool = True
) -> Tensor:
    """A convolution's sums x (N, H, W, C), its bias (C,) -> (N, (H-1) // 2, (W-1) // 2, C) as x.

    The paper has ReLU, norm, pool; the code of 2012 norm, pool, ReLU: `relu_first` False.
    """
    how = norm or Norm()
    column = how.column(x)
    count, height, width, channels = x.shape
    check("bias", bias, (channels,), *FLOATS)
    if min(height, width) < 3:
        raise ValueError(f"pooling needs 3 x 3 pixels; x has {height} x {width}")
    high, broad = (height - 1) // 2, (width - 1) // 2
    y = torch.empty((count, high, broad, channels), dtype=x.dtype, device=x.device)
    threads = count * triton.cdiv(broad, 3) * (channels // VECTOR)
    rows, warps = (3, 4) if threads * triton.cdiv(high, 3) > _THREADS else (1, 1)
    threads *= triton.cdiv(high, rows)
    _response[(triton.cdiv(threads, 32 * warps),)](
        x, bias, y, threads, rows, how.scale, how.k, H=height, W=width, C=channels, COLUMN=column,
        NORM=norm is not None, RELU_FIRST=relu_first, BLOCK=32 * warps, num_warps=warps, **FUSED,
    )  # fmt: skip
    return y


def response_ref(
    x: Tensor, bias: Tensor, norm: Norm | None = None, *, relu_first: bool = True
) -> Tensor:
    """The reference of `response` in torch."""
    y = wide(x) + wide(bias)
    y = F.relu(y) if relu_first else y
    y = normalise_ref(y, norm) if norm else y
    return F.relu(F.max_pool2d(y.movedim(3, 1), 3, 2)).movedim(1, 3).to(x.dtype)


@triton.jit
def _response(
    x, bias, y, threads, rows, scale, k,
    H: tl.constexpr, W: tl.constexpr, C: tl.constexpr, COLUMN: tl.constexpr, NORM: tl.constexpr,
    RELU_FIRST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    HIGH: tl.constexpr = (H - 1) // 2
    BROAD: tl.constexpr = (W - 1) // 2
    THIRDS: tl.constexpr = (BROAD + 2) // 3
    thread = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = thread < threads
    channel = thread % (C // 4) * 4
    column = thread // (C // 4) % THIRDS * 3
    band, bands = thread // (C // 4 * THIRDS), (HIGH + rows - 1) // rows
    row, image = band % bands * rows, (band // bands).to(tl.int64)
    x += (image * H + row * 2) * (W * C) + column * (2 * C) + channel
    y += (image * HIGH + row) * (BROAD * C) + column * C + channel
    left, right = inside & (channel % COLUMN != 0), inside & ((channel + 4) % COLUMN != 0)
    bias += channel
    biases = load(bias, -2, 2, left), load(bias, 0, 4, inside), load(bias, 4, 2, right)
    a = tl.full((BLOCK, 4), float("-inf"), tl.float32)
    b, c = a, a
    for i in range(2 * rows + 1):
        there = inside & (2 * row + i < H)
        d, e, f = _row(x, there, 2 * column, left, right, biases, scale, k, W, C, NORM, RELU_FIRST)
        x += W * C
        a, b, c = tl.maximum(a, d), tl.maximum(b, e), tl.maximum(c, f)
        if (i > 0) & (i % 2 == 0):
            if not NORM:
                a, b, c = a + biases[1], b + biases[1], c + biases[1]
            there &= row + i // 2 <= HIGH
            store(y, tl.maximum(a, 0.0), there)
            store(y + C, tl.maximum(b, 0.0), there & (column + 1 < BROAD))
            store(y + 2 * C, tl.maximum(c, 0.0), there & (column + 2 < BROAD))
            y += BROAD * C
            a, b, c = d, e, f  # the next windows share this row


@triton.jit
def _row(
    x, there, column, left, right, biases, scale, k,
    W: tl.constexpr, C: tl.constexpr, NORM: tl.constexpr, RELU_FIRST: tl.constexpr,
):  # fmt: skip
    """7 pixels, pointers (BLOCK,) to the first -> the maxima of 3 windows, each (BLOCK, 4)."""
    a, b, c = biases[1], biases[1], biases[1]  # placeholders until the window begins
    for i in tl.static_range(7):
        seen = there & (column + i < W)
        own = load(x + i * C, 0, 4, seen)
        if NORM:
            own += biases[1]
            before = load(x + i * C, -2, 2, seen & left) + biases[0]
            behind = load(x + i * C, 4, 2, seen & right) + biases[2]
            if RELU_FIRST:
                own, before = tl.maximum(own, 0.0), tl.maximum(before, 0.0)
                behind = tl.maximum(behind, 0.0)
            own *= power(k + scale * squared(before, own, behind))
        if i <= 2:
            a = own if i == 0 else tl.maximum(a, own)
        if (i >= 2) & (i <= 4):
            b = own if i == 2 else tl.maximum(b, own)
        if i >= 4:
            c = own if i == 4 else tl.maximum(c, own)
    return a, b, c
