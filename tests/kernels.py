"""Our kernels against their references: interpreted in tests/gpu_build, on a GPU in tests/gpu.

Both import these tests, and say on which `device` and with which types they run. References are
computed in float64 from the numbers that the kernel was given.
"""

import re
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from alexnet.postprocess import softmax, top_k
from benchmarks.gpu.rank import rank, rank_ref
from gpu.kernels.norm import Norm, normalise, normalise_backward, normalise_ref
from gpu.kernels.pixels import View, in_blocks, in_blocks_ref, in_blocks_weight
from gpu.kernels.response import response, response_ref
from gpu.kernels.tensors import moved
from gpu.kernels.weight_only import Quantised, quantise, weight_only, weight_only_ref
from training.fused import cross_map_norm
from training.layers import CrossMapNorm

ROUNDING = {torch.float32: 3e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
VIEW = View((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own convolutions on a GPU would round float32 to 10 bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """New tensors hold NaN, or -1: a number that a kernel forgets to write shows."""
    for name in ("empty", "empty_like"):
        monkeypatch.setattr(torch, name, _poison(getattr(torch, name)))


def _poison(empty: Any) -> Any:
    def wrapped(*arguments: Any, **options: Any) -> Tensor:
        made: Tensor = empty(*arguments, **options)
        return made.fill_(float("nan") if made.is_floating_point() else -1)

    return wrapped


def random(device: str, *shape: int, scale: float = 1.0, seed: int = 1) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)


def pixels(device: str, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8).to(device)


def assert_equal(got: Tensor, expected: Tensor, rounding: float | None = None) -> None:
    rounding = rounding or ROUNDING[got.dtype]
    smallest = rounding * expected.abs().mean().item()
    torch.testing.assert_close(got.double(), expected.double(), rtol=rounding, atol=smallest)


@pytest.mark.parametrize("padding", [(2, 2), (0, 3), (0, 0)])
@pytest.mark.parametrize(("count", "high", "broad"), [(1, 63, 63), (3, 21, 70), (1, 12, 275)])
def test_pixels_become_blocks(
    device: str, dtype: torch.dtype, count: int, high: int, broad: int, padding: tuple[int, int]
) -> None:
    images, view = pixels(device, count, high, broad, 3), VIEW._replace(padding=padding)
    got, expected = in_blocks(images, view, dtype), in_blocks_ref(images, view, torch.float64)
    assert got.shape == expected.shape
    assert got.dtype == dtype
    assert_equal(got, expected)


@pytest.mark.parametrize("padding", [(2, 2), (0, 3)])
def test_a_3_by_3_convolution_over_blocks_is_conv1(device: str, padding: tuple[int, int]) -> None:
    images, weight = pixels(device, 2, 39, 56, 3), random(device, 6, 3, 11, 11).double()
    view = VIEW._replace(padding=padding)
    before, behind = padding
    planes = ((images.double() - torch.tensor(VIEW.mean, device=device)) /
              torch.tensor(VIEW.std, device=device)).permute(0, 3, 1, 2)  # fmt: skip
    expected = F.conv2d(F.pad(planes, (before, behind) * 2), weight, stride=4)
    blocks = in_blocks(images, view, torch.float32).permute(0, 3, 1, 2)
    got = F.conv2d(blocks.double(), in_blocks_weight(weight))
    assert_equal(got, expected, 1e-6)


@pytest.mark.parametrize(
    ("norm", "relu_first", "many"),
    [
        (None, True, False), (Norm(), True, True), (None, True, True), (Norm(), False, False),
        (Norm(1e-3, 1.0, columns=2), True, False), (Norm(1e-3, 1.0, columns=2), False, True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(1, 13, 13, 24), (3, 10, 15, 8)])
def test_a_response_is_bias_relu_norm_and_pool(
    device: str, dtype: torch.dtype, shape: tuple[int, ...], norm: Norm | None, relu_first: bool,
    many: bool, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if many:
        monkeypatch.setattr("gpu.kernels.response._THREADS", 0)
    x, bias = random(device, *shape, scale=100).to(dtype), random(device, shape[3], seed=2)
    got = response(x, bias, norm, relu_first=relu_first)
    expected = response_ref(x.double(), bias.double(), norm, relu_first=relu_first)
    assert got.shape == expected.shape
    assert got.dtype == dtype
    assert_equal(got, expected)


def test_squares_that_half_precision_cannot_hold_are_summed(device: str) -> None:
    x = torch.full((1, 5, 5, 8), 3e4, dtype=torch.float16, device=device)
    got = response(x, torch.zeros(8, device=device), Norm())
    assert_equal(got, response_ref(x.double(), torch.zeros(8, device=device).double(), Norm()))
    assert_equal(normalise(x, Norm()), normalise_ref(x.double(), Norm()))


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1, 1, 12), (3, 5, 7, 24)])
def test_a_norm_and_its_gradient_are_those_of_float64(
    device: str, dtype: torch.dtype, shape: tuple[int, ...], columns: int
) -> None:
    norm = Norm(1e-3, columns=columns)
    x, upstream = random(device, *shape, scale=50).to(dtype), random(device, *shape, seed=2)
    exact = x.double().requires_grad_()
    expected = normalise_ref(exact, norm)
    assert_equal(normalise(x, norm), expected.detach())
    assert_equal(normalise(x, norm, torch.float32), expected.detach(), 3e-6)
    expected.backward(upstream.double())
    assert exact.grad is not None
    got = normalise_backward(x, upstream, norm)
    assert got.dtype == dtype
    assert_equal(got, exact.grad, max(ROUNDING[dtype], 1e-5))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_fused_norm_of_training_is_the_norm_of_training(
    device: str, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    x = random(device, 2, 16, 5, 6, scale=100).to(dtype).contiguous(memory_format=layout)
    upstream = random(device, 2, 16, 5, 6, seed=2)
    ours, theirs = (x.clone(memory_format=layout).requires_grad_() for _ in range(2))
    got = cross_map_norm(ours, 1e-4, 2.0, 2)
    expected = CrossMapNorm(16, columns=2).to(device)(theirs)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    got.backward(upstream)
    expected.backward(upstream)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert_equal(ours.grad, theirs.grad, max(ROUNDING[dtype], 1e-5))


@pytest.mark.parametrize(
    ("count", "classes", "k"), [(1, 1, 1), (3, 5, 5), (2, 1000, 5), (1, 33, 1)]
)
def test_classes_are_ranked(
    device: str, dtype: torch.dtype, count: int, classes: int, k: int
) -> None:
    logits = random(device, count, classes, scale=3).to(dtype)
    probability, index = rank(logits, k)
    expected, order = rank_ref(logits.double(), k)
    assert index.tolist() == order.tolist()
    assert_equal(probability, expected, 1e-5)
    rows = logits.float().cpu().numpy()
    ranked = [[r.index for r in top_k(softmax(row), k)] for row in rows.astype(np.float64)]
    assert index.tolist() == ranked


def test_among_equal_logits_the_first_classes_win(device: str) -> None:
    probability, index = rank(torch.full((2, 10), -700.0, device=device), 4)
    assert index.tolist() == [[0, 1, 2, 3]] * 2
    assert_equal(probability, torch.full((2, 4), 0.1, dtype=torch.float64, device=device), 1e-6)


@pytest.mark.parametrize("codes", [torch.int8, torch.float8_e4m3fn])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(
    ("count", "outputs", "inputs"), [(1, 72, 400), (3, 40, 144), (17, 10, 16), (64, 64, 256)]
)
def test_a_layer_reads_weights_of_8_bits(
    device: str, half: torch.dtype, count: int, outputs: int, inputs: int, relu: bool,
    codes: torch.dtype,
) -> None:  # fmt: skip
    x, bias = random(device, count, inputs).to(half), random(device, outputs, seed=2)
    weight = quantise(random(device, outputs, inputs, scale=0.02, seed=3), codes)
    got = weight_only(x, weight, bias, relu=relu)
    expected = weight_only_ref(x.double(), weight, bias.double(), relu=relu)
    assert got.dtype == half
    assert_equal(got, expected)


@pytest.mark.parametrize(("codes", "error"), [(torch.int8, 0.5), (torch.float8_e4m3fn, 16.0)])
def test_a_quantised_weight_is_off_by_half_a_step_at_most(
    device: str, codes: torch.dtype, error: float
) -> None:
    weight = random(device, 5, 64, scale=0.02)
    weight[1], weight[2] = 0, weight[2] * 1e6
    quantised = quantise(weight, codes)
    off = quantised.codes.double() * quantised.scale.double()[:, None] - weight.double()
    assert (off.abs() <= quantised.scale[:, None] * error * 1.0001).all()
    assert not off[1].any()
    assert quantised.codes.float().abs().amax(1).tolist() == [
        0.0 if i == 1 else torch.tensor(127.0 if codes == torch.int8 else 448.0) for i in range(5)
    ]


def test_a_kernel_moves_each_of_its_tensors_once() -> None:
    x = torch.zeros(2, 13, 13, 24, dtype=torch.float16)
    assert moved(x, torch.zeros(24)) == 2 * 13 * 13 * 24 * 2 + 24 * 4


def _like(*shape: int, dtype: torch.dtype = torch.float16) -> Tensor:
    return torch.zeros(shape, dtype=dtype)


WEIGHT = Quantised(_like(8, 32, dtype=torch.int8), _like(8, dtype=torch.float32))
REFUSED = {
    "images must be a contiguous (N, H, W, 3) of torch.uint8; it is (1, 3, 64, 64) of": lambda: (
        in_blocks(_like(1, 3, 64, 64, dtype=torch.uint8), VIEW)
    ),
    "conv1 needs 7 px on a side; the images have 5": lambda: in_blocks(
        _like(1, 64, 5, 3, dtype=torch.uint8), VIEW
    ),
    "blocks must be a contiguous (N, BH, BW, 48)": lambda: in_blocks(
        _like(1, 64, 64, 3, dtype=torch.uint8), VIEW, torch.int8
    ),
    "x must be a contiguous (N, H, W, C) of torch.float16 or torch.bfloat16 or torch.float32; "
    "it is not contiguous, (1, 8, 8, 16)": lambda: response(
        _like(1, 16, 8, 8).permute(0, 2, 3, 1), _like(16)
    ),
    "bias must be a contiguous (16)": lambda: response(_like(1, 8, 8, 16), _like(12)),
    "pooling needs 3 x 3 pixels; x has 2 x 9": lambda: response(_like(1, 2, 9, 8), _like(8)),
    "a column must be a multiple of 4; x has 18 channels in 1": lambda: response(
        _like(1, 8, 8, 18), _like(18)
    ),
    "x has 24 channels in 5 columns": lambda: normalise(_like(1, 8, 8, 24), Norm(columns=5)),
    "gradient must be a contiguous (1, 8, 8, 24)": lambda: normalise_backward(
        _like(1, 8, 8, 24), _like(1, 24, 8, 8), Norm()
    ),
    "k must lie between 1 and the 10 classes; it is 11": lambda: rank(_like(2, 10), 11),
    "x must be a contiguous (N, 32) of torch.float16 or torch.bfloat16": lambda: weight_only(
        _like(1, 32, dtype=torch.float32), WEIGHT, _like(8)
    ),
    "x may have 64 rows and inputs a multiple of 16; it is 65 x 32": lambda: weight_only(
        _like(65, 32), WEIGHT, _like(8)
    ),
    "scale must be a contiguous (8) of torch.float32": lambda: weight_only(
        _like(1, 32), WEIGHT._replace(scale=_like(8)), _like(8)
    ),
    "codes must be a contiguous (outputs, inputs) of torch.int8": lambda: weight_only(
        _like(1, 32), WEIGHT._replace(codes=_like(8, 32)), _like(8)
    ),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_does_not_fit_is_refused_in_a_sentence(sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        REFUSED[sentence]()
