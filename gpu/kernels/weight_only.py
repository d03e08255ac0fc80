"""Fully connected layers for small batches with weights in 8 bits: y = x w^T + b, ReLU.

Up to some 64 photos the time is that of reading the weights, so half the bytes take half the time.
The codes are converted exactly to half precision for the matrix units; sums are float32, and each
output's scale multiplies its sum. There are too few outputs to keep a GPU busy, so several programs
share the inputs, and a second kernel adds their sums in a fixed order (they stay in the L2 cache).
Experimental: not yet measured on a GPU.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpu.kernels.tensors import FLOATS, FUSED, HALVES, check, wide

MAX_ROWS = 64
_OUTPUTS, _INPUTS = 64, 128  # per program, and per step of it
_PROGRAMS = 264  # two for each multiprocessor of an H100 or H200
_LARGEST = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}


class Quantised(NamedTuple):
    """Weights (outputs, inputs): `codes` in int8 or float8_e4m3fn, times `scale` (outputs,)."""

    codes: Tensor
    scale: Tensor


def quantise(weight: Tensor, dtype: torch.dtype = torch.int8) -> Quantised:
    """(outputs, inputs) in any float type; the largest weight of an output gets the largest code.

    float8_e4m3fn needs compute capability 8.9; int8 runs everywhere.
    """
    largest = _LARGEST[dtype]
    weight = weight.float()
    scale = weight.abs().amax(1) / largest
    scale = torch.where(scale == 0, 1.0, scale)
    codes = weight / scale[:, None]
    codes = codes.round() if dtype == torch.int8 else codes
    return Quantised(codes.clamp(-largest, largest).to(dtype), scale)


def weight_only(x: Tensor, weight: Quantised, bias: Tensor, *, relu: bool = False) -> Tensor:
    """x (N, inputs) float16 or bfloat16, N at most 64 -> (N, outputs) in its type."""
    check("codes", weight.codes, ("outputs", "inputs"), *_LARGEST)
    outputs, inputs = weight.codes.shape
    check("x", x, ("N", inputs), *HALVES)
    check("scale", weight.scale, (outputs,), torch.float32)
    check("bias", bias, (outputs,), *FLOATS)
    count = len(x)
    if count > MAX_ROWS or inputs % 16:
        raise ValueError(
            f"x may have {MAX_ROWS} rows and inputs a multiple of 16; it is {count} x {inputs}"
        )
    steps, tiles = triton.cdiv(inputs, _INPUTS), triton.cdiv(outputs, _OUTPUTS)
    steps_each = triton.cdiv(steps, max(1, _PROGRAMS // tiles))
    splits = triton.cdiv(steps, steps_each)
    part = torch.empty((splits, count, outputs), dtype=torch.float32, device=x.device)
    y = torch.empty((count, outputs), dtype=x.dtype, device=x.device)
    rows = max(16, triton.next_power_of_2(count))
    _part[(tiles, splits)](
        x, weight.codes, part, count, outputs, inputs, steps_each,
        ROWS=rows, OUTPUTS=_OUTPUTS, INPUTS=_INPUTS, num_warps=4, num_stages=4, **FUSED,
    )  # fmt: skip
    _finish[(triton.cdiv(outputs, 256), count)](
        part, weight.scale, bias, y, count, outputs,
        SPLITS=splits, RELU=relu, BLOCK=256, num_warps=4, **FUSED,
    )  # fmt: skip
    return y


def weight_only_ref(x: Tensor, weight: Quantised, bias: Tensor, *, relu: bool = False) -> Tensor:
    """The reference of `weight_only` in torch."""
    exact = wide(x)
    y = exact @ (weight.codes.to(exact) * weight.scale.to(exact)[:, None]).T + bias.to(exact)
    return (y.relu() if relu else y).to(x.dtype)


@triton.jit
def _part(
    x, codes, part, count, outputs, inputs, steps,
    ROWS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    split = tl.program_id(1)
    row = tl.arange(0, ROWS)[:, None]
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    total = tl.zeros((ROWS, OUTPUTS), tl.float32)
    for step in range(steps):
        column = ((split * steps + step) * INPUTS + tl.arange(0, INPUTS))[None, :]
        a = tl.load(x + row * inputs + column, (row < count) & (column < inputs), other=0.0)
        there = (output[:, None] < outputs) & (column < inputs)
        b = tl.load(codes + output[:, None] * inputs + column, there, other=0.0)
        if (codes.dtype.element_ty == tl.int8) & (x.dtype.element_ty == tl.float16):
            # The conversion instruction is as slow as the memory. Instead: code + 128 in the last
            # bits of the float16 1024 is the code + 1152.
            b = ((b.to(tl.int16) + 128) | 0x6400).to(tl.float16, bitcast=True) - 1152.0
        total = tl.dot(a, tl.trans(b.to(a.dtype)), total)
    at = part + (split * count + row) * outputs + output[None, :]
    tl.store(at, total, (row < count) & (output[None, :] < outputs))


@triton.jit
def _finish(
    part, scale, bias, y, count, outputs,
    SPLITS: tl.constexpr, RELU: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(1)
    output = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = output < outputs
    total = tl.zeros((BLOCK,), tl.float32)
    for split in tl.static_range(SPLITS):
        total += tl.load(part + (split * count + row) * outputs + output, there, other=0.0)
    total = total * tl.load(scale + output, there, other=0.0)
    total += tl.load(bias + output, there, other=0.0).to(tl.float32)
    if RELU:
        total = tl.maximum(total, 0.0)
    tl.store(y + row * outputs + output, total.to(y.dtype.element_ty), there)
