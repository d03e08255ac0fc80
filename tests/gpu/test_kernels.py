"""The tests of tests/kernels.py on a real GPU, and tests that need one."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="make test-gpu has it")

from benchmarks.gpu.rank import rank
from gpu.kernels.norm import Norm, normalise, normalise_backward, normalise_ref
from gpu.kernels.pixels import in_blocks
from gpu.kernels.response import response
from gpu.kernels.weight_only import Quantised, quantise, weight_only
from tests.kernels import *  # noqa: F403 - each of them is a test
from tests.kernels import VIEW, assert_equal, pixels, random
from training.layers import CrossMapNorm

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use"),
]
HALVES = [torch.float16, torch.bfloat16]
CODES = [torch.int8, torch.float8_e4m3fn]


@pytest.fixture
def device() -> str:
    return "cuda"


@pytest.fixture(params=[torch.float32, *HALVES], ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    kind: torch.dtype = request.param
    return kind


@pytest.fixture(params=HALVES, ids=str)
def half(request: pytest.FixtureRequest) -> torch.dtype:
    kind: torch.dtype = request.param
    return kind


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("codes", CODES, ids=str)
@pytest.mark.parametrize("count", [1, 8, 64])
@pytest.mark.parametrize(("outputs", "inputs"), [(4096, 9216), (4096, 4096), (1000, 4096)])
def test_the_layers_of_alexnet(
    outputs: int, inputs: int, count: int, codes: torch.dtype, half: torch.dtype
) -> None:
    x, bias = random("cuda", count, inputs).to(half), random("cuda", outputs, seed=2)
    weight = quantise(random("cuda", outputs, inputs, scale=0.02, seed=3), codes)
    expected = x.double() @ (weight.codes.double() * weight.scale.double()[:, None]).T + bias
    assert_equal(weight_only(x, weight, bias), expected)


@pytest.mark.parametrize(
    ("run", "x"),
    [
        (lambda x: in_blocks(x, VIEW), pixels("cpu", 2, 64, 64, 3)),
        (lambda x: response(x, x[0, 0, 0].clone(), Norm()), random("cpu", 2, 13, 13, 96)),
        (lambda x: normalise_backward(x, x, Norm()), random("cpu", 2, 13, 13, 96)),
        (lambda x: rank(x, 5)[0], random("cpu", 2, 1000)),
        (lambda x: weight_only(x, Quantised(x.char(), x[:, 0].float()), x[:, 0].clone()),
         random("cpu", 64, 64, scale=9).half()),
    ],
    ids=["pixels", "response", "norm", "rank", "layer"],
)  # fmt: skip
def test_a_captured_kernel_can_be_replayed_on_other_numbers(
    run: Callable[[Tensor], Tensor], x: Tensor
) -> None:
    x = x.cuda()
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        run(x)  # compiles before the capture
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=stream):
        got = run(x)
    x.copy_(x.flip(0))
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(got, run(x))


def test_more_than_2_31_numbers() -> None:
    x = torch.zeros(2**31 // (64 * 64 * 64) + 1, 64, 64, 64, dtype=torch.float16, device="cuda")
    x[-1] = random("cuda", 64, 64, 64, scale=100)
    bias, last = torch.zeros(64, device="cuda"), x[-1:].clone()
    assert torch.equal(normalise(x, Norm())[-1:], normalise(last, Norm()))
    assert_equal(normalise(last, Norm()), normalise_ref(last.double(), Norm()))
    assert torch.equal(response(x, bias, Norm())[-1:], response(last, bias, Norm()))
    assert torch.equal(response(x, bias)[-1:], response(last, bias))


def test_the_fused_norm_equals_torchs_under_autocast() -> None:
    plain, fused = (CrossMapNorm(96, columns=2).cuda() for _ in range(2))
    fused.fused = True
    x = random("cuda", 4, 96, 55, 55, scale=100).contiguous(memory_format=torch.channels_last)
    results = []
    for norm in (plain, fused):
        inputs = x.clone().requires_grad_()
        with torch.autocast("cuda", torch.bfloat16):
            y = norm(inputs * 2)
        y.square().sum().backward()
        assert inputs.grad is not None
        assert y.dtype == torch.float32
        results.append((y.detach(), inputs.grad))
    assert_equal(results[1][0], results[0][0], 1e-5)
    assert_equal(results[1][1], results[0][1], 1e-4)
