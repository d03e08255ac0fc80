"""Response normalisation across 5 neighbouring maps, forward and backward (training/layers.py).

A thread reads 4 channels of a pixel, 16 bytes of float32 or 8 of a half type, and 2 or 4 channels
on either side, which its neighbours read as well: the sums over the window stay in registers. The
columns of the network end at a multiple of 4 channels, so to the kernels a tensor is a sequence of
groups of COLUMN channels, whatever its other dimensions.

Experimental: not yet measured on a GPU.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from gpu.kernels.tensors import FLOATS, FUSED, check, wide

VECTOR = 4
_WINDOW = 5
_LAUNCH = {"BLOCK": 128, "num_warps": 4, **FUSED}  # a vector of channels for each thread


class Norm(NamedTuple):
    """The constants of a CrossMapNorm."""

    alpha: float = 1e-4
    k: float = 2.0
    columns: int = 1

    @property
    def scale(self) -> float:
        """The factor of a square: the code of 2012 divides alpha by the size of the window."""
        return self.alpha / _WINDOW

    def column(self, x: Tensor) -> int:
        """Channels of one column of x (N, H, W, C); raises ValueError if unsupported."""
        check("x", x, ("N", "H", "W", "C"), *FLOATS)
        column, rest = divmod(x.shape[3], self.columns)
        if rest or column % VECTOR:
            raise ValueError(
                f"the channels of a column must be a multiple of {VECTOR}; "
                f"x has {x.shape[3]} channels in {self.columns} columns"
            )
        return column


def normalise(x: Tensor, norm: Norm, dtype: torch.dtype | None = None) -> Tensor:
    """x / (k + scale * sum of 5 squares) ** 0.75: (N, H, W, C) -> the same, in `dtype` or x's."""
    column = norm.column(x)
    y = torch.empty_like(x, dtype=dtype)
    _forward[_grid(x)](x, y, x.numel(), norm.scale, norm.k, COLUMN=column, **_LAUNCH)
    return y


def normalise_backward(x: Tensor, gradient: Tensor, norm: Norm) -> Tensor:
    """x and the gradient of `normalise(x)`, both (N, H, W, C) -> the gradient of x in its type."""
    column = norm.column(x)
    check("gradient", gradient, tuple(x.shape), *FLOATS)
    dx = torch.empty_like(x)
    _backward[_grid(x)](x, gradient, dx, x.numel(), norm.scale, norm.k, COLUMN=column, **_LAUNCH)
    return dx


def normalise_ref(x: Tensor, norm: Norm) -> Tensor:
    """The reference of `normalise` in torch, differentiable."""
    apart = wide(x).unflatten(-1, (norm.columns, -1))
    squares = F.pad(apart.square(), (_WINDOW // 2, _WINDOW // 2)).unfold(-1, _WINDOW, 1).sum(-1)
    return (apart / (norm.k + norm.scale * squares) ** 0.75).flatten(-2).to(x.dtype)


def _grid(x: Tensor) -> tuple[int]:
    return (triton.cdiv(x.numel(), VECTOR * _LAUNCH["BLOCK"]),)


@triton.jit
def load(x, first: tl.constexpr, count: tl.constexpr, mask):
    """Pointers (BLOCK,) -> (BLOCK, count) float32 from `first` on; 0 where masked."""
    columns = first + tl.arange(0, count)
    return tl.load(x[:, None] + columns, mask[:, None], other=0.0).to(tl.float32)


@triton.jit
def store(y, values, mask):
    """(BLOCK, 4) float32 to the pointers (BLOCK,), in their type."""
    tl.store(y[:, None] + tl.arange(0, 4), values.to(y.dtype.element_ty), mask[:, None])


@triton.jit
def parts(x):
    """(BLOCK, 4) -> its 4 columns, each (BLOCK,)."""
    even, odd = tl.split(tl.reshape(x, (x.shape[0], 2, 2)))
    a, c = tl.split(even)
    b, d = tl.split(odd)
    return a, b, c, d


@triton.jit
def joined(a, b, c, d):
    """4 columns, each (BLOCK,) -> (BLOCK, 4)."""
    return tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), (a.shape[0], 4))


@triton.jit
def sums(a, b, c, d, e, f, g, h):
    """8 neighbours -> the sums of the 5 around each of the middle 4."""
    cde, def_ = c + d + e, d + e + f
    return a + b + cde, b + cde + f, c + def_ + g, def_ + g + h


@triton.jit
def power(base):
    """base ** -0.75"""
    root = tl.rsqrt(base)
    return root * tl.sqrt(root)


@triton.jit
def squared(left, own, right):
    """(BLOCK, 2), (BLOCK, 4), (BLOCK, 2) neighbours -> (BLOCK, 4) sums of 5 squares."""
    a, b = tl.split(left * left)
    c, d, e, f = parts(own * own)
    g, h = tl.split(right * right)
    s0, s1, s2, s3 = sums(a, b, c, d, e, f, g, h)
    return joined(s0, s1, s2, s3)


@triton.jit
def _vectors(size, COLUMN: tl.constexpr, BLOCK: tl.constexpr):
    """The vectors of this program: their starts, and which exist and have neighbours."""
    start = tl.program_id(0).to(tl.int64) * (4 * BLOCK)
    offset = tl.arange(0, BLOCK) * 4
    inside = offset < size - start
    channel = (start % COLUMN).to(tl.int32) + offset
    left, right = inside & (channel % COLUMN != 0), inside & ((channel + 4) % COLUMN != 0)
    return start + offset, inside, left, right


@triton.jit
def _forward(x, y, size, scale, k, COLUMN: tl.constexpr, BLOCK: tl.constexpr):
    at, inside, left, right = _vectors(size, COLUMN, BLOCK)
    own = load(x + at, 0, 4, inside)
    squares = squared(load(x + at, -2, 2, left), own, load(x + at, 4, 2, right))
    store(y + at, own * power(k + scale * squares), inside)


@triton.jit
def _backward(x, g, dx, size, scale, k, COLUMN: tl.constexpr, BLOCK: tl.constexpr):
    """dx = g / base ** 0.75 - 1.5 * scale * x * (the sum of g * x / base ** 1.75 around it)."""
    at, inside, left, right = _vectors(size, COLUMN, BLOCK)
    own, slope = load(x + at, 0, 4, inside), load(g + at, 0, 4, inside)
    x0, x1, x2, x3 = parts(load(x + at, -4, 4, left))
    x4, x5, x6, x7 = parts(own)
    x8, x9, x10, x11 = parts(load(x + at, 4, 4, right))
    q2, q3, q4, q5, q6 = x2 * x2, x3 * x3, x4 * x4, x5 * x5, x6 * x6
    q7, q8, q9 = x7 * x7, x8 * x8, x9 * x9
    s2, s3, s4, s5 = sums(x0 * x0, x1 * x1, q2, q3, q4, q5, q6, q7)
    s6, s7, s8, s9 = sums(q4, q5, q6, q7, q8, q9, x10 * x10, x11 * x11)
    g2, g3 = tl.split(load(g + at, -2, 2, left))
    g4, g5, g6, g7 = parts(slope)
    g8, g9 = tl.split(load(g + at, 4, 2, right))
    t2, t3 = _share(g2 * x2, k + scale * s2), _share(g3 * x3, k + scale * s3)
    t4, t5 = _share(g4 * x4, k + scale * s4), _share(g5 * x5, k + scale * s5)
    t6, t7 = _share(g6 * x6, k + scale * s6), _share(g7 * x7, k + scale * s7)
    t8, t9 = _share(g8 * x8, k + scale * s8), _share(g9 * x9, k + scale * s9)
    a4, a5, a6, a7 = sums(t2, t3, t4, t5, t6, t7, t8, t9)
    direct = slope * power(k + scale * joined(s4, s5, s6, s7))
    store(dx + at, direct - 1.5 * scale * own * joined(a4, a5, a6, a7), inside)


@triton.jit
def _share(product, base):
    """product / base ** 1.75"""
    root = tl.rsqrt(base)
    return product * tl.sqrt(root) * (root * root * root)
