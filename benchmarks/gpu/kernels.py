"""Our kernels: their bandwidth relative to a copy, and their time relative to torch."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.gpu.candidates import FP16, Unsupported
from benchmarks.gpu.machine import time_runs
from benchmarks.gpu.workload import Workload
from training.layers import CrossMapNorm

BATCH, INPUT_SETS = 256, 4


class Case(NamedTuple):
    """One computation in three implementations; `reference` need not be fast."""

    read: tuple[Tensor, ...]
    ours: Callable[[], Any]
    torch: Callable[[], Any]
    reference: Callable[[], Any]


def pixels(device: torch.device, batch: int) -> Case:
    from gpu.kernels.pixels import View, in_blocks, in_blocks_ref

    side = _small(224, device)
    images = torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8, device=device)
    given = (images, View((128.0,) * 3, (64.0,) * 3, (2, 2)), FP16)
    plain = partial(in_blocks_ref, *given)
    return Case((images,), partial(in_blocks, *given), plain, plain)


def response(device: torch.device, batch: int, side: int, channels: int, columns: int) -> Case:
    """The kernel behind a convolution; without columns there is no norm."""
    from gpu.kernels.norm import Norm
    from gpu.kernels.response import response, response_ref

    side = _small(side, device)
    x = torch.randn(batch, side, side, channels, device=device).to(FP16)
    bias = torch.randn(channels, device=device).to(FP16)
    between = CrossMapNorm(channels, columns).to(device) if columns else nn.Identity()

    def plain() -> Tensor:
        return F.max_pool2d(between(F.relu(x + bias).movedim(3, 1)), 3, 2)

    given = (x, bias, Norm(columns=columns) if columns else None)
    return Case((x, bias), partial(response, *given), plain, partial(response_ref, *given))


def rank(device: torch.device, batch: int) -> Case:
    from benchmarks.gpu.rank import rank, rank_ref

    x = torch.randn(batch, 1000, device=device)
    plain = lambda: x.softmax(1).topk(5)  # noqa: E731
    return Case((x,), partial(rank, x, 5), plain, partial(rank_ref, x, 5))


def weight_only(device: torch.device, _: int, rows: int, dtype: torch.dtype) -> Case:
    """fc6 for `rows` photos."""
    from gpu.kernels.weight_only import quantise, weight_only, weight_only_ref

    outputs, inputs = (_small(n, device) for n in (4096, 9216))
    weight = torch.randn(outputs, inputs, device=device)
    x, bias = (torch.randn(s, device=device).to(FP16) for s in ((rows, inputs), (outputs,)))
    given = (x, quantise(weight, dtype), bias)
    plain = partial(F.linear, x, weight.to(FP16), bias)
    read = (x, *given[1], bias)
    return Case(read, partial(weight_only, *given), plain, partial(weight_only_ref, *given))


KERNELS: dict[str, Callable[[torch.device, int], Case]] = {
    "pixels": pixels,
    "response, conv1": partial(response, side=55, channels=64, columns=0),
    "response, conv2": partial(response, side=27, channels=192, columns=0),
    "response with norm, conv1 of 2012": partial(response, side=55, channels=96, columns=2),
    "response with norm, conv2 of 2012": partial(response, side=27, channels=256, columns=2),
    "rank": rank,
    **{
        f"weight_only, fc6, {name}, {rows} rows": partial(weight_only, rows=rows, dtype=dtype)
        for name, dtype in (("int8", torch.int8), ("fp8", torch.float8_e4m3fn))
        for rows in (1, 16)
    },
}


def measure_kernel(work: Workload, name: str) -> dict[str, Any]:
    if not work.cuda and not os.environ.get("TRITON_INTERPRET"):
        raise Unsupported("kernels need a GPU (or TRITON_INTERPRET=1)")
    torch.manual_seed(0)
    with torch.no_grad():
        cases = [KERNELS[name](work.device, BATCH if work.cuda else 1) for _ in range(INPUT_SETS)]
        got, expected = (_tensors(run()) for run in (cases[0].ours, cases[0].reference))
        pairs = [(a.double(), b.double()) for a, b in zip(got, expected, strict=True)]
        error = max(((a - b).norm() / b.norm()).item() for a, b in pairs)
        seconds = work.settings.seconds / 4
        ours = time_runs([case.ours for case in cases], work.device, seconds)
        plain = time_runs([case.torch for case in cases], work.device, seconds)
    if not error <= 0.01:
        raise ValueError(f"wrong: its error is {error:.2g}")
    moved = sum(t.nbytes for t in (*cases[0].read, *got))
    return ours | {
        "gb_per_s": moved / ours["us"] / 1e3, "torch_us": plain["us"], "error": error,
    }  # fmt: skip


def _small(size: int, device: torch.device) -> int:
    """A smaller size on a CPU, since Triton's interpreter is slow."""
    return size if device.type == "cuda" else min(size, 16)


def _tensors(result: Any) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else tuple(result)
