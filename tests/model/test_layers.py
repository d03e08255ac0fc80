import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.layers import CrossMapNorm, SpatialNorm, UnscaledDropout


def activations(*shape: int, scale: float = 200.0) -> Tensor:
    """So large that the squares in the norms far exceed the constant k."""
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(1))


def expected_norm(x: Tensor, columns: int, k: float = 2.0) -> Tensor:
    """torch's own norm, for each column separately."""
    count, maps, height, width = x.shape
    apart = x.reshape(count * columns, maps // columns, height, width)
    return F.local_response_norm(apart, 5, alpha=1e-4, beta=0.75, k=k).reshape(x.shape)


@pytest.mark.parametrize("k", [1.0, 2.0])
@pytest.mark.parametrize("columns", [1, 2])
def test_a_cross_map_norm_is_the_local_response_norm_of_each_column(columns: int, k: float) -> None:
    ours, theirs = (activations(3, 16, 5, 6).requires_grad_() for _ in range(2))
    result = CrossMapNorm(16, columns, k=k)(ours)
    expected = expected_norm(theirs, columns, k)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
    upstream = activations(3, 16, 5, 6, scale=1.0)
    result.backward(upstream)
    expected.backward(upstream)
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)


def test_columns_do_not_normalise_each_others_maps() -> None:
    x = activations(1, 8, 2, 2)
    other = x.clone()
    other[:, 4:] *= 3
    one, two = CrossMapNorm(8), CrossMapNorm(8, columns=2)
    assert torch.equal(two(x)[:, :4], two(other)[:, :4])
    assert not torch.equal(one(x)[:, :4], one(other)[:, :4])


def test_five_maps_of_300_are_divided_as_the_formula_says() -> None:
    x = torch.full((1, 9, 1, 1), 300.0)
    y = CrossMapNorm(9)(x).flatten()
    assert y[4].item() == pytest.approx(300 / (2 + 1e-4 / 5 * 5 * 90_000) ** 0.75, rel=1e-5)
    assert y[0].item() == pytest.approx(300 / (2 + 1e-4 / 5 * 3 * 90_000) ** 0.75, rel=1e-5)


def test_a_spatial_norm_sums_the_squares_of_a_window_in_the_same_map() -> None:
    x = activations(2, 3, 4, 7)
    expected = torch.empty_like(x)
    for row in range(4):
        for column in range(7):
            window = x[:, :, max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
            base = 1 + 1e-3 / 25 * (window**2).sum((2, 3))
            expected[:, :, row, column] = x[:, :, row, column] / base**0.75
    torch.testing.assert_close(SpatialNorm()(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", [CrossMapNorm(8, columns=2), SpatialNorm()])
def test_norms_are_exact_to_float32_under_autocast(norm: nn.Module) -> None:
    x = activations(2, 8, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        y, rounded = norm(x), norm(x.bfloat16())
    assert y.dtype == rounded.dtype == torch.float32
    assert torch.equal(y, norm(x))
    assert torch.equal(rounded, norm(x.bfloat16().float()))


@pytest.mark.parametrize("norm", [CrossMapNorm(8), SpatialNorm()])
def test_the_squares_of_300_do_not_overflow_half_precision(norm: nn.Module) -> None:
    x = torch.full((1, 8, 6, 6), 300.0)
    assert torch.equal(norm(x.half()), norm(x))
    assert (norm(x) > 10).all()


@pytest.mark.parametrize("p", [0.5, 0.3])
def test_dropout_scales_nothing_in_training_and_everything_at_test(p: float) -> None:
    torch.manual_seed(0)
    dropout, x = UnscaledDropout(p), 1 + torch.rand(100, 400)
    y = dropout(x)
    assert torch.equal(y[y != 0], x[y != 0])
    assert (y == 0).float().mean().item() == pytest.approx(p, abs=0.01)
    assert not torch.equal(y, dropout(x))
    torch.testing.assert_close(dropout.eval()(x), (1 - p) * x)


def test_no_dropout_changes_nothing() -> None:
    dropout, x = UnscaledDropout(0.0), activations(4, 6)
    assert torch.equal(dropout(x), x)
    assert torch.equal(dropout.eval()(x), x)


def test_the_masks_of_two_columns_are_the_halves_of_the_whole_layers() -> None:
    x = torch.ones(5, 20)
    torch.manual_seed(3)
    whole = UnscaledDropout()(x)
    halves = []
    for column in range(2):
        dropout = UnscaledDropout()
        dropout.column, dropout.columns = column, 2
        torch.manual_seed(3)
        halves.append(dropout(x[:, 10 * column : 10 * column + 10]))
    assert torch.equal(torch.cat(halves, 1), whole)
